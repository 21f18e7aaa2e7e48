package vfstest

import (
	"io"
	"io/fs"
	"time"
)

// A crashFile is an open file of a Crash.
type crashFile struct {
	fs *Crash
	n  *node
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	read := 0
	for read < len(p) && off < f.n.size() {
		within := off % blockSize
		part := p[read : read+int(min(int64(len(p)-read), blockSize-within, f.n.size()-off))]
		clear(part)
		if b := f.n.blocks[off/blockSize]; b != nil && b.current() != nil {
			copy(part, b.current()[within:])
		}
		read += len(part)
		off += int64(len(part))
	}
	if read < len(p) {
		return read, io.EOF
	}
	return read, nil
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.step(func() error {
		f.n.write(p, off)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteVAt is one operation: what survives of it is any subset all the same.
func (f *crashFile) WriteVAt(bufs [][]byte, off int64) (n int64, err error) {
	err = f.fs.step(func() error {
		for _, b := range bufs {
			f.n.write(b, off+n)
			n += int64(len(b))
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f *crashFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.n.size(), nil
}

func (f *crashFile) Truncate(size int64) error {
	return f.fs.step(func() error {
		f.n.truncate(size)
		return nil
	})
}

func (f *crashFile) Allocate(size int64) error {
	return f.fs.step(func() error {
		if size > f.n.size() {
			f.n.setSize(size)
		}
		return nil
	})
}

func (f *crashFile) Fill(off, n int64) error {
	_, err := f.WriteAt(make([]byte, n), off)
	return err
}

func (f *crashFile) Sync() error {
	return f.fs.step(func() error {
		if !f.fs.NoSync {
			f.n.syncFile()
		}
		return nil
	})
}

func (f *crashFile) Datasync() error { return f.Sync() }

// FailSync is what becomes of the file when a sync of it fails.
func (f *crashFile) FailSync() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.n.failSync()
}

func (f *crashFile) Close() error { return nil }

// A dirEntry is what ReadDir says of a node. It is its own fs.FileInfo.
type dirEntry struct {
	name  string
	isDir bool
	size  int64
}

func newDirEntry(name string, n *node) dirEntry {
	if n.isDir {
		return dirEntry{name, true, 0}
	}
	return dirEntry{name, false, n.size()}
}

func (d dirEntry) Name() string               { return d.name }
func (d dirEntry) IsDir() bool                { return d.isDir }
func (d dirEntry) Type() fs.FileMode          { return d.Mode().Type() }
func (d dirEntry) Info() (fs.FileInfo, error) { return d, nil }
func (d dirEntry) Size() int64                { return d.size }
func (d dirEntry) ModTime() time.Time         { return time.Time{} }
func (d dirEntry) Sys() any                   { return nil }

func (d dirEntry) Mode() fs.FileMode {
	if d.isDir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
