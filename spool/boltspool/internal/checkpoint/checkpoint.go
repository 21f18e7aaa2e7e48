// Package checkpoint is index.db: what a spool knows in memory, as it was at
// some place of the log, in bbolt. It is written from time to time, and only
// what has changed. All that came later is in the log.
package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Name is the name of the file in the directory of a spool.
const Name = "index.db"

const formatVersion = 2

// fillPercent is how full a page gets before it is split: IDs grow, so that
// pages fill from the left and are seldom touched again.
const fillPercent = 0.9

var (
	bucketEntries = []byte("entries")
	bucketDamage  = []byte("damage")
	bucketMeta    = []byte("meta")
	keyFormat     = []byte("format")
	keyState      = []byte("state")
)

// ErrDamaged says that the file cannot be trusted as a whole.
var ErrDamaged = errors.New("index.db is damaged")

// ErrLocked says that another process has the file open.
var ErrLocked = errors.New("index.db is open elsewhere")

// A File is an open index.db. One goroutine uses it, but for CopyTo.
type File struct {
	fs    vfs.FS
	name  string
	db    *bbolt.DB
	space *space
}

// options are those of bbolt. A large mapping is address space only, and spares
// a commit the wait for readers that a larger one would need.
func options(readOnly bool, timeout time.Duration) *bbolt.Options {
	o := &bbolt.Options{
		Timeout:        max(timeout, time.Millisecond),
		ReadOnly:       readOnly,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
	}
	if strconv.IntSize == 64 && runtime.GOOS != "windows" && !readOnly {
		var gib int64 = 1 << 30
		o.InitialMmapSize = int(16 * gib)
	}
	return o
}

// Open opens the file, after having verified its structure.
func Open(fsys vfs.FS, dir string, readOnly bool, timeout time.Duration) (f *File, err error) {
	f = &File{fs: fsys, name: filepath.Join(dir, Name)}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if f.space, err = openSpace(fsys, f.name, readOnly); err != nil {
		return f, fmt.Errorf("the index is missing or cannot be opened: %w", err)
	}
	if _, err := verifyPages(f.space.f); err != nil {
		return f, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := f.open(readOnly, timeout); err != nil {
		return f, err
	}
	if !readOnly {
		if err := confirm(f.space.f); err != nil {
			return f, fmt.Errorf("%s: %w", Name, err)
		}
	}
	return f, f.view(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketDamage, bucketMeta} {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("%w: bucket %q is missing", ErrDamaged, b)
			}
		}
		if v := tx.Bucket(bucketMeta).Get(keyFormat); len(v) != 1 || v[0] != formatVersion {
			return fmt.Errorf("%w: it says format %v instead of %d", ErrDamaged, v, formatVersion)
		}
		return nil
	})
}

func (f *File) open(readOnly bool, timeout time.Duration) (err error) {
	defer recoverDamage(&err)()
	o := options(readOnly, timeout)
	f.db, err = bbolt.Open(f.name, 0o600, o)
	if errors.Is(err, syscall.ENOMEM) { // address space is limited
		o.InitialMmapSize = 0
		f.db, err = bbolt.Open(f.name, 0o600, o)
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("%s: %w", Name, err)
	}
	f.db.AllocSize = spaceStep
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	var errs []error
	if f.space != nil {
		errs = append(errs, f.space.f.Close())
		f.space = nil
	}
	if f.db != nil {
		errs = append(errs, f.db.Close())
		f.db = nil
	}
	return errors.Join(errs...)
}

func (f *File) view(do func(tx *bbolt.Tx) error) (err error) {
	defer recoverDamage(&err)()
	return f.db.View(do)
}

// recoverDamage turns a panic of bbolt, or a fault in the pages that it maps,
// into an error. Defer what it returns.
func recoverDamage(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}
}

// State returns what the last Write said.
func (f *File) State() (s State, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		s, err = parseState(tx.Bucket(bucketMeta).Get(keyState))
		return err
	})
	return s, err
}

