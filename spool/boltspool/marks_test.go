package boltspool

import (
	"errors"
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

// TestMarksCountOnce lets a process die between counting the marks and beginning
// anew: they are not counted a second time.
func TestMarksCountOnce(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	e, other := storeOne(t, s, noise(10)), storeOne(t, s, noise(10))
	s.Started(e.ID, other.ID, spool.NewID())
	s.Started(e.ID)
	s.Ended(other.ID)
	name := filepath.Join(dir, "running")
	abandon(s)
	marks, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		s = openTest(t, dir, nil)
		for id, want := range map[spool.ID]int{e.ID: 1, other.ID: 0} {
			got, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
			if err != nil || len(got) != 1 || got[0].Interrupted != want {
				t.Fatalf("round %d: got %v and error %v, want the entry with Interrupted %d", round, got, err, want)
			}
		}
		abandon(s)
		if err := os.WriteFile(name, marks, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMarksReuse checks that the file does not grow with the number of handlers
// that ran, only with how many ran at a time.
func TestMarksReuse(t *testing.T) {
	s := newTest(t, nil)
	for range 100 {
		a, b := spool.NewID(), spool.NewID()
		s.Started(a, b)
		s.Ended(b, a, b)
	}
	if size, err := s.marks.f.Size(); err != nil || size != int64(4*markSize) {
		t.Errorf("the file has %d bytes (error %v), want %d", size, err, 4*markSize)
	}
}

// TestSyncedKept: what was durable is known to be damaged, and not taken for torn,
// however the processes end, if the checkpoint does not say it.
func TestSyncedKept(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *Spool) *Spool{
		"killed": func(t *testing.T, s *Spool) *Spool {
			abandon(s)
			return s
		},
		"closed after a failure": func(t *testing.T, s *Spool) *Spool {
			s.fail(syscall.EIO)
			s.Close()
			return s
		},
		"opened and killed": func(t *testing.T, s *Spool) *Spool {
			abandon(s)
			s = openTest(t, s.dir, &Options{manual: true, fs: noCheckpoints{vfstest.NewFault(vfs.OS{})}})
			abandon(s)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTest(t, &Options{manual: true})
			storeOne(t, s, noise(100))
			e := storeOne(t, s, noise(5000))
			file, off, _, err := bodyFile(s, e.Body)
			if err != nil {
				t.Fatal(err)
			}
			s = end(t, s)
			flip(t, file, off+100)
			if err := os.WriteFile(filepath.Join(s.dir, markDamaged), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, s.dir, nil)
			var corrupt *spool.CorruptError
			if _, err := readBody(t, s, e.Body); !errors.As(err, &corrupt) {
				t.Errorf("the body of the last group: %v, want a *CorruptError", err)
			}
		})
	}
}

// noCheckpoints is a file system on which index.db finds no space.
type noCheckpoints struct{ *vfstest.Fault }

func (f noCheckpoints) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.Fault.OpenFile(name, flag, perm)
	if err == nil && filepath.Base(name) == checkpoint.Name {
		file = fullFile{file}
	}
	return file, err
}

type fullFile struct{ vfs.File }

func (fullFile) Allocate(int64) error { return syscall.ENOSPC }

// TestMarksUnreadable: who cannot read the marks does without.
func TestMarksUnreadable(t *testing.T) {
	s := newTest(t, nil)
	e := storeOne(t, s, noise(100))
	s.Started(e.ID)
	abandon(s)
	if err := os.Truncate(s.marksName(), maxMarks+1); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, s.dir, nil)
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
	if err != nil || len(got) != 1 || got[0].Interrupted != 0 {
		t.Errorf("claimed %v, error %v, want the entry with Interrupted 0", got, err)
	}
}
