package boltspool

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	// maxDirty is how many changed entries a checkpoint is written for at the latest.
	maxDirty = 64 << 10
	// maxBehind is how many there may be before the committer waits for one that is
	// being written.
	maxBehind = 8 * maxDirty
	// keeperRest is how long the keeper rests after something that it could not do, and
	// how long it watches a segment before it moves what is left in it.
	keeperRest = time.Second
)

// A keeper looks after the files of a spool: it writes checkpoints, takes
// segments away that are not needed, moves what is left in those that hardly are,
// and makes the next ones ready. Nobody waits for it.
type keeper struct {
	s    *Spool
	file indexFile
	wake chan struct{} // holds one hint
	stop chan struct{}
	done chan struct{}

	saved   atomic.Uint64 // the place of the last checkpoint
	writes  atomic.Int64  // checkpoints
	moved   atomic.Int64  // bytes that collect has moved
	command chan func()   // what others want done in between

	writing sync.Mutex // held while a checkpoint is written

	tried   map[uint32]int64    // how much of a segment was needed when collect had tried it
	watched map[uint32]sighting // segments of which hardly anything is needed, and less may be soon
}

func newKeeper(s *Spool, file indexFile) *keeper {
	return &keeper{
		s: s, file: file,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), command: make(chan func()),
	}
}

// begin brings the checkpoint up to what was found when the spool was opened, and
// reserves room for those to come.
func (k *keeper) begin() error {
	if k.s.dirty() || k.due() {
		if err := k.checkpoint(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return err
		}
	}
	if err := k.file.Keep(); err != nil && !errors.Is(err, vfs.ErrNoSpace) { // as long as there is space
		return fmt.Errorf("checkpoint: %w", err)
	}
	k.s.log.Reclaim(k.place().Segment())
	k.hint() // segments may be sparse
	return nil
}

func (k *keeper) place() seglog.Place { return seglog.Place(k.saved.Load()) }

// look wakes the keeper if there is something to do. The committer calls it after
// each group.
func (k *keeper) look() {
	dirty, due := k.behind()
	if due || k.s.log.Work() {
		k.hint()
	}
	if dirty > maxBehind { // what is in memory for the next checkpoint stays bounded
		k.writing.Lock()
		k.writing.Unlock() //lint:ignore SA2001 the wait is what is wanted
	}
}

func (k *keeper) hint() {
	if k.s.opts.manual {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// due reports whether it is time for a checkpoint.
func (k *keeper) due() bool {
	_, due := k.behind()
	return due
}

// behind returns how many entries have changed since the last checkpoint, and
// whether the next is due.
func (k *keeper) behind() (dirty int, due bool) {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	dirty = s.mu.index.Dirty()
	return dirty, dirty >= maxDirty || s.mu.end.Place.Segment() > k.place().Segment()
}

func (k *keeper) loop() {
	defer close(k.done)
	again := time.NewTimer(keeperRest)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-k.stop:
			return
		case do := <-k.command:
			do()
			continue
		case <-k.wake:
		case <-again.C:
		}
		if err := k.work(); err != nil {
			if k.s.failed() != nil {
				continue
			}
			rest := time.NewTimer(keeperRest)
			select {
			case <-rest.C:
				k.hint()
			case <-k.stop:
				rest.Stop()
				return
			}
		}
		if len(k.watched) > 0 {
			again.Reset(keeperRest)
		}
	}
}

// work does what is to be done. What it could not do for want of space it is to
// try again.
func (k *keeper) work() error {
	if k.s.failed() != nil {
		return nil
	}
	var err error
	if k.due() {
		err = k.checkpoint()
	}
	for more := true; err == nil && more; {
		k.s.log.Reclaim(k.place().Segment())
		if more, err = k.collect(); err == nil && k.due() {
			err = k.checkpoint()
		}
	}
	if err == nil && k.s.affords(k.s.opts.SegmentSize) {
		err = k.s.log.Prepare()
	}
	switch {
	case err == nil:
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, vfs.ErrTooMany), errors.Is(err, spool.ErrFull): // the last is the committer's
		k.s.logger.Debug("boltspool: the files of the spool are left as they are for the moment", "dir", k.s.dir, "error", err)
	default:
		k.s.fail(err)
	}
	return err
}

// checkpoint writes what has changed since the last one.
func (k *keeper) checkpoint() error {
	k.writing.Lock()
	defer k.writing.Unlock()
	s := k.s
	s.publishing.Lock()
	s.mu.Lock()
	c := &checkpoint.Change{State: s.mu.end, Snap: s.mu.index.Snapshot(), Drop: s.mu.unwanted, Damage: s.mu.unwritten}
	c.State.Entries = uint64(s.mu.index.Len()) + s.mu.lost
	s.mu.unwritten, s.mu.unwanted = nil, nil
	s.mu.Unlock()
	s.publishing.Unlock()
	if err := k.file.Write(c); err != nil {
		k.undo(c)
		return fmt.Errorf("checkpoint: %w", err)
	}
	k.saved.Store(uint64(c.State.Place))
	k.writes.Add(1)
	if err := k.file.Keep(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// dirty reports whether the last checkpoint does not say all that is known. The
// caller holds mu.
func (s *Spool) dirty() bool {
	return s.mu.index.Dirty() > 0 || len(s.mu.unwritten) > 0 || len(s.mu.unwanted) > 0
}

func (k *keeper) undo(c *checkpoint.Change) {
	s := k.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.index.Undo(c.Snap)
	s.mu.unwritten = append(c.Damage, s.mu.unwritten...)
	s.mu.unwanted = append(c.Drop, s.mu.unwanted...)
}

// run has the keeper do something in between, and waits for it. It reports false
// if the spool is closed.
func (k *keeper) run(do func()) bool {
	finished := make(chan struct{})
	select {
	case k.command <- func() { defer close(finished); do() }:
		<-finished
		return true
	case <-k.done:
		return false
	}
}

// close ends the loop, and writes a last checkpoint, unless storage failed.
func (k *keeper) close() error {
	close(k.stop)
	<-k.done
	s := k.s
	if s.failed() != nil {
		return nil
	}
	s.mu.Lock()
	changed := s.dirty() || s.mu.end.Place != k.place()
	s.mu.Unlock()
	if !changed {
		return nil
	}
	err := k.checkpoint()
	if errors.Is(err, vfs.ErrNoSpace) {
		s.logger.Warn("boltspool: no space for a checkpoint; the next start reads the log instead", "dir", s.dir, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("boltspool: %s: %w", s.dir, err)
	}
	return nil
}
