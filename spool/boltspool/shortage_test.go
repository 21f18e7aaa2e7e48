package boltspool

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A shortLog keeps what is logged.
type shortLog struct {
	mu struct {
		sync.Mutex
		bytes.Buffer
	}
}

func (l *shortLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.Write(p)
}

func (l *shortLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// want fails unless each line was logged so many times.
func (l *shortLog) want(t *testing.T, times int, lines ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range lines {
		if n := strings.Count(l.mu.String(), line); n != times {
			t.Errorf("the log says %d times %q, want %d:\n%s", n, line, times, l.mu.String())
		}
	}
}

// awaitHealth waits until Health is want, nil included.
func awaitHealth(t *testing.T, s *Spool, want error) {
	t.Helper()
	for !errors.Is(s.Health(), want) {
		expectHint(t, s, "Health is to become "+errorText(want))
	}
}

func errorText(err error) string {
	if err == nil {
		return "nil"
	}
	return err.Error()
}

// TestShortages: each shortage of the disk is noticed while nothing is written,
// refuses new messages with its own error, lets the spool empty itself, ends by
// itself, and is logged once at either end.
func TestShortages(t *testing.T) {
	for _, test := range []struct {
		name         string
		short        func(f *vfstest.Fault, is int64)
		want         error
		begins, ends string
	}{
		{"bytes", (*vfstest.Fault).SetFree, spool.ErrFull, "no space; new", "there is space again"},
		{"inodes", (*vfstest.Fault).SetInodes, spool.ErrNoInodes, "no inodes; new", "there are inodes again"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys, logs := vfstest.NewFault(vfs.OS{}), &shortLog{}
			s := newTest(t, &Options{fs: fsys, Logger: logs.logger()})
			kept, other := storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
			staged, err := s.Create(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer staged.Abort()

			test.short(fsys, 1)
			awaitHealth(t, s, test.want)
			late := testEntry(staged.ID())
			if err := staged.Commit(t.Context(), late); !errors.Is(err, test.want) {
				t.Errorf("Commit: got %v, want %v", err, test.want)
			}
			if err := stageBig(t, s); !errors.Is(err, test.want) {
				t.Errorf("Write to a file: got %v, want %v", err, test.want)
			}
			next := kept.Clone()
			next.Attempts++
			if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}, spool.Unit{{Op: spool.Remove, Entry: other}}); errs != nil {
				t.Errorf("Update and Remove: %v", errs)
			}

			test.short(fsys, 0)
			awaitHealth(t, s, nil)
			if err := staged.Commit(t.Context(), late); err != nil {
				t.Errorf("the same Commit again: %v", err)
			}
			logs.want(t, 1, test.begins, test.ends)
		})
	}
}

// stageBig stages a body that does not fit in memory.
func stageBig(t *testing.T, s *Spool) error {
	t.Helper()
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatalf("Create, which may be for what a full spool owes: %v", err)
	}
	defer w.Abort()
	_, err = w.Write(noise(2_000_000))
	return err
}

// TestStageOfStored: content of a stored message may take half of the reserve.
func TestStageOfStored(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys, Reserve: 8 << 20})
	e := storeOne(t, s, noise(100))
	fsys.SetFree(5 << 20)
	awaitHealth(t, s, spool.ErrFull)
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(noise(2_000_000)); err != nil {
		t.Fatal(err)
	}
	next := e.Clone()
	next.Body = w.ID()
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Stage: w}}); errs != nil {
		t.Errorf("new content for a stored message: %v", errs)
	}
	fsys.SetFree(3 << 20)
	if err := stageBig(t, s); !errors.Is(err, spool.ErrFull) {
		t.Errorf("with less than half of the reserve: %v, want ErrFull", err)
	}
}

// TestReserveOfStored: while the reserve is not free, what ends or changes a
// stored message is stored with all that belongs to it. If there is no space at
// all that is refused too, and updates and removes still are not.
func TestReserveOfStored(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys})
	bounced, rebound, other := storeOne(t, s, noise(100)), storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
	stage := func() *writer {
		w, err := s.Create(t.Context(), 0)
		if err == nil {
			_, err = w.Write(noise(2000))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Abort() })
		return w.(*writer)
	}
	first, second, third, fourth := stage(), stage(), stage(), stage()
	fsys.SetFree(1)
	awaitHealth(t, s, spool.ErrFull)

	signed := rebound.Clone()
	signed.Body = second.ID()
	notice := spool.Change{Op: spool.Insert, Entry: testEntry(first.ID()), Stage: first, Keep: true}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: bounced}, notice},
		spool.Unit{{Op: spool.Update, Entry: signed, Stage: second, Keep: true}}); errs != nil {
		t.Errorf("a bounce with its notice, and new content: %v", errs)
	}

	fsys.ArmKind("write", syscall.ENOSPC)
	notice2 := spool.Change{Op: spool.Insert, Entry: testEntry(third.ID()), Stage: third}
	fresh := spool.Change{Op: spool.Insert, Entry: testEntry(fourth.ID()), Stage: fourth}
	next := other.Clone()
	next.Attempts++
	errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: notice.Entry}, notice2}, spool.Unit{fresh},
		spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
	if len(errs) != 3 || !errors.Is(errs[0], spool.ErrFull) || !errors.Is(errs[1], spool.ErrFull) || errs[2] != nil {
		t.Errorf("without any space: %v, want ErrFull for the first two units and nil for the update", errs)
	}
	if fsys.Fired() == "" {
		t.Error("no write found the disk full")
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: notice.Entry}, notice2}); errs != nil {
		t.Errorf("the same unit again: %v", errs)
	}
}

