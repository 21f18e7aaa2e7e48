package boltspool

import (
	"errors"
	"os"
)

// indexStep is how far the index file is allocated beyond what it needs, at least.
const indexStep = 1 << 20

// indexKeep is how many bytes new messages leave to updates and removes, which
// live on that when the disk is full. What these free they use again.
func indexKeep(used int64) int64 { return min(max(used/8, 2*indexStep), 64<<20) }

// An indexFile allocates the blocks of index.db ahead of bbolt, which itself
// would only make the file longer: a write of bbolt must not find the disk full.
type indexFile struct {
	f           file
	used        int64 // what bbolt uses of it
	size        int64 // allocated; -1 if the file system cannot
	unsupported bool
}

func openIndexFile(fsys vfs, name string) (*indexFile, error) {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &indexFile{f: f}, nil
}

// reserve makes sure that bbolt, which uses that many bytes now, can use need
// more. What it allocates is durable.
func (x *indexFile) reserve(used, need int64) error {
	x.used = used
	if x.unsupported || used+need <= x.size {
		return nil
	}
	ahead := used + need + min(max(used/8, indexStep), 16<<20)
	err := x.f.Allocate(ahead)
	if err != nil && isNoSpace(err) {
		ahead = used + need
		err = x.f.Allocate(ahead)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		x.unsupported = true
		return nil
	}
	if err != nil {
		return noSpace(err)
	}
	x.size = ahead
	return x.f.Sync()
}

// indexNeed is an upper bound of what a transaction with that many changed keys
// and that many bytes in them adds to an index that uses that much.
func indexNeed(used int64, keys int, bytes int64) int64 {
	const page = 4096
	return min(int64(keys)*4*page, used) + 3*bytes + 64*page
}
