package boltspool

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestVerifyBegun: a segment of which the power was cut before its first bytes were
// durable is no damage, neither as it is nor once the log goes on in it.
func TestVerifyBegun(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	s.Close()
	if err := os.WriteFile(segmentFile(s.dir, 1), make([]byte, taleSegment), 0o600); err != nil {
		t.Fatal(err)
	}
	for want := range 3 {
		got, err := Verify(t.Context(), s.dir, opts)
		if err != nil || len(got.Damaged) > 0 || got.Entries != want {
			t.Errorf("Verify: %v, %v, %v, want %d entries and no damage", got, got.Damaged, err, want)
		}
		s = openTest(t, s.dir, opts)
		if e := storeOne(t, s, noise(100)); want == 0 {
			if name, _, err := entryFile(s, e.ID); err != nil || name != segmentFile(s.dir, 1) {
				t.Errorf("the log goes on in %s, error %v", name, err)
			}
		}
		s.Close()
	}
}

// TestRebuildBegun: a segment whose first group was torn is taken away by Rebuild, and
// the log goes on in the one before. What is torn there then is no damage, and no
// part of it counts.
func TestRebuildBegun(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	opts := &Options{segmentSize: 64 << 10, Logger: quiet, fs: fsys, manual: true}
	two := func(s *Spool, size int) error {
		w, err := s.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := w.Write(noise(size)); err != nil {
			t.Fatal(err)
		}
		return w.Commit(t.Context(), testEntry(w.ID()), testEntry(w.ID()))
	}
	rehearsal := openTest(t, fastDir(t), opts)
	storeOne(t, rehearsal, noise(50_000))
	fsys.Arm(0, nil)
	if err := two(rehearsal, 30_000); err != nil {
		t.Fatal(err)
	}
	ops := fsys.Ops()
	rehearsal.Close()
	at := slices.IndexFunc(ops, func(op string) bool { return strings.HasPrefix(op, "datasync ") })
	for at > 0 && !strings.HasPrefix(ops[at-1], "write ") { // that of the group
		at--
	}

	s := openTest(t, fastDir(t), opts)
	dir := s.dir
	first := storeOne(t, s, noise(50_000))
	fsys.Arm(at, syscall.EIO)
	if err := two(s, 30_000); !errors.Is(err, spool.ErrFailed) {
		t.Fatalf("error %v, failed: %s, want ErrFailed", err, fsys.Fired())
	}
	abandon(s)
	if b, err := os.ReadFile(segmentFile(dir, 2)); err != nil || len(bytes.TrimRight(b, "\x00")) < 10_000 {
		t.Fatalf("the second segment has no torn group: %v", err)
	}
	s = openTest(t, dir, opts) // it would go on in the second one
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Rebuild(dir, opts); err != nil || r.Entries != 1 || r.Damaged != 0 {
		t.Fatalf("Rebuild: %+v, %v", r, err)
	}
	s = openTest(t, dir, opts)
	fsys.ArmKind("write", syscall.EIO)
	if err := two(s, 300); !errors.Is(err, spool.ErrFailed) || fsys.Fired() != "write "+segmentFile(dir, 1) {
		t.Fatalf("error %v, failed: %s, want the next group of the first segment to be torn", err, fsys.Fired())
	}
	abandon(s)
	fsys.Arm(0, nil)

	got, err := Verify(t.Context(), dir, opts)
	if err != nil || len(got.Damaged) > 0 || got.Entries != 1 {
		t.Errorf("Verify: %v, %v, %v, want one entry and no damage", got, got.Damaged, err)
	}
	s = openTest(t, dir, opts)
	defer s.Close()
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil || e.ID != first.ID {
			t.Errorf("found %v, %v, want the first one alone", e, err)
		}
	}
}
