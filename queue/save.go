package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// keeps reports whether a body with these messages may stay in memory: it is not
// too long, the spool would take it, and the scheduler can work on it at once.
func (s *Scheduler) keeps(size int64, entries []*spool.Entry) bool {
	if size > maxKeptBody || !storable(entries) || s.Ready() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.phase != running || s.mu.bytes >= s.opts.MemoryLimit || s.isSuspended(Deferred) {
		return false
	}
	q := s.mu.queues[Deferred]
	behind := func(e *spool.Entry) bool { return q.backlog.has(e.Class) }
	return !s.isSuspended(Deferred) && (q == nil || s.startable(q, len(entries)) && !slices.ContainsFunc(entries, behind))
}

// storable reports whether a spool surely takes the entries. What it would refuse
// it must be asked about before the messages are accepted.
func storable(entries []*spool.Entry) bool {
	for i, e := range entries {
		same := func(other *spool.Entry) bool { return other.ID == e.ID }
		if i >= maxKeptEntries || entrySize(e) > maxKeptBody || slices.ContainsFunc(entries[:i], same) {
			return false
		}
	}
	return true
}

// saveOnce stores bodies, each with all of its messages that are not done with,
// and gives those back to the spool that no job works on. The error is that of
// a body that was not stored.
func (s *Scheduler) saveOnce(ctx context.Context, bodies ...*keptBody) error {
	for i, b := range bodies {
		if err := b.acquire(ctx); err != nil {
			for _, b := range bodies[:i] {
				b.release()
			}
			return err
		}
	}
	idle, err := s.saveLocked(ctx, bodies)
	for _, b := range bodies {
		b.release()
	}
	s.release(idle)
	return err
}

func (s *Scheduler) saveLocked(ctx context.Context, bodies []*keptBody) (idle []*spool.Entry, failure error) {
	var todo []*keptBody
	var units []spool.Unit
	for _, b := range bodies {
		switch {
		case b.state == bodyLost:
			failure = ErrNotSaved
		case b.state == bodyStored, len(b.alive) == 0:
		default:
			if b.unit == nil {
				b.unit = b.inserts()
			}
			todo, units = append(todo, b), append(units, b.unit)
		}
	}
	if len(todo) == 0 {
		return nil, failure
	}
	errs := s.spool.Apply(ctx, units...)
	for i, b := range todo {
		if len(errs) > 0 && !s.wasSaved(b, errs[i]) {
			failure = errs[i]
			s.refusedToSave(b, failure)
			continue
		}
		b.state = bodyStored
		b.adopt(b.idle...)
		idle = append(idle, b.idle...)
		b.idle = nil
		s.forgetKept(b)
	}
	return idle, failure
}

// wasSaved reads the answer of the spool to the unit of b.
func (s *Scheduler) wasSaved(b *keptBody, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, spool.ErrAmbiguous):
		b.state = bodyUncertain // from here on only the same unit may be stored
	case b.state != bodyUncertain:
		b.unit = nil // what is over by the next attempt need not be in it
	case (errors.Is(err, spool.ErrExists) || errors.Is(err, spool.ErrFenced)) && s.fatal(nil) == nil:
		s.reread(b.unit) // an earlier attempt had succeeded
		return true
	}
	return false
}

// refusedToSave notes why b was not stored.
func (s *Scheduler) refusedToSave(b *keptBody, err error) {
	s.kept.mu.Lock()
	over := b.over
	s.kept.mu.Unlock()
	switch {
	case over:
		s.lose(b)
		return
	case s.hard.Err() != nil:
		return // the refusal is that of the scheduler's end
	}
	if s.kept.failed(b, err) {
		s.log.Warn("queue: messages that were accepted in memory cannot be stored; they stay there, and no more are accepted until they are", "error", err)
	}
}

func (s *Scheduler) forgetKept(b *keptBody) {
	if s.kept.remove(b) {
		s.log.Info("queue: the messages that waited in memory are stored")
	}
}

// shortestSave is waited after the first attempt to store that failed.
const shortestSave = 10 * time.Millisecond

// longestSave is the most that is waited between two attempts: so little that a
// stop has time for some.
func (s *Scheduler) longestSave() time.Duration {
	return max(min(s.opts.StopTimeout/4, 5*time.Second), shortestSave)
}

