package boltspool

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
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

// TestLostBeforeBegun: that is reported, too, when another segment was begun behind the
// one that is missing, and has no group.
func TestLostBeforeBegun(t *testing.T) {
	fault := vfstest.NewFault(vfs.OS{})
	opts := &Options{segmentSize: 64 << 10, Logger: quiet, fs: fault, manual: true}
	s := openTest(t, fastDir(t), opts)
	lost := storeOne(t, s, noise(40_000))
	name, _, err := entryFile(s, lost.ID)
	if err != nil {
		t.Fatal(err)
	}
	fault.ArmKind("datasync", syscall.EIO) // of the first group of the second segment
	if _, err := tryOne(t.Context(), s, noise(40_000)); err == nil {
		t.Fatal("the sync did not fail")
	}
	fault.Arm(0, nil)
	abandon(s)
	if err := errors.Join(os.Truncate(segmentFile(s.dir, 2), 32), os.Remove(name)); err != nil {
		t.Fatal(err)
	}
	var kept []*spool.Entry
	for range 3 {
		s = openTest(t, s.dir, opts)
		defer s.Close()
		found, damaged := 0, 0
		for _, err := range s.Scan(t.Context(), spool.Query{}) {
			if err != nil {
				damaged++
			} else {
				found++
			}
		}
		if damaged != 1 || found != len(kept) {
			t.Errorf("%d of %d entries, %d reports of damage, want one", found, len(kept), damaged)
		}
		kept = append(kept, storeOne(t, s, noise(100)))
		abandon(s)
	}
}
