package seglog

import (
	"errors"
	"io/fs"
	"log/slog"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// An unfilledFS is a disk on which nothing is filled.
type unfilledFS struct{ vfs.FS }

type unfilledFile struct{ vfs.File }

func (f unfilledFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return unfilledFile{file}, err
}

func (unfilledFile) Fill(int64, int64) error { return errors.ErrUnsupported }

// BenchmarkSync appends groups of 5 KB and syncs each, with zeros ahead of them and
// without. TMPDIR says on which disk.
func BenchmarkSync(b *testing.B) {
	for name, fsys := range map[string]vfs.FS{"zeros": vfs.OS{}, "allocated": unfilledFS{vfs.OS{}}} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(Options{FS: fsys, Dir: b.TempDir(), Spool: spool.NewID(), Size: 64 << 20, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			none := func(Group) error { return nil }
			start := Start{Place: Beginning, Number: 1}
			if err := errors.Join(l.Replay(start, none, func(d *Damage) error { return d }), l.Resume()); err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 5000)
			for b.Loop() {
				if _, err := l.Append(payload, nil); err != nil {
					b.Fatal(err)
				}
				if err := l.Sync(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
