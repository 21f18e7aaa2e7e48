package seglog

import (
	"errors"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestRenew: a long segment of which hardly anything is needed is closed, if another
// has room, and what was written before and after is there.
func TestRenew(t *testing.T) {
	const keep = 64 << 10
	for _, tt := range []struct {
		name    string
		groups  int   // of 1000 bytes
		live    int64 // of the segment
		full    bool  // nothing can be allocated at first
		renewed bool
		err     error
	}{
		{name: "short", groups: 10},
		{name: "needed", groups: 200, live: 150_000},
		{name: "hardly needed", groups: 200, live: 1000, renewed: true},
		{name: "not needed", groups: 200, renewed: true},
		{name: "hardly needed, full disk", groups: 200, live: 1000, full: true, err: vfs.ErrNoSpace},
		{name: "not needed, full disk", groups: 200, full: true, renewed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fsys := vfstest.NewFault(newFS(1))
			r := newTester(t, fsys)
			r.size = 16 << 20
			r.open()
			for range tt.groups {
				r.append(written{payload: make([]byte, 1000)})
			}
			r.l.AddLive(At(1, segmentHeader), tt.live-int64(tt.groups)) // each group counts 1
			if tt.full {
				fsys.ArmKind("allocate", syscall.ENOSPC)
			}
			renewed, err := r.l.Renew(keep)
			if renewed != tt.renewed || !errors.Is(err, tt.err) {
				t.Fatalf("renewed: %v, error %v; want %v, %v", renewed, err, tt.renewed, tt.err)
			}
			if place, _ := r.l.End(); (place.Segment() == 2) != tt.renewed {
				t.Errorf("the log goes on at %v", place)
			}
			fsys.Arm(0, nil)
			for range 20 { // for which there is room, whatever becomes of the disk
				r.append(written{payload: make([]byte, 1000)})
			}
			for _, op := range fsys.Ops() {
				if op[:8] == "allocate" || op[:6] == "create" {
					t.Errorf("the next groups took %q", op)
				}
			}
			r.open()
			r.read()
		})
	}
}

// TestRenewDivideTwice: what Renew divides does not become too little.
func TestRenewDivideTwice(t *testing.T) {
	fsys := vfstest.NewFault(newFS(1))
	r := newTester(t, fsys)
	r.size = 16 << 20
	r.open()
	for range 10 {
		r.append(written{payload: make([]byte, 10_000)})
	}
	r.l.AddLive(At(1, segmentHeader), -10)
	r.l.capacity = r.l.off + minDivided - 8<<10
	fsys.ArmKind("allocate", syscall.ENOSPC)
	if renewed, err := r.l.Renew(10_000); renewed || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("renewed: %v, error %v, want ErrNoSpace", renewed, err)
	}
}
