package boltspool

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A badDisk is a file system some of whose sectors cannot be read.
type badDisk struct {
	vfs.FS
	mu  sync.Mutex
	bad map[string]int64 // a byte of each file
}

func (d *badDisk) spoil(name string, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad[name] = off
}

func (d *badDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return badFile{f, d, name}, nil
}

type badFile struct {
	vfs.File
	d    *badDisk
	name string
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	bad, ok := f.d.bad[f.name]
	f.d.mu.Unlock()
	if ok && off <= bad && bad < off+int64(len(p)) {
		n, _ := f.File.ReadAt(p[:bad&^4095-min(off, bad&^4095)], off)
		return n, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EIO}
	}
	return f.File.ReadAt(p, off)
}

// TestBackupBadSector: what cannot be read is damage, in the copy too, and keeps
// nothing else from being copied.
func TestBackupBadSector(t *testing.T) {
	disk := &badDisk{FS: vfs.OS{}, bad: map[string]int64{}}
	s := newTest(t, &Options{segmentSize: 64 << 10, Logger: quiet, fs: disk})
	whole, spoiled := map[spool.ID]int{}, []*spool.Entry{}
	for _, n := range []int{30_000, maxSegmentBody + 1} {
		spoiled = append(spoiled, storeOne(t, s, noise(n)))
		whole[storeOne(t, s, noise(n)).Body] = n
	}
	for _, e := range spoiled {
		name, off, _, err := bodyFile(s, e.Body)
		if err != nil {
			t.Fatal(err)
		}
		disk.spoil(name, off+12_000)
	}
	dir := filepath.Join(fastDir(t), "copy")
	if err := s.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c := openTest(t, dir, &Options{Logger: quiet})
	defer c.Close()
	for e, err := range c.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := readBody(t, c, e.Body)
		if n, ok := whole[e.Body]; ok && (err != nil || !bytes.Equal(got, noise(n))) {
			t.Errorf("a body that can be read: %d bytes, error %v, want %d", len(got), err, n)
		} else if !ok && err == nil {
			t.Error("a body that cannot be read is whole in the copy")
		}
	}
}

// TestOpenBadSector: a sector that cannot be read, where nothing stands yet, does not
// keep a spool from being opened.
func TestOpenBadSector(t *testing.T) {
	disk := &badDisk{FS: vfs.OS{}, bad: map[string]int64{}}
	opts := &Options{Logger: quiet, fs: disk}
	s := openTest(t, fastDir(t), opts)
	e := storeOne(t, s, noise(100))
	s.Close()
	disk.spoil(segmentFile(s.dir, 1), 100_000)
	s = openTest(t, s.dir, opts)
	defer s.Close()
	if b, err := readBody(t, s, e.Body); err != nil || len(b) != 100 {
		t.Errorf("%d bytes, error %v", len(b), err)
	}
}
