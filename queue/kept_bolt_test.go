package queue_test

import (
	"context"
	"errors"
	"fmt"
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

// A boltHost is a scheduler on an embedded spool.
type boltHost struct {
	t       *testing.T
	sp      *boltspool.Spool
	sched   *queue.Scheduler
	records chan queue.Record
	stop    context.CancelFunc
	done    chan error
}

func startBolt(t *testing.T, dir string, inject queue.Handler) *boltHost {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	sp, err := boltspool.Open(dir, &boltspool.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	h := &boltHost{t: t, sp: sp, records: make(chan queue.Record, 1000), done: make(chan error, 1)}
	h.sched, err = queue.NewScheduler(sp, inject, &queue.Options{Logger: logger, StopTimeout: 4 * time.Second,
		Record:    func(_ context.Context, r queue.Record) error { h.records <- r; return nil },
		Configure: func(string) queue.Config { return queue.Config{Backoff: queue.Backoff{Base: time.Millisecond}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.done <- h.sched.Run(ctx) }()
	return h
}

// awaitRun waits until the scheduler runs: what is recorded earlier waits.
func (h *boltHost) awaitRun() {
	h.t.Helper()
	h.sched.RecordRejection(queue.Record{})
	h.await(queue.Rejection, 1)
}

// close stops the host and returns what Run did.
func (h *boltHost) close() error {
	h.stop()
	err := <-h.done
	if closeErr := h.sp.Close(); closeErr != nil {
		h.t.Errorf("Close: %v", closeErr)
	}
	return err
}

// keep has a body of that size accepted for these recipients.
func (h *boltHost) keep(size int, rcpts ...string) {
	h.t.Helper()
	tx, err := h.sched.Begin(h.t.Context(), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer tx.Abort()
	if _, err := io.WriteString(tx, "Subject: test\r\n\r\n"+strings.Repeat("x", size)); err != nil {
		h.t.Fatal(err)
	}
	var entries []*spool.Entry
	for _, rcpt := range rcpts {
		entries = append(entries, &spool.Entry{ID: spool.NewID(), Envelope: toOne(rcpt)})
	}
	if err := tx.Keep(h.t.Context(), entries...); err != nil {
		h.t.Fatal(err)
	}
	tx.HandOver()
}

// await waits for n records of that type.
func (h *boltHost) await(typ queue.RecordType, n int) {
	h.t.Helper()
	timeout := time.After(20 * time.Second)
	for n > 0 {
		select {
		case r := <-h.records:
			if r.Type == typ {
				n--
			}
		case <-timeout:
			h.t.Fatalf("%d records of type %s are missing", n, typ)
		}
	}
}

// content checks what a handler reads: the body as it was accepted.
func content(m *queue.Message) error {
	b, err := m.Open()
	if err != nil {
		return err
	}
	all, err := io.ReadAll(b)
	if err == nil && (int64(len(all)) != m.Size || strings.Trim(string(all), "x") != "Subject: test\r\n\r\n") {
		err = queue.Reject(550, "content of %d bytes, want %d", len(all), m.Size)
	}
	return err
}

// The embedded spool keeps bodies, in memory and in files, as the one in memory does.
func TestKeepOnBoltspool(t *testing.T) {
	t.Parallel() // it waits for a stop
	sizes := []int{0, 4 << 10, 100 << 10, 1<<20 - 100, 1 << 20, 3 << 20}
	const kept = 4 // of them, those of up to 1 MiB with their headers
	t.Run("end of the road", func(t *testing.T) {
		h := startBolt(t, filepath.Join(t.TempDir(), "spool"), func(_ context.Context, m *queue.Message) error { return content(m) })
		h.awaitRun()
		for _, size := range sizes {
			h.keep(size, "a@example.com", "b@example.com")
		}
		h.await(queue.Delivery, 2*len(sizes))
		if st := h.sched.Stats(); st.Kept != 0 || st.KeptBytes != 0 {
			t.Errorf("Stats: %d messages kept, want none", st.Kept)
		}
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("a failure stores the body", func(t *testing.T) {
		h := startBolt(t, filepath.Join(t.TempDir(), "spool"), func(_ context.Context, m *queue.Message) error {
			if m.Attempt < 3 && m.Envelope.Recipients[0].Address == "bad@example.com" {
				return errors.New("down")
			}
			return content(m)
		})
		h.awaitRun()
		for _, size := range sizes {
			h.keep(size, "good@example.com", "bad@example.com")
		}
		h.await(queue.Delivery, 2*len(sizes))
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("a stop stores the body", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		h := startBolt(t, dir, func(ctx context.Context, _ *queue.Message) error { <-ctx.Done(); return nil })
		h.awaitRun()
		for i, size := range sizes {
			h.keep(size, fmt.Sprintf("a%d@example.com", i))
		}
		h.await(queue.Reception, len(sizes))
		if st := h.sched.Stats(); st.Kept != kept {
			t.Errorf("%d messages are kept, want %d", st.Kept, kept)
		}
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
		h = startBolt(t, dir, func(_ context.Context, m *queue.Message) error { return content(m) })
		h.await(queue.Delivery, len(sizes))
		if err := h.close(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
