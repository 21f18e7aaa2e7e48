package boltspool

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestLastSegmentMissing: a spool opens without the segment in which its log went on,
// reports that, has what is elsewhere, and stores new mail.
func TestLastSegmentMissing(t *testing.T) {
	for name, end := range map[string]func(s *Spool) error{
		"closed": (*Spool).Close, "killed": func(s *Spool) error { abandon(s); return nil },
		"power cut": func(s *Spool) error { return errors.Join(s.Close(), os.Remove(s.marksName())) },
	} {
		for before := range 2 { // segments that stay
			t.Run(fmt.Sprint(name, ", ", before, " left"), func(t *testing.T) { lastSegmentMissing(t, before, end) })
		}
	}
}

func lastSegmentMissing(t *testing.T, before int, end func(s *Spool) error) {
	opts := &Options{segmentSize: 64 << 10, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	want := map[spool.ID]bool{}
	for range before {
		want[storeOne(t, s, noise(40_000)).ID] = true
	}
	lost := storeOne(t, s, noise(40_000))
	name, _, err := entryFile(s, lost.ID)
	if err := errors.Join(err, end(s), os.Remove(name)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := Verify(t.Context(), s.dir, opts); err != nil || len(got.Damaged) == 0 {
			t.Errorf("Verify: %v, %v, want damage", got, err)
		}
		s = openTest(t, s.dir, opts)
		defer s.Close()
		found, reported := 0, false
		for e, err := range s.Scan(t.Context(), spool.Query{}) {
			if reported = reported || err != nil; err == nil && want[e.ID] {
				found++
				if _, err := readBody(t, s, e.Body); err != nil {
					t.Error(err)
				}
			}
		}
		if found != len(want) || !reported {
			t.Errorf("found %d of %d entries, damage reported: %v", found, len(want), reported)
		}
		want[storeOne(t, s, noise(30_000)).ID] = true
		abandon(s)
	}
}
