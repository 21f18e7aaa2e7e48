package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Create makes the file of a new spool, under a temporary name at first:
// bbolt's own first writes are not safe against a crash.
func Create(fsys vfs.FS, dir string, state State) error {
	name := filepath.Join(dir, Name)
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, options(false, time.Second))
	if err != nil {
		return err
	}
	db.AllocSize = spaceStep
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketDamage, bucketMeta} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Put(keyFormat, []byte{formatVersion}), meta.Put(keyState, state.append(nil)))
	})
	return replace(fsys, db, tmp, name, err)
}

// replace closes db, which is the file tmp, and gives it its final name.
func replace(fsys vfs.FS, db *bbolt.DB, tmp, name string, err error) error {
	if err2 := db.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return nil
}

// ErrUncertain says that nobody knows whether the file under its name is still
// the one before after a loss of power.
var ErrUncertain = errors.New("index.db was replaced, and perhaps not for good")

const (
	// compactSize is how large a file is that is worth compacting, and compactTx
	// how much of it one transaction copies.
	compactSize = 8 << 20
	compactTx   = 4 << 20
)

// Compact writes the file anew if it is large and most of it is free. Nobody has
// it open. After an error it is as before, unless that is ErrUncertain.
func Compact(fsys vfs.FS, dir string) error {
	name := filepath.Join(dir, Name)
	used, total, err := pageUse(fsys, name)
	if err != nil || total < compactSize || used > total/2 {
		return err
	}
	src, err := bbolt.Open(name, 0o600, options(true, time.Second))
	if err != nil {
		return err
	}
	defer src.Close()
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dst, err := bbolt.Open(tmp, 0o600, options(false, time.Second))
	if err != nil {
		return vfs.OpenError(err)
	}
	dst.AllocSize = spaceStep
	if err := compact(dst, src); err != nil {
		dst.Close()
		fsys.Remove(tmp)
		return fmt.Errorf("compacting %s: %w", Name, vfs.WriteError(err))
	}
	return replace(fsys, dst, tmp, name, nil)
}

func compact(dst, src *bbolt.DB) (err error) {
	defer recoverDamage(&err)()
	return bbolt.Compact(dst, src, compactTx)
}

// pageUse returns how many bytes of the file are used, and how many it has.
func pageUse(fsys vfs.FS, name string) (used, total int64, err error) {
	s, err := openSpace(fsys, name, true)
	if err != nil {
		return 0, 0, err
	}
	defer s.f.Close()
	w, err := verifyPages(s.f)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return w.used(), int64(w.pages) * w.pageSize, nil
}
