package boltspool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A Spool keeps entries and bodies in a log of segment files, and a checkpoint of
// where they are in a bbolt index, in one directory that one process has open at
// a time. It implements spool.Spool and spool.Starter and is safe for concurrent
// use.
//
// What an entry costs in memory does not depend on how large it is: see the
// package documentation. Open makes one.
type Spool struct {
	dir, bigDir string
	opts        Options
	logger      *slog.Logger
	fs          vfs.FS
	lock        *os.File
	id          spool.ID // the name of the spool, for good
	log         *seglog.Log
	marks       *marks
	stage       stagePool
	inbox       inbox
	keeper      *keeper
	counted     counters
	synced      seglog.Place // up to where Rebuild knows that the log was durable
	leftOut     int          // entries that Rebuild did not take up
	healed      int          // records of the index that were damaged, and that the log has
	changed     chan struct{}

	closed  atomic.Bool
	failure atomic.Pointer[error]

	shortages   atomic.Uint32 // those that hold
	roomUnknown atomic.Bool   // the file system does not say what is free
	watched     time.Time     // when free space was last looked at with nothing to write; the committer's

	committerDone chan struct{} // nil if there is none

	bigDirs struct { // one at a time makes a directory for big bodies
		sync.Mutex
		durable map[string]bool
	}

	backups    sync.RWMutex // shared by each Backup, for whose end Close waits
	publishing sync.Mutex   // held while mu.index is between two groups, with mu or without

	mu struct {
		sync.Mutex
		index     *index.Index
		end       checkpoint.State   // what a checkpoint of index would say
		judged    *group             // whose changes do not show yet; nil: there is none
		damaged   map[spool.ID]error // entries that are set aside
		lost      uint64             // records of the checkpoint that say nothing any more
		regions   []error            // damage in the log, of which no entry is known
		unsaid    []error            // damage that no Claim has reported
		unwritten [][]byte           // damage that no checkpoint has
		unwanted  [][]byte           // keys of damaged records that the next checkpoint drops
		kept      int                // how many ask that no file be deleted
		discarded []string           // files to be deleted when nobody asks for that
	}
}

var (
	_ spool.Spool   = (*Spool)(nil)
	_ spool.Starter = (*Spool)(nil)
)

// Open opens the spool in dir, or makes one, with modes 0700 and 0600. A nil
// opts selects the defaults.
//
// It reads the index, and what the log holds beyond it; it cuts off what was
// being written when the last process ended, deletes files to which nothing
// refers, and counts up Interrupted of the entries that were between Started and
// Ended when that process died. When another process has the directory open, it
// waits for Options.LockTimeout, then the error names the directory and that
// process. An error also says if the files are of another format, or the index so
// damaged that Rebuild must make it anew; nothing is deleted then. Single entries
// or bodies that are damaged do not keep a spool from being opened: Scan, Claim
// and Open report them.
func Open(dir string, opts *Options) (*Spool, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := newSpool(dir, o)
	if err := s.begin(); err != nil {
		return nil, err
	}
	return s, nil
}

// begin opens the spool, and has it work.
func (s *Spool) begin() error {
	if err := s.open(); err != nil {
		s.closeFiles()
		return err
	}
	if !s.opts.ReadOnly {
		s.use(s.mu.index.Bytes())
		s.look()
		s.committerDone = make(chan struct{})
		go s.commitLoop()
		go s.keeper.loop()
	}
	return nil
}

func newSpool(dir string, o Options) *Spool {
	s := &Spool{
		dir: dir, bigDir: filepath.Join(dir, "big"), opts: o, logger: o.Logger, fs: o.fs,
		changed: make(chan struct{}, 1),
	}
	s.inbox.wake, s.inbox.bodies = make(chan struct{}, 1), max(o.StageMemory, 0)
	s.stage.max = o.StageMemory
	s.bigDirs.durable = make(map[string]bool)
	s.mu.index = index.New()
	s.mu.damaged = make(map[spool.ID]error)
	return s
}

// Create begins to stage a body: up to about 1 MiB in memory as long as
// Options.StageMemory lasts, beyond that in a file. It does not wait for the
// disk, and size is not needed. A lack of space or a quota that is used up is no
// reason to refuse: the body may be for a stored message, or for the notice of
// one. Commit judges, and so does Write when it needs a file.
func (s *Spool) Create(ctx context.Context, size int64) (spool.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	return &writer{s: s, id: spool.NewID()}, nil
}

// Close waits for what the committer has taken up or still has before it, writes
// a checkpoint, so that the next Open has little to read, ends all marks of
// Started, and gives the directory free. Bodies that are open stay readable. After
// spool.ErrFailed it writes nothing more. A second Close answers spool.ErrClosed.
func (s *Spool) Close() error {
	if s.closed.Swap(true) {
		return spool.ErrClosed
	}
	if s.committerDone == nil {
		return s.closeFiles()
	}
	s.inbox.close()
	<-s.committerDone
	s.backups.Lock() // they end now, and use what Close takes away
	defer s.backups.Unlock()
	err := s.keeper.close()
	err = errors.Join(err, s.marks.clear())
	return errors.Join(err, s.closeFiles())
}

func (s *Spool) closeFiles() error {
	var errs []error
	if s.log != nil {
		s.log.Close()
	}
	if s.marks != nil {
		errs = append(errs, s.marks.f.Close())
	}
	if s.keeper != nil && s.keeper.file != nil {
		errs = append(errs, s.keeper.file.Close())
	}
	if s.lock != nil { // last: from here on another may open
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
