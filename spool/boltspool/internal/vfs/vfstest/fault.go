// Package vfstest holds file systems for tests: one whose operations fail when
// they are told to, and one in memory that forgets what was not synced.
package vfstest

import (
	"io/fs"
	"os"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A Fault is a file system that counts the operations that change a file or make
// it durable, and lets one of them fail. The kinds of operations are: create,
// rename, remove, mkdir, syncdir, write, truncate, allocate, fill, sync, datasync and
// datasynced, which is the same sync after all is durable, and commit and
// committed for what Do does, before it and after it.
type Fault struct {
	vfs.FS
	mu struct {
		sync.Mutex
		ops   []string // since the last Arm
		at    int      // the operation that fails, counted from 1; 0 none
		kind  string   // if not empty, the next operation of this kind fails
		err   error
		fired string
		free  vfs.Room // what Free says, but for what is zero
	}
}

// NewFault returns a Fault above fsys.
func NewFault(fsys vfs.FS) *Fault { return &Fault{FS: fsys} }

// Arm lets the operation number at from now on fail with err; 0: none.
func (f *Fault) Arm(at int, err error) { f.arm(at, "", err) }

// ArmKind lets the next operation of a kind fail with err.
func (f *Fault) ArmKind(kind string, err error) { f.arm(0, kind, err) }

func (f *Fault) arm(at int, kind string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops, f.mu.at, f.mu.kind, f.mu.err, f.mu.fired = nil, at, kind, err, ""
}

// SetFree lets Free say that so many bytes are free; 0 is the truth.
func (f *Fault) SetFree(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.free.Bytes = n
}

// SetInodes is SetFree for inodes.
func (f *Fault) SetInodes(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.free.Inodes = n
}

// Fired returns which operation has failed, "" for none.
func (f *Fault) Fired() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.fired
}

// Ops returns the operations since the last Arm.
func (f *Fault) Ops() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.mu.ops...)
}

// op notes an operation and returns the error that it is to have.
func (f *Fault) op(kind, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.ops = append(f.mu.ops, kind+" "+name)
	if len(f.mu.ops) != f.mu.at && kind != f.mu.kind {
		return nil
	}
	f.mu.at, f.mu.kind, f.mu.fired = 0, "", kind+" "+name
	return &fs.PathError{Op: kind, Path: name, Err: f.mu.err}
}

// OpenFile counts if it makes a file.
func (f *Fault) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.op("create", name); err != nil {
			return nil, err
		}
	}
	inner, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{inner, f, name}, nil
}

// Rename counts.
func (f *Fault) Rename(from, to string) error {
	if err := f.op("rename", to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove counts.
func (f *Fault) Remove(name string) error {
	if err := f.op("remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// Mkdir counts.
func (f *Fault) Mkdir(name string, perm fs.FileMode) error {
	if err := f.op("mkdir", name); err != nil {
		return err
	}
	return f.FS.Mkdir(name, perm)
}

// SyncDir counts.
func (f *Fault) SyncDir(name string) error {
	if err := f.op("syncdir", name); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

// Free says what it was told to.
func (f *Fault) Free(name string) (vfs.Room, error) {
	r, err := f.FS.Free(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.free.Bytes != 0 {
		r.Bytes = f.mu.free.Bytes
	}
	if f.mu.free.Inodes != 0 {
		r.Inodes = f.mu.free.Inodes
	}
	return r, err
}

// Do counts twice: to fail at first means that nothing was written, at last that
// all was written and the last sync failed.
func (f *Fault) Do(op, name string, do func() error) error {
	if err := f.op(op, name); err != nil {
		return err
	}
	if err := f.FS.Do(op, name, do); err != nil {
		return err
	}
	return f.op(op+"ted", name)
}

type faultFile struct {
	vfs.File
	fs   *Fault
	name string
}

// WriteAt that fails leaves half of what it was to write.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.op("write", f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

// WriteVAt that fails leaves half of what it was to write.
func (f *faultFile) WriteVAt(bufs [][]byte, off int64) (int64, error) {
	err := f.fs.op("write", f.name)
	if err == nil {
		return f.File.WriteVAt(bufs, off)
	}
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	n, _ := f.File.WriteAt(all[:len(all)/2], off)
	return int64(n), err
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.op("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Allocate(size int64) error {
	if err := f.fs.op("allocate", f.name); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *faultFile) Fill(off, n int64) error {
	if err := f.fs.op("fill", f.name); err != nil {
		return err
	}
	return f.File.Fill(off, n)
}

func (f *faultFile) Sync() error {
	if err := f.fs.op("sync", f.name); err != nil {
		f.failSync()
		return err
	}
	return f.File.Sync()
}

// failSync tells a file that can forget that a sync of it has failed.
func (f *faultFile) failSync() {
	if forgetful, ok := f.File.(interface{ FailSync() }); ok {
		forgetful.FailSync()
	}
}

func (f *faultFile) Datasync() error {
	if err := f.fs.op("datasync", f.name); err != nil {
		f.failSync()
		return err
	}
	if err := f.File.Datasync(); err != nil {
		return err
	}
	return f.fs.op("datasynced", f.name)
}
