package seglog

import (
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A limitedFS allocates no more than is left.
type limitedFS struct {
	vfs.FS
	left *atomic.Int64
}

type limitedFile struct {
	vfs.File
	left *atomic.Int64
}

func (f limitedFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return limitedFile{file, f.left}, err
}

func (f limitedFile) Allocate(size int64) error {
	is, err := f.Size()
	if err != nil || size <= is {
		return err
	}
	if f.left.Add(is-size) < 0 {
		f.left.Add(size - is)
		return syscall.ENOSPC
	}
	return f.File.Allocate(size)
}

// limited returns a log of segments of 16 MiB with one group, on a disk that has so much
// room from then on.
func limited(t *testing.T, left int64) (*tester, *atomic.Int64) {
	room := new(atomic.Int64)
	room.Store(1 << 30)
	r := newTester(t, limitedFS{newFS(1), room})
	r.size = 16 << 20
	r.open()
	r.append(written{payload: make([]byte, 1000)})
	room.Store(left)
	return r, room
}

// TestGiveBackOfSecured: what Secure has promised is there when spares are given back,
// whatever becomes of the disk.
func TestGiveBackOfSecured(t *testing.T) {
	const need, keep = 100 << 10, 1 << 20
	r, room := limited(t, 1<<30)
	if err := r.l.addSpare(r.size); err != nil {
		t.Fatal(err)
	}
	room.Store(0)
	for range 10 {
		if err := r.l.Secure(FrameSize(need), keep); err != nil {
			t.Fatal(err)
		}
		r.append(written{payload: make([]byte, need)})
	}
	r.l.GiveBack(64<<10, need+keep)
	for range 9 { // of a tenth of what was kept
		r.append(written{payload: make([]byte, 100<<10)})
	}
	r.open()
}

// TestSecureSmall: where there is no room for a whole segment, there may be for what is
// asked for.
func TestSecureSmall(t *testing.T) {
	const need, keep = 1 << 20, 1 << 20
	r, room := limited(t, 1<<30)
	for r.l.off+need+keep <= r.size {
		r.append(written{payload: make([]byte, 1<<20)})
	}
	room.Store(4 << 20)
	if err := r.l.Secure(need, keep); err != nil {
		t.Fatalf("with 4 MiB left: %v", err)
	}
	room.Store(0)
	for range 2 {
		r.append(written{payload: make([]byte, 1000_000)})
	}
}
