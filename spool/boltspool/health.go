package boltspool

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/deferredqueue/deferredqueue/spool"
)

// usable returns ErrClosed, ErrFailed or nil.
func (s *Spool) usable() error {
	if s.closed.Load() {
		return spool.ErrClosed
	}
	return s.failed()
}

func (s *Spool) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Health returns nil; spool.ErrFull while less than Options.Reserve is free or
// a write found no room, which the spool finds out by itself to have ended;
// spool.ErrFailed after a failed write or sync, until the spool is opened
// again; spool.ErrClosed. It never blocks.
func (s *Spool) Health() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.full.Load() {
		return fmt.Errorf("boltspool: %s: %w", s.dir, spool.ErrFull)
	}
	return nil
}

// fail notes that what is on disk is uncertain. The first cause stays.
func (s *Spool) fail(cause error) error {
	err := fmt.Errorf("boltspool: %s: %w: %w", s.dir, spool.ErrFailed, cause)
	if s.failure.CompareAndSwap(nil, &err) {
		s.log.Error("boltspool: storage failed; the spool must be opened again", "dir", s.dir, "error", cause)
		s.notify()
	}
	return s.failed()
}

// passing returns what the caller is told if err will pass by itself: ErrFull or
// ErrBusy. It returns nil for everything after which the disk is in doubt.
func (s *Spool) passing(err error) error {
	switch {
	case errors.Is(err, errNoSpace):
		s.setFull(true)
		return fmt.Errorf("boltspool: %s: %w: %w", s.dir, spool.ErrFull, err)
	case errors.Is(err, errTooMany):
		return fmt.Errorf("boltspool: %s: %w: %w", s.dir, spool.ErrBusy, err)
	}
	return nil
}

// writeError turns the error of a write outside the committer into one of
// package spool.
func (s *Spool) writeError(err error) error {
	if err == nil {
		return nil
	}
	if passing := s.passing(err); passing != nil {
		return passing
	}
	return s.fail(err)
}

// readError turns the error of reading a body into one of package spool.
func (s *Spool) readError(id spool.ID, err error) error {
	switch {
	case isTooMany(err):
		return fmt.Errorf("boltspool: body %s: %w: %w", id, spool.ErrBusy, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("boltspool: body %s: %w", id, err)
	}
	return &spool.CorruptError{ID: id, Part: "body", Err: err}
}

func (s *Spool) corruptBody(id spool.ID) func(error) error {
	return func(err error) error { return s.readError(id, err) }
}

func (s *Spool) setFull(full bool) {
	if s.full.Swap(full) == full {
		return
	}
	if full {
		s.log.Warn("boltspool: no space; new messages are refused", "dir", s.dir, "reserve", s.opts.Reserve)
		s.inbox.hint() // the committer looks from now on whether there is room
	} else {
		s.log.Info("boltspool: there is space again", "dir", s.dir)
	}
	s.notify()
}

// checkSpace returns ErrFull if new messages must be refused.
func (s *Spool) checkSpace() error {
	if !s.full.Load() && s.hasReserve() {
		return nil
	}
	s.setFull(true)
	return fmt.Errorf("boltspool: less than %d bytes are left for %s: %w", s.opts.Reserve, s.dir, spool.ErrFull)
}

func (s *Spool) hasReserve() bool {
	free, err := s.fs.Free(s.dir)
	if err != nil {
		s.log.Warn("boltspool: free space is unknown", "dir", s.dir, "error", err)
		return true // the write itself will tell
	}
	return free >= s.opts.Reserve
}

// probeSpace ends the state of being full once the reserve is free and the next
// messages would find room. The committer calls it.
func (s *Spool) probeSpace() {
	if s.failed() != nil || !s.hasReserve() {
		return
	}
	var err error
	if s.segs.cur != nil {
		err = s.segs.reserve(s.segs.off + maxSegmentBody)
	}
	if err == nil {
		err = s.indexFile.reserve(s.indexFile.used, indexStep+indexKeep(s.indexFile.used))
	}
	switch {
	case err == nil:
		s.setFull(false)
	case !errors.Is(err, errNoSpace):
		s.fail(err) // a sync among them cannot be tried again
	}
}

// notify leaves a hint in Changed.
func (s *Spool) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Changed receives a hint after an entry became claimable otherwise than by the
// passing of time, and after Health changed.
func (s *Spool) Changed() <-chan struct{} { return s.changed }