// A flatFS cannot allocate.
type flatFS struct{ *vfstest.Fault }

func (f flatFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.Fault.OpenFile(name, flag, perm)
	return flatFile{file}, err
}

type flatFile struct{ vfs.File }

func (flatFile) Allocate(int64) error { return errors.ErrUnsupported }

// TestReserveWithoutAllocation: where nothing can be allocated ahead, the
// reserve is kept for updates and removes alone.
func TestReserveWithoutAllocation(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: flatFS{fsys}})
	bounced, other := storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	fsys.SetFree(1)
	awaitHealth(t, s, spool.ErrFull)
	unit := spool.Unit{{Op: spool.Remove, Entry: bounced}, {Op: spool.Insert, Entry: testEntry(w.ID()), Stage: w}}
	errs := s.Apply(t.Context(), unit, spool.Unit{{Op: spool.Remove, Entry: other}})
	if len(errs) != 2 || !errors.Is(errs[0], spool.ErrFull) || errs[1] != nil {
		t.Errorf("got %v, want ErrFull for the insert and nil for the removal", errs)
	}
}

// TestShortageEndsAtOnce: a write that found no room says so, even if there is
// room again before it answers.
func TestShortageEndsAtOnce(t *testing.T) {
	var s *Spool
	s = newTest(t, &Options{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		s.shortages.Store(0)
		return len(p), nil
	}), nil))})
	if err := s.passing(vfs.WriteError(syscall.ENOSPC)); !errors.Is(err, spool.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ErrFull and its cause", err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestShortagesTogether: Health names the next one when the first has ended.
func TestShortagesTogether(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{fs: fsys})
	fsys.SetFree(1)
	fsys.SetInodes(1)
	awaitHealth(t, s, spool.ErrFull)
	fsys.SetFree(0)
	awaitHealth(t, s, spool.ErrNoInodes)
	if s.short(shortBytes) {
		t.Error("bytes are short too, although there is room again")
	}
	fsys.SetInodes(0)
	awaitHealth(t, s, nil)
}

// TestShortAtOpen: a spool on a full disk says so before anything is written.
func TestShortAtOpen(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	fsys.SetInodes(1)
	s := newTest(t, &Options{fs: fsys})
	if err := s.Health(); !errors.Is(err, spool.ErrNoInodes) {
		t.Errorf("Health: got %v, want ErrNoInodes", err)
	}
	if s := newTest(t, &Options{fs: fsys, ReserveInodes: -1}); s.Health() != nil {
		t.Errorf("Health without a reserve: %v", s.Health())
	}
}

// A blindFS does not know what is free.
type blindFS struct{ *vfstest.Fault }

func (blindFS) Free(name string) (vfs.Room, error) {
	return vfs.Room{}, &fs.PathError{Op: "statfs", Path: name, Err: syscall.ENOSYS}
}

// TestUnknownSpace: who does not know what is free accepts, and says so once.
func TestUnknownSpace(t *testing.T) {
	logs := &shortLog{}
	s := newTest(t, &Options{fs: blindFS{vfstest.NewFault(vfs.OS{})}, Logger: logs.logger()})
	for range 3 {
		storeOne(t, s, noise(100))
	}
	logs.want(t, 1, "free space is unknown")
}

