package boltspool

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestProbeFails: what fails while a full spool looks for room is as final as at
// any other time.
func TestProbeFails(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys})
	e := storeOne(t, s, noise(100))
	fsys.SetFree(1)
	s.setShort(shortBytes, true)
	fsys.ArmKind("allocate", syscall.EIO) // of the segment, which the next look does
	fsys.SetFree(0)
	for deadline := time.Now().Add(10 * time.Second); errors.Is(s.Health(), spool.ErrFull); {
		expectHint(t, s, "Health is to change")
		if time.Now().After(deadline) {
			t.Fatal("the spool does not look for room")
		}
	}
	if err := s.Health(); !errors.Is(err, spool.ErrFailed) {
		t.Fatalf("Health after a failed look: %v, want ErrFailed (fired: %q)", err, fsys.Fired())
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs == nil || !errors.Is(errs[0], spool.ErrFailed) {
		t.Errorf("Apply after a failed look: %v, want ErrFailed", errs)
	}
}

// TestProbeTooMany: that no file can be opened while a full spool looks for room
// says nothing about the disk. It looks again.
func TestProbeTooMany(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys})
	fsys.SetFree(1)
	s.setShort(shortBytes, true)
	fsys.ArmKind("create", syscall.EMFILE) // of the first segment, which the next look makes
	fsys.SetFree(0)
	awaitHealth(t, s, nil)
	if fsys.Fired() == "" {
		t.Error("the spool has looked for room and opened no file")
	}
	storeOne(t, s, noise(100))
}

// A slowDirFS lets the syncs of one directory wait.
type slowDirFS struct {
	vfs.FS
	dir     atomic.Pointer[string]
	entered chan struct{}
	release chan struct{}
	once    sync.Once
}

func (f *slowDirFS) SyncDir(name string) error {
	if dir := f.dir.Load(); dir != nil && name == *dir {
		f.once.Do(func() {
			close(f.entered)
			<-f.release
		})
	}
	return f.FS.SyncDir(name)
}

// TestSharedDirectory: a body in a directory that another Writer is just making
// is not durable before the directory is.
func TestSharedDirectory(t *testing.T) {
	slow := &slowDirFS{FS: vfs.OS{}, entered: make(chan struct{}), release: make(chan struct{})}
	s := newTest(t, &Options{fs: slow})
	slow.dir.Store(&s.bigDir)
	parent := filepath.Join(s.bigDir, "zz")
	made := make(chan error, 2)
	go func() { made <- s.makeBigDir(parent) }()
	<-slow.entered
	go func() { made <- s.makeBigDir(parent) }()
	select {
	case err := <-made:
		t.Errorf("the directory counts as durable before it was synced: %v", err)
		made <- nil
	case <-time.After(50 * time.Millisecond):
	}
	close(slow.release)
	for range 2 {
		if err := <-made; err != nil {
			t.Error(err)
		}
	}
}
