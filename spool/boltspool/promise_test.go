package boltspool

import (
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestProbeFails: a sync that fails while a full spool looks for room is as
// final as any other.
func TestProbeFails(t *testing.T) {
	fsys := newFaultFS()
	s := newTest(t, &Options{fs: fsys})
	e := storeOne(t, s, noise(100))
	fsys.setFree(1)
	s.setShort(shortBytes, true)
	s.indexFile.size = 0 // the next look allocates, and syncs that
	fsys.armKind("sync", syscall.EIO)
	fsys.setFree(0)
	for deadline := time.Now().Add(10 * time.Second); errors.Is(s.Health(), spool.ErrFull); {
		expectHint(t, s, "Health is to change")
		if time.Now().After(deadline) {
			t.Fatal("the spool does not look for room")
		}
	}
	if err := s.Health(); !errors.Is(err, spool.ErrFailed) {
		t.Fatalf("Health after a failed sync: %v, want ErrFailed (fired: %q)", err, fsys.fired())
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs == nil || !errors.Is(errs[0], spool.ErrFailed) {
		t.Errorf("Apply after a failed sync: %v, want ErrFailed", errs)
	}
}

// A slowDirFS lets the syncs of one directory wait.
type slowDirFS struct {
	vfs
	dir     string
	entered chan struct{}
	release chan struct{}
	once    sync.Once
}

func (f *slowDirFS) SyncDir(name string) error {
	if name == f.dir {
		f.once.Do(func() {
			close(f.entered)
			<-f.release
		})
	}
	return f.vfs.SyncDir(name)
}

// TestSharedDirectory: a body in a directory that another Writer is just making
// is not durable before the directory is.
func TestSharedDirectory(t *testing.T) {
	s := newTest(t, nil)
	slow := &slowDirFS{vfs: s.fs, dir: s.bigDir, entered: make(chan struct{}), release: make(chan struct{})}
	s.fs = slow
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
