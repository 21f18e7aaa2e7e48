package boltspool

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A fullIndex is a file system that has no room for index.db.
type fullIndex struct{ vfs.FS }

func (f fullIndex) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	inner, err := f.FS.OpenFile(name, flag, perm)
	if err == nil && filepath.Base(name) == checkpoint.Name {
		inner = crampedFile{inner}
	}
	return inner, err
}

type crampedFile struct{ vfs.File }

func (crampedFile) Allocate(int64) error { return syscall.ENOSPC }

// TestBeginWithoutSpace: a spool that finds no space for a checkpoint when it is
// opened takes nothing away that the old one needs.
func TestBeginWithoutSpace(t *testing.T) {
	opts := &Options{segmentSize: 64 << 10, manual: true, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	kept := storeMany(t, s, 10_000, 1)
	ended := storeMany(t, s, 10_000, 1)
	work(t, s)
	passing := storeMany(t, s, 60_000, 1)
	removeAll(t, s, ended)
	removeAll(t, s, passing)
	passing = storeMany(t, s, 60_000, 1)
	kept = append(kept, storeMany(t, s, 60_000, 1)...)
	removeAll(t, s, passing)
	abandon(s)

	full := *opts
	full.fs = fullIndex{vfs.OS{}}
	s = openTest(t, s.dir, &full)
	abandon(s)

	s = openTest(t, s.dir, opts)
	defer s.Close()
	want := map[spool.ID]bool{}
	for _, e := range kept {
		want[e.ID] = true
	}
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		switch {
		case err != nil:
			t.Error(err)
		case !want[e.ID]:
			t.Errorf("entry %s was removed, and is there", e.ID)
		default:
			delete(want, e.ID)
		}
	}
	if len(want) > 0 {
		t.Errorf("entries are missing: %v", want)
	}
}
