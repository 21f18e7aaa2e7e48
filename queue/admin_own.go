package queue

import (
	"context"
	"errors"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// own makes the messages with these IDs, which are sorted, those of the action: it
// takes out of memory what waits there, and claims the others. It returns those that
// are still selected and counts the rest. On error it owns none.
func (a *action) own(ctx context.Context, ids []spool.ID) ([]*spool.Entry, error) {
	s := a.s
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	jobs, rest, running := a.takeOut(ids)
	var claimed []*spool.Entry
	var err error
	if len(rest) > 0 {
		claimed, _, err = s.spool.Claim(ctx, spool.ClaimRequest{IDs: rest})
	}
	s.looked()

	owned := a.ownedJobs(ctx, jobs)
	var damage *spool.CorruptError
	if err != nil && !errors.As(err, &damage) {
		s.release(owned)
		s.fail(err)
		return nil, err
	}
	left := map[spool.ID]bool{}
	for _, id := range rest {
		left[id] = true
	}
	a.failDamaged(err, left)
	owned = append(owned, a.judge(claimed, left)...)
	if err := a.countLeft(ctx, left, running); err != nil {
		s.release(owned)
		return nil, err
	}
	return owned, nil
}

// takeOut takes the messages out of memory that wait there. rest are those that it
// has not met there, and running those whose handler runs.
func (a *action) takeOut(ids []spool.ID) (jobs []*job, rest []spool.ID, running map[spool.ID]bool) {
	s := a.s
	wanted := make(map[spool.ID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	now := time.Now()
	running = map[spool.ID]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs = s.take(a.filter.Queue, func(j *job) bool {
		if !wanted[j.entry.ID] {
			return false
		}
		delete(wanted, j.entry.ID)
		putOff := j.at.After(now)
		if !a.selects(j.entry) || a.idle != nil && a.idle(j.entry, now) && !putOff {
			a.result.Skipped++
			return false
		}
		return true
	})
	for _, id := range ids {
		if wanted[id] {
			rest = append(rest, id)
			if s.mu.working[id] > 0 {
				running[id] = true
			}
		}
	}
	return jobs, rest, running
}

// worksOn reports whether a message runs here, or may wait in memory for its time
// although it is due.
func (s *Scheduler) worksOn(id spool.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.working[id] > 0 || len(s.mu.later) > 0
}

// ownedJobs returns the entries of what was taken out of memory. What is in memory
// alone is stored first.
func (a *action) ownedJobs(ctx context.Context, jobs []*job) (owned []*spool.Entry) {
	for _, j := range jobs {
		if err := a.s.storeTaken(ctx, j); err != nil {
			a.result.fail(j.entry.ID, err)
			continue
		}
		owned = append(owned, j.entry)
	}
	return owned
}

// storeTaken stores a message that may be in memory alone. If that does not succeed
// it stays there, and is stored and given back to the spool later.
func (s *Scheduler) storeTaken(ctx context.Context, j *job) error {
	if j.body == nil {
		return nil
	}
	err := s.saveOnce(ctx, j.body)
	if err == nil {
		err = j.body.revise(s.hard, j.entry)
	}
	if err != nil {
		s.handBack(j.body, []*spool.Entry{j.entry})
		return err
	}
	j.body = nil
	return nil
}

// failDamaged counts the damage that a claim has met.
func (a *action) failDamaged(err error, left map[spool.ID]bool) {
	if err == nil {
		return
	}
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		var damage *spool.CorruptError
		if errors.As(err, &damage) {
			delete(left, damage.ID)
			a.result.fail(damage.ID, err)
		}
	}
}

// judge returns the claimed messages that are selected as they are now, and gives the
// others back.
func (a *action) judge(claimed []*spool.Entry, left map[spool.ID]bool) (owned []*spool.Entry) {
	now := time.Now()
	var back []*spool.Entry
	for _, e := range claimed {
		delete(left, e.ID)
		if !a.selects(e) || a.idle != nil && a.idle(e, now) {
			a.result.Skipped++
			back = append(back, e)
			continue
		}
		owned = append(owned, e)
	}
	a.s.release(back)
	return owned
}

// countLeft counts what could not be owned.
func (a *action) countLeft(ctx context.Context, left, running map[spool.ID]bool) error {
	found, err := a.s.lookup(ctx, left)
	if err != nil {
		return err
	}
	for id := range left {
		e := found[id]
		switch {
		case e == nil && a.filter.IDs != nil:
			a.result.fail(id, errNotFound(id))
		case e == nil: // it has come to its end meanwhile
		case !a.selects(e):
			a.result.Skipped++
		case running[id]:
			a.result.RunningHere++
		default:
			a.result.OwnedElsewhere++
		}
	}
	return nil
}

// look waits until no entry is on its way from the spool into memory or back, where
// neither is asked for it, and keeps others from setting out until looked is called.
func (s *Scheduler) look(ctx context.Context) error {
	s.mu.Lock()
	s.mu.looking++
	for s.mu.passing > 0 {
		if s.mu.passed == nil {
			s.mu.passed = make(chan struct{})
		}
		passed := s.mu.passed
		s.mu.Unlock()
		select {
		case <-passed:
		case <-ctx.Done():
			s.looked()
			return context.Cause(ctx)
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
	return nil
}

func (s *Scheduler) looked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.looking--; s.mu.looking == 0 {
		s.kick()
	}
}

// transfer runs a task that brings entries from the spool into memory or back, for
// which operators wait. mu is held.
func (s *Scheduler) transfer(task func()) {
	s.mu.passing++
	s.pool.run(func() {
		task()
		s.passed()
	})
}

// passed notes that entries have arrived that were on their way.
func (s *Scheduler) passed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.passing--; s.mu.passing == 0 && s.mu.passed != nil {
		close(s.mu.passed)
		s.mu.passed = nil
	}
}
