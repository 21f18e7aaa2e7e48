package boltspool

import (
	"errors"
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// usable returns ErrClosed, ErrFailed or nil.
func (s *Spool) usable() error {
	if s.closed.Load() {
		return spool.ErrClosed
	}
	return s.failed()
}

// writable returns what usable does, or that the spool was opened to be read only.
func (s *Spool) writable() error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return fmt.Errorf("boltspool: %s was opened with Options.ReadOnly", s.dir)
	}
	return nil
}

func (s *Spool) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Health returns nil; spool.ErrFull while less than Options.Reserve is free or
// a write found no room; spool.ErrNoInodes and spool.ErrQuota, which are
// spool.ErrFull too, while Options.ReserveInodes are not free or Options.Quota
// is used up; spool.ErrFailed after a failed write or sync, until the spool is
// opened again; spool.ErrClosed. It never blocks: the spool itself looks at the
// disk, about once a second while nothing is written, and finds out that
// messages can be stored again.
func (s *Spool) Health() error {
	if err := s.usable(); err != nil {
		return err
	}
	return s.shortageError(shortBytes | shortInodes | shortQuota)
}

// fail notes that what is on disk is uncertain. The first cause stays.
func (s *Spool) fail(cause error) error {
	err := fmt.Errorf("boltspool: %s: %w: %w", s.dir, spool.ErrFailed, cause)
	if s.failure.CompareAndSwap(nil, &err) {
		s.logger.Error("boltspool: storage failed; the spool must be opened again", "dir", s.dir, "error", cause)
		s.notify()
	}
	return s.failed()
}

// passing returns what the caller is told if err will pass by itself: ErrFull or
// ErrBusy. It returns nil for everything after which the disk is in doubt.
func (s *Spool) passing(err error) error {
	switch {
	case errors.Is(err, vfs.ErrNoSpace):
		return s.foundFull(err)
	case errors.Is(err, vfs.ErrTooMany):
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
