package queue_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestRecordHeadersOnBoltspool: the embedded spool gives up its staged bodies once they
// are stored, and the record of the reception has the header all the same, of small
// bodies and of big ones.
func TestRecordHeadersOnBoltspool(t *testing.T) {
	sp, err := boltspool.Open(filepath.Join(t.TempDir(), "spool"), &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	records := make(chan queue.Record, 10)
	sched, err := queue.NewScheduler(sp, func(context.Context, *queue.Message) error { return nil }, &queue.Options{
		RecordHeaders: []string{"Subject"}, Logger: slog.New(slog.DiscardHandler),
		Record: func(_ context.Context, r queue.Record) error {
			records <- r
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- sched.Run(ctx) }()
	for _, size := range []int{10, 3 << 20} {
		env := spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}}}
		if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hello\r\n\r\n"+strings.Repeat("x", size))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			select {
			case r := <-records:
				if r.Headers["Subject"] != "hello" {
					t.Errorf("%s of %d bytes has the header %v", r.Type, r.Size, r.Headers)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("no record")
			}
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
