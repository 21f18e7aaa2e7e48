package boltspool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A simIndex is the indexStore of a vfstest.Crash: like bbolt, it shows after a
// crash what was committed, or what was just being committed, whole; and of a commit
// whose sync has failed, one or the other, until it is opened again, which confirms it.
// top is the file system as the spool sees it.
type simIndex struct {
	fs   *vfstest.Crash
	top  vfs.FS
	full bool // there is no space for a checkpoint
}

// A simCommit is what a process sees of the index, and what the disk has.
type simCommit struct{ seen, durable *simImage }

// A simImage is what is committed. It is not changed any more.
type simImage struct {
	state   checkpoint.State
	entries map[spool.ID]index.Saved
	damage  [][]byte
}

func simName(dir string) string { return filepath.Join(dir, checkpoint.Name) }

func (x simIndex) create(_ vfs.FS, dir string, state checkpoint.State) error {
	return x.top.Do("commit", simName(dir), func() error {
		image := &simImage{state: state}
		x.fs.SetObject(simName(dir), simCommit{image, image})
		return nil
	})
}

// cut is what a power cut leaves of the index.
func (x simIndex) cut(dir string, rng *rand.Rand) {
	c, ok := x.fs.Object(simName(dir)).(simCommit)
	if ok && rng.IntN(2) == 0 {
		x.fs.SetObject(simName(dir), simCommit{c.durable, c.durable})
	}
}

func (x simIndex) open(_ vfs.FS, dir string, readOnly bool, _ time.Duration) (indexFile, error) {
	c, ok := x.fs.Object(simName(dir)).(simCommit)
	if !ok { // one that was copied?
		name, err := vfs.ReadFile(x.top, simName(dir), 1000)
		image, ok := x.fs.Object(string(name)).(*simImage)
		if !ok {
			return nil, errors.Join(fs.ErrNotExist, err)
		}
		return &simFile{x, simName(dir), image}, nil
	}
	if !readOnly {
		if err := x.top.Do("confirm", simName(dir), func() error {
			x.fs.SetObject(simName(dir), simCommit{c.seen, c.seen})
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return &simFile{x, simName(dir), c.seen}, nil
}

func (simIndex) compact(vfs.FS, string) error { return nil }

type simFile struct {
	simIndex
	name  string
	image *simImage
}

func (f *simFile) State() (checkpoint.State, error) { return f.image.state, nil }

func (f *simFile) Load(put func(*index.Saved), _ func(key, value []byte, err error)) error {
	ids := slices.SortedFunc(maps.Keys(f.image.entries), compareIDs)
	for _, id := range ids {
		v := f.image.entries[id]
		put(&v)
	}
	return nil
}

func (f *simFile) Damage(each func(text []byte)) error {
	for _, text := range f.image.damage {
		each(text)
	}
	return nil
}

func (f *simFile) Write(c *checkpoint.Change) error {
	if f.full {
		return vfs.ErrNoSpace
	}
	next := &simImage{c.State, maps.Clone(f.image.entries), append(slices.Clone(f.image.damage), c.Damage...)}
	if next.entries == nil {
		next.entries = make(map[spool.ID]index.Saved)
	}
	for _, id := range c.Snap.Removed {
		delete(next.entries, id)
	}
	for _, v := range c.Snap.Puts {
		next.entries[v.ID] = v
	}
	before := f.image
	err := f.top.Do("commit", f.name, func() error {
		f.image = next
		f.fs.SetObject(f.name, simCommit{next, before})
		return nil
	})
	if err == nil {
		f.fs.SetObject(f.name, simCommit{next, next})
	}
	return err
}

func (f *simFile) Keep() error { return nil }

// CopyTo writes the name of an object.
func (f *simFile) CopyTo(w io.Writer) (checkpoint.State, error) {
	image := f.fs.Object(f.name).(simCommit).seen // f.image is the keeper's
	name := fmt.Sprintf("copy %p", image)
	f.fs.SetObject(name, image)
	_, err := io.WriteString(w, name)
	return image.state, err
}

func (f *simFile) Close() error { return nil }
