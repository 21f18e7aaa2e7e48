package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	return startBoltWithin(t, dir, 0, inject)
}

// startBoltWithin is startBolt with a quota.
func startBoltWithin(t *testing.T, dir string, quota int64, inject queue.Handler) *boltHost {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	sp, err := boltspool.Open(dir, &boltspool.Options{Logger: logger, Quota: quota})
	if err != nil {
		t.Fatal(err)
	}
	h := &boltHost{t: t, sp: sp, records: make(chan queue.Record, 10_000), done: make(chan error, 1)}
	h.sched, err = queue.NewScheduler(sp, inject, &queue.Options{Logger: logger, StopTimeout: 4 * time.Second,
		Record: func(_ context.Context, r queue.Record) error {
			if r.Type != queue.Reception || len(h.records) < cap(h.records)/2 {
				h.records <- r
			}
			return nil
		},
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

// keep has a body of that size accepted for these recipients. It may be called
// by several goroutines.
func (h *boltHost) keep(size int, rcpts ...string) {
	h.t.Helper()
	if err := h.tryKeep(size, rcpts); err != nil {
		h.t.Error(err)
	}
}

func (h *boltHost) tryKeep(size int, rcpts []string) error {
	tx, err := h.sched.Begin(h.t.Context(), 0)
	if err != nil {
		return err
	}
	defer tx.Abort()
	if _, err := io.WriteString(tx, "Subject: test\r\n\r\n"+strings.Repeat("x", size)); err != nil {
		return err
	}
	var entries []*spool.Entry
	for _, rcpt := range rcpts {
		entries = append(entries, &spool.Entry{ID: spool.NewID(), Envelope: toOne(rcpt)})
	}
	if err := tx.Keep(h.t.Context(), entries...); err != nil {
		return err
	}
	tx.HandOver()
	return nil
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
	t.Run("many sessions", func(t *testing.T) {
		const sessions, each = 8, 40
		var calls atomic.Int64
		h := startBolt(t, filepath.Join(t.TempDir(), "spool"), func(_ context.Context, m *queue.Message) error {
			if calls.Add(1)%5 == 0 {
				return errors.New("down")
			}
			return content(m)
		})
		h.awaitRun()
		var wg sync.WaitGroup
		for range sessions {
			wg.Go(func() {
				for i := range each {
					h.keep(i*1000, slices.Repeat([]string{"a@example.com"}, 1+i%3)...)
				}
			})
		}
		wg.Wait()
		h.await(queue.Delivery, sessions*79) // of 1, 2, 3, 1 ... 1 messages
		if st := h.sched.Stats(); st.Kept != 0 || st.KeptBytes != 0 {
			t.Errorf("Stats: %d messages kept, want none", st.Kept)
		}
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

// What was accepted before the quota was used up is stored at a stop.
func TestKeepBeyondQuota(t *testing.T) {
	t.Parallel()
	const quota, size = 100_000, 20_000
	dir := filepath.Join(t.TempDir(), "spool")
	h := startBoltWithin(t, dir, quota, func(ctx context.Context, _ *queue.Message) error { <-ctx.Done(); return nil })
	h.awaitRun()
	const kept = 3
	for range kept {
		h.keep(size, "a@example.com")
	}
	if st := h.sched.Stats(); st.Kept != kept {
		t.Fatalf("%d messages are kept, want %d", st.Kept, kept)
	}
	stored := 0
	for {
		_, err := h.sched.Submit(t.Context(), toOne("b@example.com"), nil, strings.NewReader("Subject: test\r\n\r\n"+strings.Repeat("x", size)))
		if errors.Is(err, spool.ErrQuota) {
			break
		}
		if err != nil || stored > quota/size {
			t.Fatalf("after %d messages: %v, want ErrQuota", stored, err)
		}
		stored++
	}
	if err := h.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
	h = startBoltWithin(t, dir, quota, func(_ context.Context, m *queue.Message) error { return content(m) })
	h.await(queue.Delivery, kept+stored)
	if err := h.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A stop in the midst of many sessions loses nothing that was accepted.
func TestKeepAndStopOnBoltspool(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	var calls atomic.Int64
	h := startBolt(t, dir, func(ctx context.Context, m *queue.Message) error {
		switch n := calls.Add(1); {
		case n%50 == 0:
			<-ctx.Done()
		case n%5 == 0:
			return errors.New("down")
		}
		return content(m)
	})
	h.awaitRun()
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { // until the spool is closed
			for h.tryKeep(2000, []string{"a@example.com", "b@example.com"}) == nil {
				accepted.Add(2)
			}
		})
	}
	h.await(queue.Delivery, 200)
	if err := h.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
	wg.Wait()
	ended := 200
	for len(h.records) > 0 {
		if r := <-h.records; r.Type == queue.Delivery {
			ended++
		}
	}
	h = startBolt(t, dir, func(_ context.Context, m *queue.Message) error { return content(m) })
	h.await(queue.Delivery, int(accepted.Load())-ended)
	if st := h.sched.Stats(); st.Scheduled != 0 || st.Ready != 0 || st.Err != nil {
		t.Errorf("Stats: %d scheduled, %d ready: %v; want none", st.Scheduled, st.Ready, st.Err)
	}
	if err := h.close(); err != nil {
		t.Errorf("Run: %v", err)
	}
}
