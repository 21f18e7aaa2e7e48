package checkpoint

import (
	"errors"
	"os"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// spaceStep is how far the file is allocated beyond what it needs, at least.
const spaceStep = 1 << 20

// keep is how many bytes are allocated for the changes to come, when the disk
// may be full: those to which a full spool owes that it can empty itself.
func keep(used int64) int64 { return min(max(used/8, 2*spaceStep), 64<<20) }

// A space allocates the blocks of the file ahead of bbolt, which itself would
// only make it longer: a write of bbolt must not find the disk full.
type space struct {
	f           vfs.File
	size        int64 // allocated
	unsupported bool
}

func openSpace(fsys vfs.FS, name string, readOnly bool) (*space, error) {
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := fsys.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	return &space{f: f}, nil
}

// reserve makes sure that bbolt, which uses that many bytes now, can use need
// more. What it allocates is durable.
func (s *space) reserve(used, need int64) error {
	if s.unsupported || used+need <= s.size {
		return nil
	}
	ahead := used + need + min(max(used/8, spaceStep), 16<<20)
	err := s.f.Allocate(ahead)
	if err != nil && errors.Is(vfs.WriteError(err), vfs.ErrNoSpace) {
		ahead = used + need
		err = s.f.Allocate(ahead)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		s.unsupported = true
		return nil
	}
	if err != nil {
		return vfs.WriteError(err)
	}
	s.size = ahead
	return s.f.Sync()
}

// need is an upper bound of what a transaction with that many changed keys and
// that many bytes in them adds to a file that uses that much.
func need(used int64, keys int, bytes int64) int64 {
	const page = 4096
	return min(int64(keys)*4*page, used) + 3*bytes + 64*page
}
