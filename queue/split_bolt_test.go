package queue_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// On disk, too, what was received and what replaced it stand side by side,
// whichever of them keeps the ID, and both are there after a restart.
func TestSplitOnDisk(t *testing.T) {
	for name, other := range map[string]error{"success keeps the ID": nil, "a hold keeps the ID": queue.Hold("look")} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			logger := slog.New(slog.NewTextHandler(t.Output(), nil))
			sp, err := boltspool.Open(dir, &boltspool.Options{Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			settled := make(chan struct{}, 1)
			inject := func(_ context.Context, m *queue.Message) error {
				if err := m.SetContent(strings.NewReader("Subject: new\r\n\r\nnew\r\n")); err != nil {
					return err
				}
				m.SetDue(time.Now().Add(time.Hour))
				return queue.Split([]error{nil, other, queue.Reject(550, "no")})
			}
			sched, err := queue.NewScheduler(sp, inject, &queue.Options{Logger: logger, StopTimeout: 50 * time.Millisecond, Record: func(_ context.Context, r queue.Record) error {
				if r.Type != queue.Bounce {
					return nil
				}
				select {
				case settled <- struct{}{}:
				default:
				}
				return errors.New("not taken: it stays final")
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := sched.Handle("*", inject); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- sched.Run(ctx) }()
			id := submitTogether(t, sched)
			<-settled
			stop()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if err := sp.Close(); err != nil {
				t.Fatal(err)
			}
			if sp, err = boltspool.Open(dir, &boltspool.Options{Logger: logger}); err != nil {
				t.Fatal(err)
			}
			defer sp.Close()
			checkSplitOnDisk(t, sp, id, other)
		})
	}
}

// submitTogether stores one message for three recipients.
func submitTogether(t *testing.T, sched *queue.Scheduler) spool.ID {
	tx, err := sched.Begin(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Abort()
	if _, err := io.WriteString(tx, "Subject: old\r\n\r\nold\r\n"); err != nil {
		t.Fatal(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Envelope: toOne("a@example.com")}
	e.Envelope.Recipients = append(e.Envelope.Recipients, spool.Recipient{Address: "b@example.com"}, spool.Recipient{Address: "c@example.com"})
	if err := tx.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	tx.HandOver()
	return e.ID
}

func checkSplitOnDisk(t *testing.T, sp spool.Spool, id spool.ID, other error) {
	rcpts := 0
	for e, err := range sp.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, err := sp.Open(t.Context(), e.Body)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(b)
		b.Close()
		want := "Subject: old\r\n\r\nold\r\n"
		if e.Queue != queue.Deferred {
			want = "Subject: new\r\n\r\nnew\r\n"
		}
		if err != nil || string(content) != want || e.Size != int64(len(want)) {
			t.Errorf("%v in %s: %q of %d bytes, %v; want %q", e.Envelope.Recipients, e.Queue, content, e.Size, err, want)
		}
		if keeps := e.State == spool.Held || other == nil && e.Queue != queue.Deferred; keeps != (e.ID == id) {
			t.Errorf("%s, which is %s in %s, has the ID of the message: %v", e.Envelope.Recipients, e.State, e.Queue, e.ID == id)
		}
		rcpts += len(e.Envelope.Recipients)
	}
	if rcpts != 3 {
		t.Errorf("%d recipients are left, want 3", rcpts)
	}
}
