package seglog_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// An openFS counts the files that are open.
type openFS struct {
	vfs.OS
	open map[string]int
}

type openFile struct {
	vfs.File
	closed func()
}

func (f openFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.open[filepath.Base(name)]++
	return openFile{file, func() { f.open[filepath.Base(name)]-- }}, nil
}

func (f openFile) Close() error {
	f.closed()
	return f.File.Close()
}

// TestResumeCloses: a segment behind the end of the log, which a process that died
// had only begun, is closed when it is deleted. Else its space would not come back.
func TestResumeCloses(t *testing.T) {
	fsys := openFS{open: map[string]int{}}
	opts := seglog.Options{FS: fsys, Dir: t.TempDir(), Spool: spool.NewID(), Size: 2 << 20, Log: slog.New(slog.DiscardHandler)}
	open := func() *seglog.Log {
		t.Helper()
		l, err := seglog.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		none := func(*seglog.Damage) error { return nil }
		if err := l.Replay(seglog.Start{Place: seglog.Beginning, Number: 1}, func(seglog.Group) error { return nil }, none); err != nil {
			t.Fatal(err)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	if _, err := l.Append([]byte("payload"), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	begun := filepath.Join(opts.Dir, seglog.SegmentName(2))
	if err := os.WriteFile(begun, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	l = open()
	if _, err := os.Stat(begun); err == nil {
		t.Error("the segment that was only begun is still there")
	}
	if n := fsys.open[filepath.Base(begun)]; n != 0 {
		t.Errorf("it is deleted and open %d times", n)
	}
	l.Close()
	for name, n := range fsys.open {
		if n != 0 {
			t.Errorf("%s is open %d times after Close", name, n)
		}
	}
}

// TestResumeCannotDelete: a segment behind the end that cannot be deleted ends the
// opening. What was written behind it would not be found again.
func TestResumeCannotDelete(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	opts := seglog.Options{FS: fsys, Dir: t.TempDir(), Spool: spool.NewID(), Size: 2 << 20, Log: slog.New(slog.DiscardHandler)}
	for life := range 3 {
		l, err := seglog.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		none := func(*seglog.Damage) error { return nil }
		if err := l.Replay(seglog.Start{Place: seglog.Beginning, Number: 1}, func(seglog.Group) error { return nil }, none); err != nil {
			t.Fatal(err)
		}
		if life == 1 {
			fsys.ArmKind("remove", syscall.EIO)
		}
		if err := l.Resume(); errors.Is(err, syscall.EIO) != (life == 1) {
			t.Errorf("life %d: Resume: %v", life, err)
		}
		if life == 0 {
			if _, err := l.Append([]byte("payload"), nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(opts.Dir, seglog.SegmentName(2)), make([]byte, 100), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
	}
}
