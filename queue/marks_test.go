package queue

import (
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestMarks: the handler of the next queue begins before the one that has put
// the message there is done with. Its mark must stand until it has ended too.
func TestMarks(t *testing.T) {
	for _, tt := range []struct {
		name         string
		begun, ended int
		interrupted  int
	}{
		{"one runs", 1, 0, 1},
		{"one has ended", 1, 1, 0},
		{"the next has begun", 2, 0, 1},
		{"the first has ended", 2, 1, 1},
		{"both have ended", 2, 2, 0},
	} {
		sp := spool.NewMemory()
		w, err := sp.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: Deferred, Class: "-", Due: time.Now()}
		if err := w.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		m := newMarks(sp)
		for range tt.begun {
			m.started(e.ID)
		}
		for range tt.ended {
			m.ended(e.ID)
		}
		got, _, err := sp.Crash().Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
		if err != nil || len(got) != 1 || got[0].Interrupted != tt.interrupted {
			t.Errorf("%s: got %+v and error %v, want one entry with Interrupted %d", tt.name, got, err, tt.interrupted)
		}
		if left := len(m.mu.running); tt.begun == tt.ended && left != 0 {
			t.Errorf("%s: %d entries are left in memory", tt.name, left)
		}
	}
}
