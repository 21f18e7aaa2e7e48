package boltspool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

var errPower = errors.New("the power is gone")

// A powerFS forgets, when the power is cut, what was not synced: the bytes that
// a file did not have at its last sync, and the directory entries that were made
// since the last sync of the directory. The index is left to bbolt, whose
// commits are whole.
type powerFS struct {
	vfs
	mu struct {
		sync.Mutex
		ops, cut int               // the power is cut at this operation
		synced   map[string][]byte // contents at the last sync; nil before it
		names    map[string]string // unsynced entries, and what they were renamed from
	}
}

func newPowerFS(cut int) *powerFS {
	p := &powerFS{vfs: osFS{}}
	p.mu.cut = cut
	p.mu.synced = map[string][]byte{}
	p.mu.names = map[string]string{}
	return p
}

// step counts an operation, and does it unless the power is gone.
func (p *powerFS) step(do func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.ops++
	if p.mu.cut > 0 && p.mu.ops >= p.mu.cut {
		return errPower
	}
	return do()
}

// track reports whether the contents of a file are under test.
func track(name string) bool {
	base := filepath.Base(name)
	return base != "running" && base != "LOCK" && !strings.HasPrefix(base, "index.db")
}

func (p *powerFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	var f file
	open := func() (err error) {
		f, err = p.vfs.OpenFile(name, flag, perm)
		return err
	}
	if flag&os.O_CREATE == 0 {
		err := open()
		return &powerFile{f, p, name}, err
	}
	err := p.step(func() error {
		_, err := os.Stat(name)
		if isNew := errors.Is(err, fs.ErrNotExist); isNew && track(name) {
			p.mu.names[name] = ""
			p.mu.synced[name] = nil
		}
		return open()
	})
	return &powerFile{f, p, name}, err
}

func (p *powerFS) Rename(from, to string) error {
	return p.step(func() error {
		if track(to) {
			p.mu.synced[to] = p.mu.synced[from]
			p.mu.names[to] = from
		}
		return p.vfs.Rename(from, to)
	})
}

func (p *powerFS) Remove(name string) error {
	return p.step(func() error { return p.vfs.Remove(name) })
}

func (p *powerFS) Mkdir(name string, perm fs.FileMode) error {
	return p.step(func() error {
		err := p.vfs.Mkdir(name, perm)
		if err == nil {
			p.mu.names[name] = ""
		}
		return err
	})
}

func (p *powerFS) SyncDir(name string) error {
	return p.step(func() error {
		for n := range p.mu.names {
			if filepath.Dir(n) == name {
				delete(p.mu.names, n)
			}
		}
		return nil // the real one costs time and proves nothing here
	})
}

func (p *powerFS) CommitIndex(tx *bbolt.Tx) error {
	err := p.step(func() error { return p.vfs.CommitIndex(tx) })
	if errors.Is(err, errPower) {
		tx.Rollback()
	}
	return err
}

// lose makes the directory what it is after the power cut.
func (p *powerFS) lose(t *testing.T) {
	t.Helper()
	for name, contents := range p.mu.synced {
		if _, err := os.Stat(name); err == nil {
			if err := os.WriteFile(name, contents, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, from := range p.mu.names {
		if from != "" {
			os.Rename(name, from)
		} else if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

type powerFile struct {
	file
	fs   *powerFS
	name string
}

func (f *powerFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.step(func() error {
		n, err = f.file.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f *powerFile) Truncate(size int64) error {
	return f.fs.step(func() error { return f.file.Truncate(size) })
}

func (f *powerFile) Allocate(size int64) error {
	return f.fs.step(func() error { return f.file.Allocate(size) })
}

func (f *powerFile) Sync() error { return f.Datasync() }

func (f *powerFile) Datasync() error {
	return f.fs.step(func() error {
		if !track(f.name) {
			return nil
		}
		name := f.name
		for to, from := range f.fs.mu.names { // the file may have a new name by now
			if from == f.name {
				name = to
			}
		}
		b, err := os.ReadFile(name)
		f.fs.mu.synced[name] = b
		return err
	})
}

// TestPowerCut cuts the power before each single operation.
func TestPowerCut(t *testing.T) {
	count := newPowerFS(0)
	whole := newLedger(t)
	whole.work(filepath.Join(fastDir(t), "spool"), count)
	if len(whole.acked) != 6 {
		t.Fatalf("without a power cut %d entries were stored, want 6", len(whole.acked))
	}
	t.Logf("%d operations", count.mu.ops)
	for cut := 1; cut <= count.mu.ops+1; cut++ {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			power := newPowerFS(cut)
			l, dir := newLedger(t), filepath.Join(fastDir(t), "spool")
			l.work(dir, power)
			power.lose(t)
			l.verify(dir)
		})
	}
}

// TestPowerCutTeeth shows that the test above would notice what it is for: a
// spool whose syncs do nothing loses mail.
func TestPowerCutTeeth(t *testing.T) {
	for _, sync := range []string{"file", "dir"} {
		t.Run(sync, func(t *testing.T) {
			power := newPowerFS(0)
			l, dir := newLedger(t), filepath.Join(fastDir(t), "spool")
			l.work(dir, &noSync{power, sync})
			if len(l.acked) == 0 {
				t.Fatal("nothing was stored")
			}
			power.lose(t)
			s, err := Open(dir, &Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return // lost as a whole
			}
			defer s.Close()
			for _, e := range l.acked {
				if b, err := s.Open(t.Context(), e.Body); err != nil {
					return
				} else {
					b.Close()
				}
			}
			t.Errorf("a spool that does not sync (%s) lost nothing", sync)
		})
	}
}

// A noSync passes no sync on, of files or of directories.
type noSync struct {
	*powerFS
	what string
}

func (n *noSync) SyncDir(name string) error {
	if n.what == "dir" {
		return nil
	}
	return n.powerFS.SyncDir(name)
}

func (n *noSync) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	f, err := n.powerFS.OpenFile(name, flag, perm)
	if err == nil && n.what == "file" {
		f = unsynced{f}
	}
	return f, err
}

type unsynced struct{ file }

func (unsynced) Sync() error     { return nil }
func (unsynced) Datasync() error { return nil }
