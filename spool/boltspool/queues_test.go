package boltspool

import (
	"errors"
	"fmt"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestQueuesMany: each of very many queues is listed once, also those that come and
// go meanwhile or not at all, and who has seen enough may stop.
func TestQueuesMany(t *testing.T) {
	s := newTest(t, &Options{manual: true})
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	const n = 3000
	entries := make([]*spool.Entry, n)
	for i := range entries {
		entries[i] = testEntry(w.ID())
		entries[i].Queue = fmt.Sprint("q", i)
	}
	if err := w.Commit(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for info, err := range s.Queues(t.Context()) {
		if err != nil || info.Entries != 1 {
			t.Fatalf("%+v, error %v", info, err)
		}
		if seen[info.Queue]++; len(seen) == 1 {
			removeAll(t, s, entries[n-100:])
			storeOne(t, s, noise(10)) // in a queue of its own
		}
	}
	for _, e := range entries[:n-100] {
		if seen[e.Queue] != 1 {
			t.Fatalf("queue %s was listed %d times", e.Queue, seen[e.Queue])
		}
	}
	for range s.Queues(t.Context()) {
		break
	}
	s.Close()
	for _, err := range s.Queues(t.Context()) {
		if !errors.Is(err, spool.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}
