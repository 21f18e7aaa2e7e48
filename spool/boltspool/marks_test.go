package boltspool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestMarksCountOnce lets a process die between counting the marks and beginning
// anew: they are not counted a second time.
func TestMarksCountOnce(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	e, other := storeOne(t, s, noise(10)), storeOne(t, s, noise(10))
	s.Started(e.ID, other.ID, spool.NewID())
	s.Started(e.ID)
	s.Ended(other.ID)
	name := filepath.Join(dir, "running")
	abandon(s)
	marks, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		s = openTest(t, dir, nil)
		for id, want := range map[spool.ID]int{e.ID: 1, other.ID: 0} {
			got, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
			if err != nil || len(got) != 1 || got[0].Interrupted != want {
				t.Fatalf("round %d: got %v and error %v, want the entry with Interrupted %d", round, got, err, want)
			}
		}
		abandon(s)
		if err := os.WriteFile(name, marks, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMarksReuse checks that the file does not grow with the number of handlers
// that ran, only with how many ran at a time.
func TestMarksReuse(t *testing.T) {
	s := newTest(t, nil)
	for range 100 {
		a, b := spool.NewID(), spool.NewID()
		s.Started(a, b)
		s.Ended(b, a, b)
	}
	if size, err := s.marks.f.Size(); err != nil || size != int64(4*markSize) {
		t.Errorf("the file has %d bytes (error %v), want %d", size, err, 4*markSize)
	}
}
