package boltspool

import (
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// What the tests in package boltspool_test need.
var (
	Long       = long
	Tries      = tries
	CheckIndex = checkIndex
)

// PretendFree returns opts for a spool whose file system has as much space free
// as setFree says; 0 is the truth.
func PretendFree(opts *Options) (_ *Options, setFree func(int64)) {
	o, fsys := *opts, vfstest.NewFault(vfs.OS{})
	o.fs = fsys
	return &o, fsys.SetFree
}
