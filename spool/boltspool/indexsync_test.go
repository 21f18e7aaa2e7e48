package boltspool

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A metaFS is a disk that has lost the meta pages of the index, in that the page cache
// has them and takes them for written. What is written there and synced is on the disk.
type metaFS struct {
	vfs.FS
	lost *bool
}

type metaFile struct {
	vfs.File
	lost  *bool
	again bool
}

func (f metaFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != checkpoint.Name {
		return file, err
	}
	return &metaFile{file, f.lost, false}, nil
}

func (f *metaFile) WriteAt(p []byte, off int64) (int, error) {
	f.again = f.again || off < 2*int64(os.Getpagesize())
	return f.File.WriteAt(p, off)
}

func (f *metaFile) Sync() error {
	*f.lost = *f.lost && !f.again
	return f.File.Sync()
}

// TestIndexSyncFailed: the sync of a checkpoint fails, and the next process, which sees it
// in the page cache, takes segments away that the one before it needs. When the power is
// cut then, everything is still there.
func TestIndexSyncFailed(t *testing.T) {
	fault, lost := vfstest.NewFault(vfs.OS{}), false
	opts := &Options{segmentSize: 64 << 10, Logger: quiet, fs: metaFS{fault, &lost}, manual: true}
	s := openTest(t, fastDir(t), opts)
	index := filepath.Join(s.dir, checkpoint.Name)
	ended, kept := storeOne(t, s, noise(50_000)), storeOne(t, s, noise(2000))
	storeOne(t, s, noise(50_000)) // in the next segment
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: ended}}); errs != nil {
		t.Fatal(errs)
	}
	metaPages := func() []byte {
		b, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		return b[:2*os.Getpagesize()]
	}
	before := metaPages()
	fault.ArmKind("committed", syscall.EIO)
	s.keeper.run(func() { s.keeper.work() })
	if s.failed() == nil || bytes.Equal(metaPages(), before) {
		t.Fatalf("failed: %q; the commit shows: %v", fault.Fired(), !bytes.Equal(metaPages(), before))
	}
	abandon(s)
	lost = true

	s = openTest(t, s.dir, opts)
	seen := metaPages()
	s.keeper.run(func() { s.keeper.work() })
	abandon(s)
	if _, err := os.Stat(segmentFile(s.dir, 1)); !os.IsNotExist(err) || !bytes.Equal(metaPages(), seen) {
		t.Fatalf("the first segment: %v; want it to be taken away before another checkpoint", err)
	}
	if lost {
		f, err := os.OpenFile(index, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(before, 0); err != nil {
			t.Fatal(err)
		}
	}

	s = openTest(t, s.dir, opts)
	defer s.Close()
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil || e.ID == ended.ID {
			t.Errorf("found %v, %v", e, err)
		}
	}
	if b, err := readBody(t, s, kept.Body); err != nil || len(b) != 2000 {
		t.Errorf("a message that was acknowledged: %d bytes, %v", len(b), err)
	}
}
