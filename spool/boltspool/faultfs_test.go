package boltspool

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"go.etcd.io/bbolt"
)

// A faultFS counts the operations that change a file or make it durable, and
// lets one of them fail.
type faultFS struct {
	vfs
	mu struct {
		sync.Mutex
		ops   []string // since the last arm
		at    int      // the operation that fails, counted from 1; 0 none
		kind  string   // if not empty, the next operation of this kind fails
		err   error
		fired string
		free  room // what Free says, but for what is zero
	}
}

func newFaultFS() *faultFS { return &faultFS{vfs: osFS{}} }

// arm lets the operation number at from now on fail with err.
func (f *faultFS) arm(at int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops, f.mu.at, f.mu.kind, f.mu.err, f.mu.fired = nil, at, "", err, ""
}

// armKind lets the next operation of a kind fail with err.
func (f *faultFS) armKind(kind string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops, f.mu.at, f.mu.kind, f.mu.err, f.mu.fired = nil, 0, kind, err, ""
}

func (f *faultFS) setFree(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.free.bytes = n
}

func (f *faultFS) setInodes(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.free.inodes = n
}

func (f *faultFS) fired() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.fired
}

// op notes an operation and returns the error that it is to have.
func (f *faultFS) op(kind, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops = append(f.mu.ops, kind+" "+name)
	if len(f.mu.ops) != f.mu.at && kind != f.mu.kind {
		return nil
	}
	f.mu.at, f.mu.kind, f.mu.fired = 0, "", kind+" "+name
	return &fs.PathError{Op: kind, Path: name, Err: f.mu.err}
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (file, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.op("create", name); err != nil {
			return nil, err
		}
	}
	inner, err := f.vfs.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f, name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.op("rename", to); err != nil {
		return err
	}
	return f.vfs.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.op("remove", name); err != nil {
		return err
	}
	return f.vfs.Remove(name)
}

func (f *faultFS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.op("mkdir", name); err != nil {
		return err
	}
	return f.vfs.Mkdir(name, perm)
}

func (f *faultFS) SyncDir(name string) error {
	if err := f.op("syncdir", name); err != nil {
		return err
	}
	return f.vfs.SyncDir(name)
}

func (f *faultFS) Free(name string) (room, error) {
	r, err := f.vfs.Free(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.free.bytes != 0 {
		r.bytes = f.mu.free.bytes
	}
	if f.mu.free.inodes != 0 {
		r.inodes = f.mu.free.inodes
	}
	return r, err
}

// CommitIndex counts twice: to fail at first means that nothing was written, at
// last that all was written and the last sync failed.
func (f *faultFS) CommitIndex(tx *bbolt.Tx) error {
	if err := f.op("commit", "index.db"); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := f.vfs.CommitIndex(tx); err != nil {
		return err
	}
	return f.op("committed", "index.db")
}

type faultFile struct {
	file
	fs   *faultFS
	name string
}

// WriteAt that fails leaves half of what it was to write.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.op("write", f.name); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.op("truncate", f.name); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultFile) Allocate(size int64) error {
	if err := f.fs.op("allocate", f.name); err != nil {
		return err
	}
	return f.file.Allocate(size)
}

func (f *faultFile) Sync() error {
	if err := f.fs.op("sync", f.name); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultFile) Datasync() error {
	if err := f.fs.op("datasync", f.name); err != nil {
		return err
	}
	return f.file.Datasync()
}
