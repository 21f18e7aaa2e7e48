package boltspool

import (
	"io/fs"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A hookedFS hands every sync of a file or a directory to hook, which does it by
// calling sync, or does not. The commits of the index are left alone.
type hookedFS struct {
	vfs.FS
	hook func(name string, sync func() error) error
}

// HookSyncs returns opts for a spool whose syncs are up to hook.
func HookSyncs(opts *Options, hook func(name string, sync func() error) error) *Options {
	o := *opts
	if o.fs == nil {
		o.fs = vfs.OS{}
	}
	o.fs = &hookedFS{o.fs, hook}
	return &o
}

func (h *hookedFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, h.hook, name}, nil
}

func (h *hookedFS) SyncDir(name string) error {
	return h.hook(name, func() error { return h.FS.SyncDir(name) })
}

type hookedFile struct {
	vfs.File
	hook func(name string, sync func() error) error
	name string
}

func (f *hookedFile) Sync() error     { return f.hook(f.name, f.File.Sync) }
func (f *hookedFile) Datasync() error { return f.hook(f.name, f.File.Datasync) }
