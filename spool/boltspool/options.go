package boltspool

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	minSegment = 2 << 20
	maxSegment = 1 << 30
)

// Options configures a [Spool]. The zero value, like a nil *Options, selects
// the defaults. A negative value selects "none" where a field says so.
type Options struct {
	// LockTimeout is how long Open waits for another process that has the
	// directory open. Negative: it does not wait. Defaults to 1 second.
	LockTimeout time.Duration

	// SegmentSize is the size in bytes at which a segment file is closed and
	// the next one begun; from 2 MiB to 1 GiB. Its space is used again once nothing
	// in it is needed, or once so little is that the rest is moved. Smaller
	// segments give space back sooner, and cost a sync more often. Defaults to
	// 64 MiB.
	SegmentSize int64

	// StageMemory is how many bytes of bodies that are still arriving are kept
	// in memory, all of them together. What arrives beyond that goes to files
	// at once. Negative: everything does. Defaults to 64 MiB.
	StageMemory int64

	// MaxMessageSize is the largest body in bytes; a Write beyond it answers
	// spool.ErrTooLarge. Negative: as large as the format allows, which is 128 MiB
	// less than 4 GiB. Defaults to 1 GiB.
	MaxMessageSize int64

	// Reserve is how many bytes of the file system are left free for updates
	// and removes, and for what one unit inserts beside them. With less than
	// that, new messages are answered with spool.ErrFull; Create still makes the
	// bodies of updates. It must be smaller than the file system. Negative: none.
	// Defaults to 64 MiB.
	Reserve int64

	// ReserveInodes is how many files the file system must be able to take
	// beyond those that it has. With less than that, new messages are answered
	// with spool.ErrNoInodes. It must be smaller than what an empty file system
	// has; one that makes inodes as it needs them, such as Btrfs, is never short.
	// Negative: none. Defaults to 1024.
	ReserveInodes int64

	// Quota is how many bytes the stored messages may have together: bodies,
	// each once however many messages share it, and the records of the messages
	// (envelope, metadata, header). A new message that goes beyond is answered
	// with spool.ErrQuota, or spool.ErrTooLarge if it is larger than the quota
	// itself. The quota then counts as used up until a sixteenth of it is free.
	// Only units that do nothing but insert are refused for it: what handlers do
	// with stored messages may go beyond. Files take more than what is counted: a segment stays until none of
	// its bodies is needed, and index.db never shrinks; Reserve protects the disk.
	// Negative: none. Defaults to none.
	Quota int64

	// ReadOnly opens a spool to be looked at, by Scan, Open and Queues; everything
	// else answers an error. Nothing in the directory is changed, so that it may be
	// a backup on a medium that cannot be written. Several processes may look at the
	// same time, but none that has it open otherwise. The directory must hold a
	// spool. Defaults to false.
	ReadOnly bool

	// Logger receives what happens aside from any call: damage that was found,
	// files that could not be deleted, and the beginning and end of the states
	// spool.ErrFull, spool.ErrNoInodes, spool.ErrQuota and spool.ErrFailed. Defaults to slog.Default().
	Logger *slog.Logger

	// What tests put in the place of the operating system, of bbolt, and of
	// SegmentSize, however small.
	fs          vfs.FS
	index       indexStore
	segmentSize int64
	manual      bool // the keeper does nothing by itself
}

// withDefaults returns a complete copy of o, or says what is wrong with it.
func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	setDefault(&c.LockTimeout, time.Second)
	setDefault(&c.SegmentSize, 64<<20)
	setDefault(&c.StageMemory, 64<<20)
	setDefault(&c.MaxMessageSize, 1<<30)
	setDefault(&c.Reserve, 64<<20)
	if c.SegmentSize < minSegment || c.SegmentSize > maxSegment {
		return c, fmt.Errorf("boltspool: Options.SegmentSize is %d bytes: want 2 MiB to 1 GiB", c.SegmentSize)
	}
	if c.segmentSize > 0 {
		c.SegmentSize = c.segmentSize
	}
	if c.MaxMessageSize < 0 || c.MaxMessageSize > index.MaxBody {
		c.MaxMessageSize = index.MaxBody
	}
	setDefault(&c.ReserveInodes, 1024)
	c.Reserve, c.ReserveInodes, c.Quota = max(c.Reserve, 0), max(c.ReserveInodes, 0), max(c.Quota, 0)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.fs == nil {
		c.fs = vfs.OS{}
	}
	if c.index == nil {
		c.index = boltIndex{}
	}
	return c, nil
}

func setDefault[T time.Duration | int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
