package boltspool

import (
	"context"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestOldestMovesOn: in a queue that is never empty the oldest message is not
// the oldest ever.
func TestOldestMovesOn(t *testing.T) {
	s := newTest(t, nil)
	now := time.Now()
	var last *spool.Entry
	for age := 10; age >= 0; age-- {
		e := storeAt(t, s, now.Add(-time.Duration(age)*time.Hour))
		if last != nil {
			if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: last}}); errs != nil {
				t.Fatal(errs)
			}
		}
		last = e
		for info, err := range s.Queues(context.Background()) {
			if err != nil || !info.Oldest.Equal(e.Received.Truncate(time.Second)) {
				t.Errorf("Oldest is %v (error %v), want %v of the only entry", info.Oldest, err, e.Received)
			}
		}
	}
}

func storeAt(t *testing.T, s *Spool, received time.Time) *spool.Entry {
	t.Helper()
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := testEntry(w.ID())
	e.Received = received
	if err := w.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}
