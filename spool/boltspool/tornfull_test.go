package boltspool

import (
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// TestTornThenFull: the room in the log that is left to updates and removes is there
// too after a torn end was cut off, even if the disk is full a moment later.
func TestTornThenFull(t *testing.T) {
	var full atomic.Bool
	fsys := &hookFS{FS: vfs.OS{}, hook: func(op, name string) error {
		if full.Load() && (op == "allocate" || op == "create") {
			return syscall.ENOSPC
		}
		return nil
	}}
	opts := &Options{Logger: quiet, fs: fsys}
	s := openTest(t, fastDir(t), opts)
	e := storeOne(t, s, noise(100_000))
	end, _ := s.log.End()
	abandon(s)
	f, err := os.OpenFile(segmentFile(s.dir, end.Segment()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	before, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("a group that was being written"), end.Offset()); err != nil {
		t.Fatal(err)
	}
	f.Close()

	s = openTest(t, s.dir, opts)
	defer s.Close()
	full.Store(true)
	if after, err := os.Stat(segmentFile(s.dir, end.Segment())); err != nil || after.Size() != before.Size() {
		t.Errorf("the segment has %d bytes, error %v, want the %d that it had", after.Size(), err, before.Size())
	}
	owned, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
	if err != nil || len(owned) != 1 {
		t.Fatal(owned, err)
	}
	next := owned[0].Clone()
	next.Attempts++
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
		t.Errorf("Update: %v", errs)
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: next}}); errs != nil {
		t.Errorf("Remove: %v", errs)
	}
}
