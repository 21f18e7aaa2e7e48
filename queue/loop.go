package queue

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// claimBatch bounds one claim, so that a large backlog of one queue comes
	// in between the entries of others.
	claimBatch = 256

	// claimInterval bounds the time between claims: hints of a shared spool may
	// be missed, and the wall clock may be set.
	claimInterval = time.Minute

	// retryDelay is waited after a claim that failed for a reason of the moment.
	retryDelay = time.Second
)

// loop is the owner of the schedule: it enforces deadlines, starts what is due
// and claims what falls due, until ctx is done or the spool fails.
func (s *Scheduler) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(s.step())
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failed:
			return err
		case <-s.spool.Changed():
			if err := s.fatal(nil); err != nil {
				return err
			}
			s.mu.Lock()
			s.hintSuspensions()
			s.claimAt(time.Time{})
			s.mu.Unlock()
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// step does what is due now and returns how long there is nothing to do.
func (s *Scheduler) step() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.lookAtClock(now)
	for len(s.mu.deadlines) > 0 && !s.mu.deadlines[0].at.After(now) {
		s.pastDeadline(heap.Pop(&s.mu.deadlines).(*job))
	}
	for len(s.mu.later) > 0 && !s.mu.later[0].at.After(now) {
		j := heap.Pop(&s.mu.later).(*job)
		j.queue.later--
		j.queue.ready.push(j)
		s.dispatch(j.queue)
	}
	wake := now.Add(claimInterval)
	if end := s.endSuspensions(now); !end.IsZero() {
		wake = earlier(wake, end)
	}
	wake = earlier(wake, s.startSuspensions(now))
	s.startClaim(now)

	if len(s.mu.deadlines) > 0 {
		wake = earlier(wake, s.mu.deadlines[0].at)
	}
	if len(s.mu.later) > 0 {
		wake = earlier(wake, s.mu.later[0].at)
	}
	if !s.mu.claiming && !s.mu.starved && s.mu.looking == 0 && !s.mu.nextClaim.IsZero() {
		wake = earlier(wake, s.mu.nextClaim)
	}
	return max(wake.Sub(now), 0)
}

// lookAtClock notices that the wall clock was set.
func (s *Scheduler) lookAtClock(now time.Time) {
	if s.clock.look(now) {
		s.log.Warn("queue: the wall clock was set; no message expires for an hour", "now", now.Round(0))
	}
}

