package boltspool

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestFull runs out of the reserve and into free space again.
func TestFull(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys})
	kept, other := storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
	staged, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Abort()
	if _, err := staged.Write(noise(1000)); err != nil {
		t.Fatal(err)
	}
	drain(s)

	fsys.SetFree(1)
	late := testEntry(staged.ID())
	if err := staged.Commit(t.Context(), late); !errors.Is(err, spool.ErrFull) {
		t.Fatalf("Commit below the reserve: got %v, want ErrFull", err)
	}
	expectHint(t, s, "Health became ErrFull")
	if err := s.Health(); !errors.Is(err, spool.ErrFull) {
		t.Errorf("Health: got %v, want ErrFull", err)
	}
	next := kept.Clone()
	next.Attempts++
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}, spool.Unit{{Op: spool.Remove, Entry: other}}); errs != nil {
		t.Errorf("Update and Remove on a full spool: %v", errs)
	}
	drain(s)

	fsys.SetFree(0)
	expectHint(t, s, "there is room again")
	if err := s.Health(); err != nil {
		t.Errorf("Health with room again: %v", err)
	}
	if err := staged.Commit(t.Context(), late); err != nil {
		t.Errorf("the same Commit again: %v", err)
	}
}

func drain(s *Spool) {
	select {
	case <-s.Changed():
	default:
	}
}

func expectHint(t *testing.T, s *Spool, why string) {
	t.Helper()
	select {
	case <-s.Changed():
	case <-time.After(10 * time.Second):
		t.Fatalf("no hint in Changed although %s", why)
	}
}

// TestNoSpace lets a write of each kind find the disk full.
func TestNoSpace(t *testing.T) {
	for _, test := range []struct {
		kind string
		size int
	}{
		{"write", 100}, {"create", 100}, {"allocate", 100},
		{"write", 2_000_000}, {"create", 2_000_000}, {"mkdir", 2_000_000}, {"rename", 2_000_000},
	} {
		t.Run(test.kind, func(t *testing.T) {
			fsys := vfstest.NewFault(vfs.OS{})
			s := newTest(t, &Options{fs: fsys})
			fsys.ArmKind(test.kind, syscall.EDQUOT)
			err := func() error {
				w, err := s.Create(t.Context(), 0)
				if err != nil {
					return err
				}
				defer w.Abort()
				if _, err := w.Write(noise(test.size)); err != nil {
					return err
				}
				return w.Commit(t.Context(), testEntry(w.ID()))
			}()
			// One failed allocation is tried again with less.
			if !errors.Is(err, spool.ErrFull) && test.kind != "allocate" {
				t.Errorf("got %v, want ErrFull", err)
			}
			for s.Health() != nil {
				expectHint(t, s, "the quota allows more again")
			}
			storeOne(t, s, noise(test.size))
		})
	}
}

// TestUncertain fails the last sync of a commit: the message may be stored, so
// that its Writer neither gives it away nor deletes it.
func TestUncertain(t *testing.T) {
	for _, size := range []int{100, 2_000_000} {
		fsys := vfstest.NewFault(vfs.OS{})
		s := newTest(t, &Options{fs: fsys})
		w, err := s.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(size)); err != nil {
			t.Fatal(err)
		}
		fsys.ArmKind("datasynced", syscall.EIO)
		e := testEntry(w.ID())
		if err := w.Commit(t.Context(), e); !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Commit: got %v, want ErrFailed", err)
		}
		if _, err := w.Open(); !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Open of the Writer: got %v, want ErrFailed", err)
		}
		if err := w.Abort(); err != nil {
			t.Errorf("Abort: %v", err)
		}
		s.Close()
		s = openTest(t, s.dir, nil)
		if got, err := readBody(t, s, e.Body); err != nil || len(got) != size {
			t.Errorf("after reopening: %d bytes and error %v, want the %d that were stored", len(got), err, size)
		}
	}
}

func TestContextCancelled(t *testing.T) {
	s := newTest(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: got %v, want context.Canceled", err)
	}
	if errs := s.Apply(ctx, spool.Unit{}, spool.Unit{}); len(errs) != 2 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("Apply: got %v, want context.Canceled twice", errs)
	}
}

// TestGivenUp cancels a request that waits for the committer, which then must
// leave it alone.
func TestGivenUp(t *testing.T) {
	var in inbox
	in.wake = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	r := in.requests.get(0)
	result := make(chan error)
	go func() { result <- in.submit(ctx, r) }()
	<-in.wake // r is in the inbox
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("submit: got %v, want context.Canceled", err)
	}
	if group := in.take(nil); len(group) != 0 {
		t.Errorf("the committer took %d requests whose clients are gone", len(group))
	}
	in.close()
	if err := in.submit(t.Context(), r); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("submit after close: got %v, want ErrClosed", err)
	}
}

// TestStageMemory checks the budget, and that all of it comes back.
func TestStageMemory(t *testing.T) {
	s := newTest(t, &Options{StageMemory: 64 << 10})
	var ws []spool.Writer
	inFiles := 0
	for range 4 {
		w, err := s.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(30_000)); err != nil {
			t.Fatal(err)
		}
		if w.(*writer).big != nil {
			inFiles++
		}
		ws = append(ws, w)
	}
	if inFiles != 2 {
		t.Errorf("%d of 4 bodies of 30 kB went to files beyond 64 KiB of memory, want 2", inFiles)
	}
	b, err := ws[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ws {
		w.Abort()
	}
	if used := s.stage.used.Load(); used != 32<<10 {
		t.Errorf("with one body still open %d bytes are in use, want 32 KiB", used)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: got %v, want os.ErrClosed", err)
	}
	if used := s.stage.used.Load(); used != 0 {
		t.Errorf("%d bytes are in use, want 0", used)
	}
}
