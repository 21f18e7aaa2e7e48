package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// TestLatencyOnBoltspool measures with the clock of the machine, and so only
// loosely: nothing waits for a tick. isolation_test.go is exact.
func TestLatencyOnBoltspool(t *testing.T) {
	const n, pause, bound = 20, time.Second, 100 * time.Millisecond
	var mu sync.Mutex
	stored := map[spool.ID]time.Time{}
	failed := map[spool.ID]time.Time{}
	var accepted, due []time.Duration
	h := startBolt(t, t.TempDir(), func(_ context.Context, m *queue.Message) error {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		if at, again := failed[m.ID]; again {
			due = append(due, now.Sub(at)-pause)
			return queue.Drop("done")
		}
		accepted = append(accepted, now.Sub(stored[m.ID]))
		failed[m.ID] = time.Now()
		return queue.RetryAfter(pause, errors.New("later"))
	})
	h.awaitRun()
	for i := range n {
		tx, err := h.sched.Begin(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Abort()
		fmt.Fprintf(tx, "Subject: %d\r\n\r\n%s", i, strings.Repeat("x", 100))
		e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
		if err := tx.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		stored[e.ID] = time.Now()
		mu.Unlock()
		tx.HandOver()
	}
	h.await(queue.AdminBounce, n)
	mu.Lock()
	slices.Sort(accepted)
	slices.Sort(due)
	if d := accepted[n/2]; d > bound {
		t.Errorf("half of what was accepted waited for more than %v; all: %v", d, accepted)
	}
	if d := due[n/2]; d > bound || due[0] < 0 {
		t.Errorf("half of what fell due waited for more than %v, or something was run early; all: %v", d, due)
	}
	mu.Unlock()
	if err := h.close(); err != nil {
		t.Error(err)
	}
}
