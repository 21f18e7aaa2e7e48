package boltspool

import (
	"errors"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestCollectRefusedLast: what was refused is moved once there is space, also if
// nothing else was to be moved.
func TestCollectRefusedLast(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: flatFS{fsys}, segmentSize: 64 << 10, manual: true})
	kept := storeMany(t, s, 50_000, 1)[0] // in the first segment
	passing := storeMany(t, s, 50_000, 1) // in the second, as the record of the first from now on
	next := kept.Clone()
	next.Attempts++
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
		t.Fatal(errs)
	}
	storeMany(t, s, 50_000, 1)
	removeAll(t, s, passing)
	fsys.SetFree(1)
	awaitHealth(t, s, spool.ErrFull)
	var err error
	s.keeper.run(func() { err = errors.Join(s.keeper.checkpoint(), s.keeper.work()) })
	if !errors.Is(err, spool.ErrFull) {
		t.Fatalf("moving into the reserve: %v, want ErrFull", err)
	}
	fsys.SetFree(0)
	awaitHealth(t, s, nil)
	work(t, s)
	for _, u := range s.log.Usage() {
		if u.Segment == 2 {
			t.Errorf("the segment is still there: %+v", u)
		}
	}
}
