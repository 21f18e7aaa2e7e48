package boltspool

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

func TestConformance(t *testing.T) {
	spooltest.Run(t, spooltest.Harness{
		Open: func(t *testing.T) spool.Spool { return newTest(t, nil) },
		Reopen: func(t *testing.T, s spool.Spool) spool.Spool {
			return openTest(t, s.(*Spool).dir, nil)
		},
		Crash: func(t *testing.T, s spool.Spool) spool.Spool {
			abandon(s.(*Spool))
			return openTest(t, s.(*Spool).dir, nil)
		},
		Fail: func(t *testing.T, s spool.Spool) {
			s.(*Spool).fs.(*faultFS).armKind("commit", syscall.EIO)
		},
		Damage: func(t *testing.T, s spool.Spool, id spool.ID, part string) {
			damage(t, s.(*Spool).dir, id, part)
		},
	})
}

// TestConformanceStaged runs the suite with every body in a file of its own.
func TestConformanceStaged(t *testing.T) {
	spooltest.Run(t, spooltest.Harness{
		Open: func(t *testing.T) spool.Spool {
			return newTest(t, &Options{StageMemory: -1})
		},
		Reopen: func(t *testing.T, s spool.Spool) spool.Spool {
			return openTest(t, s.(*Spool).dir, &Options{StageMemory: -1})
		},
		Crash: func(t *testing.T, s spool.Spool) spool.Spool {
			abandon(s.(*Spool))
			return openTest(t, s.(*Spool).dir, &Options{StageMemory: -1})
		},
		Fail: func(t *testing.T, s spool.Spool) {
			s.(*Spool).fs.(*faultFS).armKind("committed", syscall.EIO)
		},
		Damage: func(t *testing.T, s spool.Spool, id spool.ID, part string) {
			damage(t, s.(*Spool).dir, id, part)
		},
	})
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
		o.fs = newFaultFS()
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
	dir := t.TempDir()
	t.Cleanup(func() {
		s, err := Open(dir, &Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("opening the spool when the test has ended: %v", err)
			return
		}
		defer s.Close()
		if len(s.mu.damaged) > 0 || s.bodyDamage {
			return // which the test has made
		}
		if err := checkIndex(s); err != nil {
			t.Errorf("the index is inconsistent: %v", err)
		}
	})
	return openTest(t, dir, opts)
}

// damage flips a bit of what is stored of an entry or a body.
func damage(t *testing.T, dir string, id spool.ID, part string) {
	t.Helper()
	if part == "entry" {
		flipAfter(t, filepath.Join(dir, "index.db"), id[:], recordFixed+2)
		return
	}
	s := openTest(t, dir, nil)
	name, off, _, err := bodyFile(s, id)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flip(t, name, off+7)
}

func flip(t *testing.T, name string, off int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 0x10
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flipAfter flips a bit at a distance behind every place in a file where mark
// stands with a record after it: freed pages hold older copies.
func flipAfter(t *testing.T, name string, mark []byte, distance int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for i := 0; ; {
		j := bytes.Index(b[i:], mark)
		if j < 0 {
			break
		}
		i += j + len(mark)
		if b[i] == recordVersion && b[i+3] == 0 && i+distance < len(b) {
			b[i+distance] ^= 0x10
			found = true
		}
	}
	if !found {
		t.Fatalf("%s does not hold %x", name, mark)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