// save is saveOnce until it succeeded, the spool failed for good, or the
// scheduler gives up.
func (s *Scheduler) save(b *keptBody) error {
	for delay := shortestSave; ; delay = min(2*delay, s.longestSave()) {
		err := s.saveOnce(s.hard, b)
		if err == nil {
			return nil
		}
		if s.fatal(err) != nil {
			s.fail(err)
			return err
		}
		if !sleep(s.hard, delay) {
			return fmt.Errorf("queue: gave up storing: %w", errors.Join(err, context.Cause(s.hard)))
		}
	}
}

// saveJob stores what a job works on, if that has not been done.
func (s *Scheduler) saveJob(j *job) error {
	if j.body == nil {
		return nil
	}
	if err := s.save(j.body); err != nil {
		return err
	}
	if err := j.body.revise(s.hard, j.entry); err != nil {
		return err
	}
	j.body = nil
	return nil
}

// endKept ends messages that were never stored, and with the last one of its
// messages the body. false: they are stored, or may be, and are to be removed
// from the spool.
func (s *Scheduler) endKept(ctx context.Context, b *keptBody, entries ...*spool.Entry) bool {
	if b == nil || b.acquire(ctx) != nil {
		return false
	}
	defer b.release()
	if b.state != bodyKept {
		return b.state == bodyLost
	}
	left := slices.DeleteFunc(slices.Clone(b.alive), func(e *spool.Entry) bool { return slices.Contains(entries, e) })
	s.kept.mu.Lock()
	s.kept.mu.entries -= len(b.alive) - len(left)
	b.alive = left
	s.kept.mu.Unlock()
	if len(left) == 0 {
		s.forgetKept(b)
		b.writer.Abort()
	}
	return true
}

// handBack has messages of a kept body stored and given back to the spool, for
// which there was no slot. It waits for one attempt at that.
func (s *Scheduler) handBack(b *keptBody, entries []*spool.Entry) {
	if len(entries) == 0 || b.acquire(s.hard) != nil {
		return
	}
	stored := b.state == bodyStored
	if stored {
		b.adopt(entries...)
	} else {
		b.idle = append(b.idle, entries...)
	}
	b.release()
	switch {
	case stored:
		s.release(entries)
	case s.saveOnce(s.hard, b) != nil:
		s.startSaving(b)
	}
}

// startSaving has a task store b, if that is not nil, and all else that no job
// waits for.
func (s *Scheduler) startSaving(b *keptBody) {
	if s.kept.begin(b) && !s.pool.run(s.saveWaiting) {
		s.kept.end() // Run is over, and has counted what is left
	}
}

// saveWaiting runs as a task, one at a time.
func (s *Scheduler) saveWaiting() {
	delay := shortestSave
	for bodies := s.kept.next(); len(bodies) > 0; bodies = s.kept.next() {
		err := s.saveOnce(s.hard, bodies...)
		if err == nil {
			delay = shortestSave
			continue
		}
		if s.fatal(err) != nil {
			s.fail(err)
			s.kept.end()
			return
		}
		if !sleep(s.hard, delay) {
			s.kept.end()
			return
		}
		delay = min(2*delay, s.longestSave())
	}
}

// abandonKept ends what could not be stored when Run ends with err, and returns
// the error that tells both.
func (s *Scheduler) abandonKept(err error) error {
	bodies, cause := s.kept.rest()
	n := 0
	for _, b := range bodies {
		n += s.abandon(b)
	}
	if n == 0 {
		return err
	}
	notSaved := fmt.Errorf("%w: %d of them may be lost", ErrNotSaved, n)
	if cause != nil {
		notSaved = fmt.Errorf("%w: %w", notSaved, cause)
	}
	if err != nil {
		notSaved = fmt.Errorf("%w; %w", err, notSaved)
	}
	return notSaved
}

// lose ends a body that was not stored. Its lock is held.
func (s *Scheduler) lose(b *keptBody) {
	b.state = bodyLost
	s.kept.remove(b)
	b.writer.Abort()
}

// abandon ends a body that could not be stored and returns of how many messages
// it was.
func (s *Scheduler) abandon(b *keptBody) int {
	s.kept.mu.Lock()
	entries := b.alive
	s.kept.mu.Unlock()
	select {
	case b.lock <- struct{}{}:
		defer b.release()
		if b.state == bodyStored {
			return 0
		}
		s.lose(b)
	default: // the spool works on it
	}
	for _, e := range entries {
		s.log.Error("queue: a message that was accepted in memory was not stored and may be lost", "id", e.ID, "sender", e.Envelope.Sender)
	}
	return len(entries)
}
