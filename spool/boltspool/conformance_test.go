package boltspool

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

// TestConformance runs the suite with segments that are full all the time, so
// that they are used again, emptied and checkpointed between and during the
// calls.
func TestConformance(t *testing.T) {
	spooltest.Run(t, harness(&Options{segmentSize: 64 << 10}, "datasync", 0))
}

// TestConformanceStaged runs it with every body in a file of its own.
func TestConformanceStaged(t *testing.T) {
	spooltest.Run(t, harness(&Options{StageMemory: -1, SegmentSize: 2 << 20}, "datasynced", 200))
}

// harness opens spools with opts, whose next operation of the kind failing is
// made to fail.
func harness(opts *Options, failing string, rounds int) spooltest.Harness {
	reopen := func(t *testing.T, s spool.Spool) spool.Spool { return openTest(t, s.(*Spool).dir, opts) }
	return spooltest.Harness{
		Open:   func(t *testing.T) spool.Spool { return newTest(t, opts) },
		Reopen: reopen,
		Crash: func(t *testing.T, s spool.Spool) spool.Spool {
			abandon(s.(*Spool))
			return reopen(t, s)
		},
		Fail: func(t *testing.T, s spool.Spool) {
			s.(*Spool).fs.(*vfstest.Fault).ArmKind(failing, syscall.EIO)
		},
		Damage: func(t *testing.T, s spool.Spool, id spool.ID, part string) {
			damageFile(t, s.(*Spool).dir, id, part)
		},
		Space:  func(t *testing.T, s spool.Spool) int64 { return space(t, s.(*Spool)) },
		Sizes:  stageSizes[:],
		Rounds: rounds,
	}
}

// space lets the keeper do what it has to, and returns how many bytes the files
// of a spool have.
func space(t *testing.T, s *Spool) (bytes int64) {
	t.Helper()
	if !s.keeper.run(func() { s.keeper.work() }) {
		t.Fatal("the spool is closed")
	}
	err := filepath.WalkDir(s.dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// openTest opens a spool whose operations can be made to fail, and checks its
// index when the test ends.
func openTest(t testing.TB, dir string, opts *Options) *Spool {
	t.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = vfstest.NewFault(vfs.OS{})
	}
	s, err := Open(dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newTest is openTest for a new spool, whose index is checked when the test has
// ended.
func newTest(t testing.TB, opts *Options) *Spool {
	t.Helper()
	dir := fastDir(t)
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(dir, markDamaged)); err == nil {
			return
		}
		s, err := Open(dir, &Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("opening the spool when the test has ended: %v", err)
			return
		}
		defer s.Close()
		if err := checkIndex(s); err != nil {
			t.Errorf("the index is inconsistent: %v", err)
		}
	})
	return openTest(t, dir, opts)
}

// damageFile flips a bit of what is stored of an entry or a body.
func damageFile(t *testing.T, dir string, id spool.ID, part string) {
	t.Helper()
	s := openTest(t, dir, nil)
	name, off, err := entryFile(s, id)
	if part == "body" {
		name, off, _, err = bodyFile(s, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flip(t, name, off+7)
	if err := os.WriteFile(filepath.Join(dir, markDamaged), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// markDamaged is a file in a directory that a test has damaged.
const markDamaged = "damaged-by-test"