// Load hands out what is said of each entry, in the order of the IDs. What is
// damaged it hands to bad, with the key and the value that are there.
func (f *File) Load(put func(*index.Saved), bad func(key, value []byte, err error)) error {
	return f.view(func(tx *bbolt.Tx) error {
		var v index.Saved
		names := names{}
		return tx.Bucket(bucketEntries).ForEach(func(key, value []byte) error {
			if err := parseSaved(key, value, &v, names); err != nil {
				bad(key, value, err)
				return nil
			}
			put(&v)
			return nil
		})
	})
}

// Matches reports whether value is what is said of the entry with this ID.
func Matches(id spool.ID, value []byte) (v index.Saved, ok bool) {
	err := parseSaved(id[:], value, &v, names{})
	return v, err == nil
}

// Damage hands out what AddDamage was given.
func (f *File) Damage(each func(text []byte)) error {
	return f.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketDamage).ForEach(func(_, text []byte) error {
			each(text)
			return nil
		})
	})
}

// A Change is what one Write makes of the file.
type Change struct {
	State  State
	Snap   *index.Snapshot
	Drop   [][]byte // keys of records that are damaged and not needed any more
	Damage [][]byte // to be added
}

// Write makes a Change durable. After an error that is vfs.ErrNoSpace nothing
// has changed; any other is final.
func (f *File) Write(c *Change) error {
	slices.SortFunc(c.Snap.Puts, func(a, b index.Saved) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	tx, err := f.db.Begin(true)
	if err != nil {
		return err
	}
	bytes, err := f.fill(tx, c)
	if err == nil {
		err = f.space.reserve(tx.Size(), need(tx.Size(), len(c.Snap.Puts)+len(c.Snap.Removed)+len(c.Drop)+len(c.Damage)+1, bytes))
	}
	if err != nil {
		return errors.Join(err, rollback(tx))
	}
	if err := f.fs.Do("commit", f.name, func() error { return commit(tx) }); err != nil {
		rollback(tx)
		return fmt.Errorf("commit of the index: %w", err) // ENOSPC too is final: bbolt may have written
	}
	return nil
}

func commit(tx *bbolt.Tx) (err error) {
	defer recoverDamage(&err)()
	return tx.Commit()
}

// rollback ends a transaction, as far as that is possible.
func rollback(tx *bbolt.Tx) (err error) {
	defer recoverDamage(&err)()
	if err := tx.Rollback(); !errors.Is(err, bolterrors.ErrTxClosed) {
		return err
	}
	return nil
}

func (f *File) fill(tx *bbolt.Tx, c *Change) (bytes int64, err error) {
	defer recoverDamage(&err)()
	entries := tx.Bucket(bucketEntries)
	entries.FillPercent = fillPercent
	for _, key := range c.Drop { // before the Puts, which may have the same key
		if err := entries.Delete(key); err != nil {
			return 0, err
		}
	}
	for i := range c.Snap.Removed {
		if err := entries.Delete(c.Snap.Removed[i][:]); err != nil {
			return 0, err
		}
	}
	for i := range c.Snap.Puts {
		v := &c.Snap.Puts[i]
		value := appendSaved(make([]byte, 0, 128), v)
		bytes += int64(len(value) + len(v.ID))
		if err := entries.Put(v.ID[:], value); err != nil {
			return 0, err
		}
	}
	damage := tx.Bucket(bucketDamage)
	for _, text := range c.Damage {
		n, err := damage.NextSequence()
		if err != nil {
			return 0, err
		}
		bytes += int64(len(text))
		if err := damage.Put(binary.BigEndian.AppendUint64(nil, n), text); err != nil {
			return 0, err
		}
	}
	return bytes, tx.Bucket(bucketMeta).Put(keyState, c.State.append(nil))
}

// Keep makes sure that the file has room for the changes to come, which then
// find it however full the disk is.
func (f *File) Keep() error {
	var used int64
	err := f.view(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	})
	if err != nil {
		return err
	}
	return f.space.reserve(used, keep(used))
}

// CopyTo writes a copy of the file as it is now, while it goes on being written,
// and returns the state that the copy has.
func (f *File) CopyTo(w io.Writer) (s State, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		if s, err = parseState(tx.Bucket(bucketMeta).Get(keyState)); err != nil {
			return err
		}
		_, err := tx.WriteTo(w)
		return err
	})
	return s, err
}
