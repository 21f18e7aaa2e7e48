package boltspool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A smallDisk has so many bytes, of which the files in one directory have their part. If
// left is not negative, other programs have taken all but so many, and take what becomes
// free.
type smallDisk struct {
	vfs.FS
	dir  string
	size int64
	left *atomic.Int64
}

type smallDiskFile struct {
	vfs.File
	disk smallDisk
}

func newSmallDisk(dir string, size int64) smallDisk {
	d := smallDisk{vfs.OS{}, dir, size, new(atomic.Int64)}
	d.left.Store(-1)
	return d
}

func (d smallDisk) free() int64 {
	if left := d.left.Load(); left >= 0 {
		return left
	}
	left := d.size
	_ = filepath.WalkDir(d.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if info, err := entry.Info(); err == nil {
				left -= info.Size()
			}
		}
		return nil
	})
	return max(left, 0)
}

func (d smallDisk) Free(string) (vfs.Room, error) {
	return vfs.Room{Bytes: d.free(), Inodes: 1 << 40}, nil
}

func (d smallDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	return smallDiskFile{f, d}, err
}

func (f smallDiskFile) Allocate(size int64) error {
	is, err := f.Size()
	if err != nil || size-is > f.disk.free() {
		return errors.Join(err, syscall.ENOSPC)
	}
	if left := f.disk.left.Load(); left >= 0 && size > is {
		f.disk.left.Store(left - (size - is))
	}
	return f.File.Allocate(size)
}

func fill(t *testing.T, s *Spool, size int) (entries []*spool.Entry) {
	t.Helper()
	for {
		e, err := tryOne(t.Context(), s, noise(size))
		if errors.Is(err, spool.ErrFull) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
}

func waitHealthy(t *testing.T, s *Spool, when string) {
	t.Helper()
	for start := time.Now(); s.Health() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("%s: %v; %d bytes are allocated ahead, %d are needed", when, s.Health(), s.Stats().SpareBytes, s.Stats().LiveBytes)
		}
	}
}

// TestEmptiesItself: while the disk is full, messages that are tried again use what is
// allocated ahead, a spare segment too, and can end.
func TestEmptiesItself(t *testing.T) {
	dir := fastDir(t)
	disk := newSmallDisk(filepath.Join(dir, "seg"), 1<<30)
	s := openTest(t, dir, &Options{fs: disk, SegmentSize: 4 << 20, Reserve: -1})
	defer s.Close()
	segment := func() uint32 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.mu.end.Place.Segment()
	}
	var old, waiting []*spool.Entry
	for segment() < 3 {
		old = append(old, storeOne(t, s, noise(40_000)))
	}
	for range 10 {
		waiting = append(waiting, storeOne(t, s, noise(40_000)))
	}
	disk.left.Store(2 << 20)
	for { // mail passes through
		e, err := tryOne(t.Context(), s, noise(40_000))
		if errors.Is(err, spool.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		removeAll(t, s, []*spool.Entry{e})
	}
	for start := time.Now(); segment() < 4; time.Sleep(5 * time.Millisecond) { // a short one is begun
		if time.Since(start) > 5*time.Second {
			t.Fatal("no segment was begun")
		}
	}
	disk.left.Store(0)
	removeAll(t, s, old)
	s.keeper.run(func() { s.keeper.work() })
	if s.Stats().SpareBytes == 0 {
		t.Fatal("there is no spare")
	}
	waitHealthy(t, s, "with spares")
	for try := range 1000 {
		e := waiting[try%len(waiting)].Clone()
		e.Attempts++
		e.LastError = strings.Repeat("x", 2000)
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: e, Keep: true}}); errs != nil {
			t.Fatalf("update %d: %v; %d bytes are allocated ahead", try, errs[0], s.Stats().SpareBytes)
		}
		waiting[try%len(waiting)] = e
	}
	removeAll(t, s, waiting)
}

// TestSparesOfSmallDisk: what is allocated ahead is not what keeps an empty spool full.
func TestSparesOfSmallDisk(t *testing.T) {
	for size := int64(4_750_000); size <= 8_500_000; size += 750_000 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			sparesOfSmallDisk(t, size)
		})
	}
}

func sparesOfSmallDisk(t *testing.T, size int64) {
	dir := fastDir(t)
	disk := newSmallDisk(filepath.Join(dir, "seg"), size)
	opts := &Options{fs: disk, SegmentSize: 2 << 20, Reserve: 2 << 20}
	s := openTest(t, dir, opts)
	for round := range 6 {
		entries := fill(t, s, 100_000)
		if len(entries) < 3 {
			t.Errorf("round %d: room for %d messages", round, len(entries))
		}
		removeAll(t, s, entries)
		if round%3 == 2 {
			s.Close()
			s = openTest(t, dir, opts)
		}
		waitHealthy(t, s, "empty")
	}
	s.Close()
}

// TestOpenFullDisk: a spool opens on a full disk that takes new blocks for what is written
// again.
func TestOpenFullDisk(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	kept := storeOne(t, s, noise(100))
	s.Close()
	s = openTest(t, s.dir, &Options{fs: cowFS{vfs.OS{}}, Logger: quiet})
	defer s.Close()
	if _, err := readBody(t, s, kept.Body); err != nil {
		t.Error(err)
	}
}

type cowFS struct{ vfs.FS }

type cowFile struct{ vfs.File }

func (f cowFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != checkpoint.Name {
		return file, err
	}
	return cowFile{file}, nil
}

func (cowFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

// TestRefusedStaysAway: a unit that was refused for want of space, when some of it had
// been written, is not there later, although all that was not written are zeros as they
// stand on the disk.
func TestRefusedStaysAway(t *testing.T) {
	for name, end := range map[string]func(*Spool){"closed": func(s *Spool) { s.Close() }, "killed": abandon} {
		t.Run(name, func(t *testing.T) {
			fsys := vfstest.NewFault(vfs.OS{})
			s := openTest(t, fastDir(t), &Options{fs: fsys, Logger: quiet})
			kept := storeOne(t, s, noise(100))
			fsys.ArmKind("write", syscall.ENOSPC) // of half of the group
			if _, err := tryOne(t.Context(), s, append(noise(1000), make([]byte, 100_000)...)); !errors.Is(err, spool.ErrFull) {
				t.Fatal(err)
			}
			end(s)
			s = openTest(t, s.dir, nil)
			defer s.Close()
			for e, err := range s.Scan(t.Context(), spool.Query{}) {
				if err != nil || e.ID != kept.ID {
					t.Errorf("found %v, %v", e, err)
				}
			}
		})
	}
}
