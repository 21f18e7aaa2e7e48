package boltspool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Spool keeps bodies in segment files and entries in a bbolt index, in one
// directory that one process has open at a time. It implements spool.Spool and
// spool.Starter and is safe for concurrent use.
//
// What an entry costs in memory does not depend on how large it is: see the
// package documentation. Open makes one.
type Spool struct {
	dir, bigDir string
	opts        Options
	log         *slog.Logger
	fs          vfs
	lock        *os.File
	db          *bbolt.DB
	marks       *marks
	stage       stagePool
	inbox       inbox
	changed     chan struct{}
	bodyDamage  bool // found at open: nothing is deleted then

	closed  atomic.Bool
	failure atomic.Pointer[error]

	shortages   atomic.Uint32 // those that hold
	roomUnknown atomic.Bool   // the file system does not say what is free

	// What the committer owns.
	committerDone chan struct{}
	segs          *segments
	indexFile     *indexFile
	rev           uint64    // the highest revision given to an entry
	used          int64     // bytes of bodies and of entries' records that are stored
	watched       time.Time // when free space was last looked at with nothing to write

	bigDirs struct { // one at a time makes a directory for big bodies
		sync.Mutex
		durable map[string]bool
	}

	mu struct {
		sync.Mutex
		index   *index
		damaged map[spool.ID]error // entries that are set aside
		unsaid  []error            // damage that no Claim has reported
	}
}

var (
	_ spool.Spool   = (*Spool)(nil)
	_ spool.Starter = (*Spool)(nil)
)

// Open opens the spool in dir, or makes one, with modes 0700 and 0600. A nil
// opts selects the defaults.
//
// It reads the whole index, cuts off what was being written when the last
// process ended, deletes files to which nothing refers, and counts up
// Interrupted of the entries that were between Started and Ended when that
// process died. When another process has the directory open, it waits for
// Options.LockTimeout, then the error names the directory and that process. An
// error also says if the files are of a later format, or so damaged that no
// entry can be trusted; nothing is deleted then. Single entries or bodies that
// are damaged do not keep a spool from being opened: Claim and Open report them.
func Open(dir string, opts *Options) (*Spool, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Spool{
		dir: dir, bigDir: filepath.Join(dir, "big"), opts: o, log: o.Logger, fs: o.fs,
		changed:       make(chan struct{}, 1),
		committerDone: make(chan struct{}),
	}
	s.inbox.wake = make(chan struct{}, 1)
	s.stage.max = o.StageMemory
	s.bigDirs.durable = make(map[string]bool)
	s.mu.index = newIndex()
	s.mu.damaged = make(map[spool.ID]error)
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, err
	}
	s.use(0)
	s.look()
	go s.commitLoop()
	return s, nil
}

// Create begins to stage a body: up to about 1 MiB in memory as long as
// Options.StageMemory lasts, beyond that in a file. It does not wait for the
// disk, and size is not needed. A quota that is used up is no reason to refuse:
// the body may be for a stored message, or for the notice of one. Commit judges.
func (s *Spool) Create(ctx context.Context, size int64) (spool.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.shortageError(shortBytes | shortInodes); err != nil {
		return nil, err
	}
	return &writer{s: s, id: spool.NewID()}, nil
}

// Close waits for what the committer has taken up or still has before it, ends
// all marks of Started, and gives the directory free. Bodies that are open stay
// readable. After spool.ErrFailed it writes nothing more. A second Close answers
// spool.ErrClosed.
func (s *Spool) Close() error {
	if s.closed.Swap(true) {
		return spool.ErrClosed
	}
	s.inbox.close()
	<-s.committerDone
	err := s.marks.clear()
	return errors.Join(err, s.closeFiles())
}

func (s *Spool) closeFiles() error {
	var errs []error
	if s.segs != nil {
		s.segs.close()
	}
	if s.indexFile != nil {
		errs = append(errs, s.indexFile.f.Close())
	}
	if s.marks != nil {
		errs = append(errs, s.marks.f.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil { // last: from here on another may open
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// view runs f in a read transaction, which must be short: it pins pages.
func (s *Spool) view(f func(entries, bodies *bbolt.Bucket) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	err := s.readIndex(f)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return spool.ErrClosed
	}
	if errors.Is(err, errIndexDamage) {
		return s.fail(err)
	}
	return err
}

func (s *Spool) readIndex(f func(entries, bodies *bbolt.Bucket) error) (err error) {
	defer recoverIndex(&err)()
	return s.db.View(func(tx *bbolt.Tx) error {
		return f(tx.Bucket(bucketEntries), tx.Bucket(bucketBodies))
	})
}

// recoverIndex turns a panic of bbolt, or a fault in the pages that it maps,
// into an error. Defer what it returns.
func recoverIndex(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			*err = indexDamage(p)
		}
	}
}