// tryOne is storeOne that may fail.
func tryOne(ctx context.Context, s *Spool, b []byte) (*spool.Entry, error) {
	w, err := s.Create(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	e := testEntry(w.ID())
	return e, w.Commit(ctx, e)
}

// TestQuota uses a quota up, goes on with what is stored, and opens it again.
func TestQuota(t *testing.T) {
	const quota = 100_000
	logs := &shortLog{}
	s := newTest(t, &Options{Quota: quota, Logger: logs.logger()})
	var stored []*spool.Entry
	for {
		e, err := tryOne(t.Context(), s, noise(5000))
		if errors.Is(err, spool.ErrQuota) && errors.Is(err, spool.ErrFull) {
			break
		}
		if err != nil || len(stored) > 30 {
			t.Fatalf("after %d messages: %v", len(stored), err)
		}
		stored = append(stored, e)
	}
	if n := len(stored); n != 19 || s.mu.index.Bytes() > quota {
		t.Fatalf("%d messages of 5,000 bytes with %d in all are within a quota of 100,000, want 19", n, s.mu.index.Bytes())
	}
	if err := s.Health(); !errors.Is(err, spool.ErrQuota) {
		t.Errorf("Health: got %v, want ErrQuota", err)
	}
	stored[0] = beyondQuota(t, s, stored[0])
	logs.want(t, 1, "the quota is used up")
	logs.want(t, 0, "within the quota again")
	for s.Health() != nil {
		if len(stored) == 0 {
			t.Fatal("the spool is empty, and the quota is used up")
		}
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: stored[0]}}); errs != nil {
			t.Fatal(errs)
		}
		stored = stored[1:]
	}
	if s.mu.index.Bytes() > s.quotaLow() || s.mu.index.Bytes() < s.quotaLow()-6000 {
		t.Errorf("the quota opened at %d bytes, want it at %d or one message less", s.mu.index.Bytes(), s.quotaLow())
	}
	if _, err := tryOne(t.Context(), s, noise(5000)); err != nil {
		t.Errorf("a message within the quota: %v", err)
	}
	logs.want(t, 1, "the quota is used up", "within the quota again")
}

// beyondQuota updates an entry of a spool whose quota is used up, and replaces it
// by two others, with a new body: a bounce with its notice does so.
func beyondQuota(t *testing.T, s *Spool, e *spool.Entry) *spool.Entry {
	t.Helper()
	next := e.Clone()
	next.LastError = string(noise(10_000))
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
		t.Fatalf("Update: %v", errs)
	}
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(noise(5000)); err != nil {
		t.Fatal(err)
	}
	notice := testEntry(w.ID())
	unit := spool.Unit{{Op: spool.Insert, Entry: notice, Stage: w, Keep: true}, {Op: spool.Remove, Entry: next}}
	if errs := s.Apply(t.Context(), unit); errs != nil {
		t.Fatalf("a bounce with its notice: %v", errs)
	}
	return notice
}

// TestQuotaKept: a quota is still used up after the spool was opened again, and
// a message that is larger than all of it is too large for good.
func TestQuotaKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openTest(t, dir, &Options{Quota: 10_000})
	e := storeOne(t, s, noise(5000))
	if _, err := tryOne(t.Context(), s, noise(10_001)); !errors.Is(err, spool.ErrTooLarge) || errors.Is(err, spool.ErrFull) {
		t.Errorf("a message larger than the quota: got %v, want ErrTooLarge", err)
	}
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v, but there is room for other messages", err)
	}
	s.Close()
	s = openTest(t, dir, &Options{Quota: 4000})
	if err := s.Health(); !errors.Is(err, spool.ErrQuota) {
		t.Errorf("Health with a smaller quota: got %v, want ErrQuota", err)
	}
	claimed, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("%d claimed, %v", len(claimed), err)
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: claimed[0]}}); errs != nil || s.Health() != nil {
		t.Errorf("after the removal of the only message: %v, Health %v", errs, s.Health())
	}
}

// TestFullDiskInodes uses up the inodes of a real file system, with and without
// a reserve. The short form, without -long, is TestShortages.
func TestFullDiskInodes(t *testing.T) {
	if !*long {
		t.Log("short form: see TestShortages; with -long on a real disk")
		return
	}
	for _, reserve := range []int64{16, -1} {
		disk, err := testdisk.New(t, 256, "-N", "64")
		if err != nil {
			t.Fatal(err)
		}
		logs := &shortLog{}
		dir := filepath.Join(disk, "spool")
		s := openTest(t, dir, &Options{Reserve: 4 << 20, ReserveInodes: reserve, Logger: logs.logger()})
		l := newLedger(t)
		l.s = s
		entries := fillDisk(t, l, 1_500_000)
		if err := s.Health(); !errors.Is(err, spool.ErrNoInodes) {
			t.Fatalf("after %d messages Health is %v, want ErrNoInodes", len(entries), err)
		}
		emptyDisk(t, l, entries)
		awaitHealth(t, s, nil)
		if l.tryStore(1_500_000, 1) == nil {
			t.Error("the spool does not accept again, although there are inodes")
		}
		s.Close()
		l.verify(dir)
		logs.want(t, 1, "no inodes; new", "there are inodes again")
	}
}
