package boltspool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
// crash what was committed, or what was just being committed, whole. top is the
// file system as the spool sees it.
type simIndex struct {
	fs   *vfstest.Crash
	top  vfs.FS
	full bool // there is no space for a checkpoint
}

// A simImage is what is committed. It is not changed any more.
type simImage struct {
	state   checkpoint.State
	entries map[spool.ID]index.Saved
	damage  [][]byte
}

func simName(dir string) string { return filepath.Join(dir, checkpoint.Name) }

func (x simIndex) create(_ vfs.FS, dir string, state checkpoint.State) error {
	return x.top.Do("commit", simName(dir), func() error {
		x.fs.SetObject(simName(dir), &simImage{state: state})
		return nil
	})
}

func (x simIndex) open(_ vfs.FS, dir string, _ bool, _ time.Duration) (indexFile, error) {
	image, ok := x.fs.Object(simName(dir)).(*simImage)
	if !ok { // one that was copied?
		name, err := vfs.ReadFile(x.top, simName(dir), 1000)
		if image, ok = x.fs.Object(string(name)).(*simImage); !ok {
			return nil, errors.Join(fs.ErrNotExist, err)
		}
	}
	return &simFile{x, simName(dir), image}, nil
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
	return f.top.Do("commit", f.name, func() error {
		f.image = next
		f.fs.SetObject(f.name, next)
		return nil
	})
}

func (f *simFile) Keep() error { return nil }

// CopyTo writes the name of an object.
func (f *simFile) CopyTo(w io.Writer) (checkpoint.State, error) {
	image := f.fs.Object(f.name).(*simImage) // f.image is the keeper's
	name := fmt.Sprintf("copy %p", image)
	f.fs.SetObject(name, image)
	_, err := io.WriteString(w, name)
	return image.state, err
}

func (f *simFile) Close() error { return nil }
