package boltspool

import (
	"io"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// An indexFile is an open checkpoint; see checkpoint.File.
type indexFile interface {
	State() (checkpoint.State, error)
	Load(put func(*index.Saved), bad func(key, value []byte, err error)) error
	Damage(each func(text []byte)) error
	Write(c *checkpoint.Change) error
	Keep() error
	CopyTo(w io.Writer) (checkpoint.State, error)
	Close() error
}

// An indexStore makes and opens checkpoints.
type indexStore interface {
	create(fsys vfs.FS, dir string, state checkpoint.State) error
	open(fsys vfs.FS, dir string, readOnly bool, timeout time.Duration) (indexFile, error)
	compact(fsys vfs.FS, dir string) error
}

// boltIndex is the indexStore of bbolt.
type boltIndex struct{}

func (boltIndex) create(fsys vfs.FS, dir string, state checkpoint.State) error {
	return checkpoint.Create(fsys, dir, state)
}

func (boltIndex) open(fsys vfs.FS, dir string, readOnly bool, timeout time.Duration) (indexFile, error) {
	f, err := checkpoint.Open(fsys, dir, readOnly, timeout)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (boltIndex) compact(fsys vfs.FS, dir string) error { return checkpoint.Compact(fsys, dir) }
