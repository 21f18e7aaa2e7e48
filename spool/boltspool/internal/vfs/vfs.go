// Package vfs holds every operation on files on which durability rests, so that
// tests can let any of them fail, or forget what was not synced.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// An FS is a file system.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// Free returns what is free for this process on the file system of name.
	Free(name string) (Room, error)
	// Do runs an operation that writes to a file by other means than this FS, and
	// syncs it: a commit of bbolt.
	Do(op, name string, f func() error) error
}

// Room is what is left of a file system. math.MaxInt64: no limit, or none known.
type Room struct{ Bytes, Inodes int64 }

// A File is an open file of an FS. ReadAt may be called at the same time as
// everything else.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVAt writes several buffers one after the other, as WriteAt does one.
	WriteVAt(bufs [][]byte, off int64) (int64, error)
	Size() (int64, error)
	Truncate(size int64) error
	// Allocate reserves the blocks of the file up to size and makes it at least
	// that long. errors.ErrUnsupported if the file system cannot.
	Allocate(size int64) error
	// Fill writes n zeros, which spares the file system what a sync costs beyond its
	// data where blocks are written for the first time. errors.ErrUnsupported where
	// it spares nothing.
	Fill(off, n int64) error
	// Sync is fsync, Datasync is fdatasync.
	Sync() error
	Datasync() error
}

// OS is the file system of the operating system.
type OS struct{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir is os.Mkdir.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// ReadDir is os.ReadDir.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// SyncDir is fsync of a directory.
func (OS) SyncDir(name string) error { return syncDir(name) }

// Free is statfs.
func (OS) Free(name string) (Room, error) { return freeSpace(name) }

// Do calls f.
func (OS) Do(_, _ string, f func() error) error { return f() }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	if len(bufs) == 1 {
		n, err := f.WriteAt(bufs[0], off)
		return int64(n), err
	}
	return writeVAt(f.File, bufs, off)
}

func (f osFile) Allocate(size int64) error { return allocate(f.File, size) }
func (f osFile) Fill(off, n int64) error   { return fill(f.File, off, n) }
func (f osFile) Datasync() error           { return datasync(f.File) }

// ErrNoSpace says that there was no room for a write, and that no sync has
// failed: what was written can be taken back.
var ErrNoSpace = errors.New("no space")

// ErrTooMany says that a file could not be opened for want of descriptors or
// memory, which says nothing about the disk.
var ErrTooMany = errors.New("too much is open")

type causedError struct{ is, cause error }

func (e *causedError) Error() string   { return e.is.Error() + ": " + e.cause.Error() }
func (e *causedError) Unwrap() []error { return []error{e.is, e.cause} }

// WriteError turns the error of a write, or of an operation like it, into
// ErrNoSpace if it is harmless.
func WriteError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, errQuota) {
		return &causedError{ErrNoSpace, err}
	}
	return err
}

// OpenError turns the error of an attempt to open or make a file into ErrTooMany
// or ErrNoSpace if it is harmless.
func OpenError(err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) {
		return &causedError{ErrTooMany, err}
	}
	return WriteError(err)
}

// MakeDir makes a directory unless it is there, and its entry in the parent
// durable.
func MakeDir(fsys FS, name string) error {
	err := fsys.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return WriteError(err)
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// WriteFile replaces the file name by one with these contents, durably.
func WriteFile(fsys FS, name string, contents []byte) error {
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

// ReadFile reads a whole file, or says that it is longer than limit.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
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
