package boltspool

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A takenFS is a disk of which another program has taken all that is free: what is
// allocated is there, and nothing more is to be had.
type takenFS struct {
	vfs.FS
	taken *atomic.Bool
}

func (f takenFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return takenFile{file, f.taken}, err
}

type takenFile struct {
	vfs.File
	taken *atomic.Bool
}

func (f takenFile) Allocate(size int64) error {
	if f.taken.Load() {
		return syscall.ENOSPC
	}
	return f.File.Allocate(size)
}

// TestNoticeRoom: when there is no room for new mail any more, messages still end with
// their notices, whatever becomes of the disk; and when that room is used up, too,
// without.
func TestNoticeRoom(t *testing.T) {
	taken := &atomic.Bool{}
	s := newTest(t, &Options{fs: takenFS{vfs.OS{}, taken}})
	var entries []*spool.Entry
	for range 200 {
		entries = append(entries, storeOne(t, s, noise(100)))
	}
	taken.Store(true)
	for {
		e, err := tryOne(t.Context(), s, noise(10_000))
		if errors.Is(err, spool.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	end := func(e *spool.Entry) error {
		w, err := s.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := w.Write(noise(3000)); err != nil {
			t.Fatal(err)
		}
		unit := spool.Unit{{Op: spool.Remove, Entry: e}, {Op: spool.Insert, Entry: testEntry(w.ID()), Stage: w, Keep: true}}
		if errs := s.Apply(t.Context(), unit); errs != nil {
			return errs[0]
		}
		return nil
	}
	notices := 0
	for ; ; notices++ {
		err := end(entries[notices])
		if errors.Is(err, spool.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if notices < 100 {
		t.Errorf("%d messages ended with a notice, want at least 100", notices)
	}
	for _, e := range entries[notices:] {
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Fatalf("a message cannot end without one: %v", errs)
		}
	}
}