// clockPaused reports whether expiring is paused at now. It looks at the clock
// itself: the loop may sleep for up to claimInterval after the clock was set.
func (s *Scheduler) clockPaused(now time.Time) bool {
	s.lookAtClock(now)
	return s.clock.paused(now)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// startClaim starts a claim if one is due and there is memory for what it
// finds. mu is held.
func (s *Scheduler) startClaim(now time.Time) {
	if s.mu.claiming || s.mu.looking > 0 || s.mu.nextClaim.IsZero() || s.mu.nextClaim.After(now) {
		return
	}
	if s.mu.bytes >= s.opts.MemoryLimit {
		back := s.shed()
		if len(back) == 0 {
			s.mu.starved = true // until a job is done
			return
		}
		s.mu.passing++
		s.pool.run(func() {
			s.release(back)
			s.passed()
		})
	}
	req := spool.ClaimRequest{Due: now, Limit: claimBatch}
	for name := range s.mu.unrouted {
		req.Except = append(req.Except, name)
	}
	for _, q := range s.mu.queues {
		if q.full {
			req.Except = append(req.Except, q.name)
		}
	}
	for name := range s.mu.suspended {
		req.Except = append(req.Except, name)
	}
	s.mu.claiming = true
	s.mu.passing++
	s.mu.nextClaim = time.Time{} // what asks for a claim from here on asks for another one
	s.pool.run(func() { s.claim(req) })
}

// shed makes room when memory is used up: the queue with the most entries
// waiting gives half of them back and from now on keeps fewer, so that the
// others can go on. mu is held.
func (s *Scheduler) shed() []*spool.Entry {
	var most *queueState
	for _, q := range s.mu.queues {
		if most == nil || q.ready.len() > most.ready.len() {
			most = q
		}
	}
	if most == nil || most.ready.len() <= most.config.Concurrency {
		return nil
	}
	keep := most.ready.len() / 2
	var back []*spool.Entry
	for _, j := range most.ready.cut(keep) {
		back = append(back, j.entry)
		s.mu.bytes -= j.size
	}
	most.limit = max(keep, most.config.Concurrency)
	most.full, most.backlog = true, true
	return back
}

// claim runs as a task, one at a time.
func (s *Scheduler) claim(req spool.ClaimRequest) {
	entries, next, err := s.spool.Claim(s.hard, req)
	var damage *spool.CorruptError
	switch {
	case err == nil:
	case errors.As(err, &damage):
		s.log.Error("queue: damaged entries were set aside; they stay in the spool and are not worked on", "error", err)
	default:
		if s.hard.Err() == nil {
			s.log.Warn("queue: claiming what is due; tried again", "error", err, "delay", retryDelay)
		}
		s.fail(err)
	}

	s.mu.Lock()
	back := s.admit(entries)
	s.mu.claiming = false
	switch {
	case damage != nil:
		s.mu.damaged += int64(countErrors(err))
	case err != nil:
		next = time.Now().Add(retryDelay)
	}
	if err == nil || damage != nil {
		s.settleBacklog(req, next)
	}
	if next.IsZero() || next.After(req.Due.Add(claimInterval)) {
		next = req.Due.Add(claimInterval)
	}
	s.claimAt(next)
	s.kick()
	s.mu.Unlock()
	s.release(back)
	s.passed()
}

// settleBacklog notes, after a claim that left nothing due behind, that new
// messages need not queue behind the spool any longer. mu is held.
func (s *Scheduler) settleBacklog(req spool.ClaimRequest, next time.Time) {
	if !next.IsZero() && !next.After(req.Due) || !s.mu.nextClaim.IsZero() {
		return // more is due, or something came in during the claim
	}
	for _, q := range s.mu.queues {
		if q.backlog && !q.full && !slices.Contains(req.Except, q.name) {
			q.backlog = false
			q.limit = q.config.MaxReady
			s.forget(q)
		}
	}
}

// admit takes claimed entries into memory and returns those for which there is
// no handler or no room. mu is held.
func (s *Scheduler) admit(entries []*spool.Entry) (back []*spool.Entry) {
	if s.mu.phase != running {
		return entries
	}
	now := time.Now()
	for _, e := range entries {
		h := s.handler(e.Queue)
		if h == nil && e.State != spool.Final {
			if !s.mu.unrouted[e.Queue] {
				s.mu.unrouted[e.Queue] = true
				s.log.Warn("queue: messages wait in a queue that has no handler; they stay untouched until a host names one with Handle", "queue", e.Queue)
			}
			back = append(back, e)
			continue
		}
		if s.isSuspended(e.Queue) && e.State != spool.Final { // since the claim began
			back = append(back, e)
			continue
		}
		q := s.queue(e.Queue, h)
		if q.ready.len()+q.later >= q.limit && e.State != spool.Final {
			q.full, q.backlog = true, true
			back = append(back, e)
			continue
		}
		s.enqueue(q, e, s.notBefore(q, e, now))
		s.dispatch(q)
	}
	return back
}

// notBefore spreads what fell due while no scheduler ran, so that a restart is
// not a burst: over the smaller of the queue's Base and a minute. Zero: now. New
// mail of the deferred queue was due all the time and is not put off.
func (s *Scheduler) notBefore(q *queueState, e *spool.Entry, now time.Time) time.Time {
	if e.State == spool.Final || !e.Due.Before(s.mu.started) || e.Queue == Deferred && e.Attempts == 0 {
		return time.Time{}
	}
	window := min(q.config.Backoff.Base, time.Minute)
	if window <= 0 {
		return time.Time{}
	}
	offset := time.Duration(binary.BigEndian.Uint64(e.ID[8:]) % uint64(window))
	if at := s.mu.started.Add(offset); at.After(now) {
		return at
	}
	return time.Time{}
}

// countErrors counts what errors.Join joined.
func countErrors(err error) int {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return len(joined.Unwrap())
	}
	return 1
}
