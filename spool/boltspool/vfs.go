package boltspool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"
)

// vfs is every operation on which durability rests, so that tests can let any
// of them fail. Reading the index is left out: bbolt maps it.
type vfs interface {
	OpenFile(name string, flag int, perm fs.FileMode) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	SyncDir(name string) error
	// Free returns what is free for this process on the file system of name.
	Free(name string) (room, error)
	// CommitIndex commits tx, syncs included.
	CommitIndex(tx *bbolt.Tx) error
}

// room is what is left of a file system. math.MaxInt64: no limit, or none known.
type room struct{ bytes, inodes int64 }

// file is an open file of a vfs.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate reserves the blocks of the file up to size and makes it at least
	// that long. errors.ErrUnsupported if the file system cannot.
	Allocate(size int64) error
	// Sync is fsync, Datasync is fdatasync.
	Sync() error
	Datasync() error
}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error               { return os.Rename(from, to) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Mkdir(name string, perm fs.FileMode) error  { return os.Mkdir(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Free(name string) (room, error)             { return freeSpace(name) }
func (osFS) CommitIndex(tx *bbolt.Tx) error             { return tx.Commit() }
func (osFS) SyncDir(name string) error                  { return syncDir(name) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Allocate(size int64) error { return allocate(f.File, size) }
func (f osFile) Datasync() error           { return datasync(f.File) }

// isNoSpace reports whether err says that there is no space or no quota left.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota)
}

// makeDir makes a directory unless it is there, and its entry in the parent
// durable.
func makeDir(fsys vfs, name string) error {
	err := fsys.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return noSpace(err)
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// writeFile replaces the file name by one with these contents, durably.
func writeFile(fsys vfs, name string, contents []byte) error {
	tmp := name + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(contents, 0)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	return err
}

// readFile reads a whole file, or says that it is longer than limit.
func readFile(fsys vfs, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, errors.New("file " + name + " is longer than it can be")
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, err
	}
	return b, nil
}
