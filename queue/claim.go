package queue

import (
	"cmp"
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

	// hintPause is waited after a hint of the spool while a queue is full.
	hintPause = 5 * time.Millisecond

	// retryDelay is waited after a claim that failed for a reason of the moment.
	retryDelay = time.Second

	// maxExcept bounds how many queues a claim leaves out: a spool looks at each
	// of them again and again. With more of them only plans claim.
	maxExcept = 64
)

// claimAt asks for a claim at t, at once if t is zero or has passed. mu is held.
func (s *Scheduler) claimAt(t time.Time) { s.askFor(&s.mu.nextClaim, t) }

// askFor sets what is due at t. mu is held.
func (s *Scheduler) askFor(at *time.Time, t time.Time) {
	t = later(t, time.Now())
	if at.IsZero() || t.Before(*at) {
		*at = t
		s.kick()
	}
}

// hintTime is when to look for what the spool hints at. While a queue is full, hints
// are mostly of what it gives back itself, and claims leave it out. mu is held.
func (s *Scheduler) hintTime(now time.Time) time.Time {
	if len(s.mu.full) == 0 {
		return now
	}
	return now.Add(hintPause)
}

// crowded reports whether there are too many queues to be left out of a claim. mu
// is held.
func (s *Scheduler) crowded() bool {
	return len(s.mu.unrouted)+len(s.mu.full)+len(s.mu.suspended) > maxExcept
}

// claimWake is when the next claim or plan is to be started, or wake if that is
// earlier. mu is held.
func (s *Scheduler) claimWake(wake time.Time) time.Time {
	if s.mu.claiming || s.mu.starved || s.mu.looking > 0 {
		return wake
	}
	if at := s.mu.nextClaim; !at.IsZero() {
		if s.crowded() {
			at = later(at, s.mu.planFrom)
		}
		wake = earlier(wake, at)
	}
	if !s.mu.nextHint.IsZero() {
		wake = earlier(wake, s.mu.nextHint)
	}
	if !s.mu.nextPlan.IsZero() {
		wake = earlier(wake, later(s.mu.nextPlan, s.mu.planFrom))
	}
	return wake
}

// startClaim starts a plan or a claim, if there is memory for what it finds. If
// both are due the plan is first: another one follows only after a pause, or when
// it has brought something in. mu is held.
func (s *Scheduler) startClaim(now time.Time) {
	claim, plan := isDue(s.mu.nextClaim, now), isDue(s.mu.nextPlan, now)
	crowded := s.crowded()
	if crowded {
		claim, plan = false, claim || plan
	}
	plan = plan && !s.mu.planFrom.After(now)
	hint := isDue(s.mu.nextHint, now)
	if s.mu.claiming || s.mu.looking > 0 || !claim && !plan && !hint || !s.makeRoom() {
		return
	}
	s.takeInShed(now)
	s.mu.claiming = true
	s.mu.tick++
	tick := s.mu.tick
	switch {
	case plan:
		p := s.newPlanner(now, tick, crowded)
		s.mu.nextPlan = time.Time{} // what asks for one from here on asks for another one
		if crowded {
			s.mu.nextClaim = time.Time{}
		}
		s.transfer(p.run)
		return
	case hint:
		p := &planner{s: s, now: now, tick: tick, hinted: true, picks: s.hinted(now)}
		s.transfer(p.run)
		return
	}
	req := spool.ClaimRequest{Due: now, Limit: claimBatch, Except: s.namesLeftOut(tick)}
	s.mu.nextClaim = time.Time{}
	s.transfer(func() { s.claim(req, tick) })
}

// namesLeftOut lists what the claim of a tick leaves out. mu is held.
func (s *Scheduler) namesLeftOut(tick uint64) (names []string) {
	for name := range s.mu.unrouted {
		names = append(names, name)
	}
	for name := range s.mu.suspended {
		if q := s.mu.queues[name]; q != nil {
			q.leftOut = tick
		}
		names = append(names, name)
	}
	for q := range s.mu.full {
		q.leftOut = tick
		names = append(names, q.name)
	}
	return names
}

// makeRoom reports whether there is memory for a claim, after it made some if need
// be. Without any, one is started when a job is done. mu is held.
func (s *Scheduler) makeRoom() bool {
	if s.mu.bytes < s.opts.MemoryLimit {
		return true
	}
	if back := s.shed(); len(back) > 0 {
		s.transfer(func() { s.release(back) })
	}
	s.mu.starved = s.mu.bytes >= s.opts.MemoryLimit
	return !s.mu.starved
}

// shed makes room when memory is used up: the queues with the most entries
// waiting give half of them back and from now on keep fewer, and if that does not
// suffice they do so again, down to nothing. What waits behind slots that are all
// taken need not be in memory, and the others can go on. mu is held.
func (s *Scheduler) shed() (back []*spool.Entry) {
	var most []*queueState
	for _, q := range s.mu.queues {
		if q.ready.total() > 0 {
			most = append(most, q)
		}
	}
	slices.SortFunc(most, func(a, b *queueState) int { return cmp.Compare(b.ready.total(), a.ready.total()) })
	for goal := s.opts.MemoryLimit / 8 * 7; len(most) > 0 && s.mu.bytes > goal; {
		for _, q := range most {
			if s.mu.bytes <= goal {
				break
			}
			keep := q.ready.total() / 2
			back = append(back, s.giveBack(q, keep)...)
			q.limit = max(keep, q.config.Concurrency)
			s.leaveOut(q)
			q.short = true
			if s.mu.shedAt.IsZero() {
				s.mu.shedAt = time.Now()
			}
		}
		most = slices.DeleteFunc(most, func(q *queueState) bool { return q.ready.total() == 0 })
	}
	return back
}

// takeInShed has claims take in again the queues of which shed left nothing that will do
// so when it is done: soon if much memory is free, and else after a while, since others
// may use it for ever. mu is held.
func (s *Scheduler) takeInShed(now time.Time) {
	if s.mu.shedAt.IsZero() || s.shedUntil().After(now) {
		return
	}
	s.mu.shedAt = time.Time{}
	for q := range s.mu.full {
		if q.short && q.running < q.config.Concurrency && q.ready.total() == 0 {
			s.reopen(q)
		}
	}
}

// claimShed has a claim made then. mu is held.
func (s *Scheduler) claimShed() {
	if !s.mu.shedAt.IsZero() {
		s.claimAt(s.shedUntil())
	}
}

// shedUntil is how long what shed has left out stays so. What was just given back would
// else be claimed at once, be it larger than there is memory. mu is held.
func (s *Scheduler) shedUntil() time.Time {
	if s.roomy() {
		return s.mu.shedAt.Add(retryDelay)
	}
	return s.mu.shedAt.Add(claimInterval)
}

// roomy reports whether much memory is free. mu is held.
func (s *Scheduler) roomy() bool { return s.mu.bytes < s.opts.MemoryLimit/2 }

// claim runs as a task; neither another claim nor a plan runs beside it.
func (s *Scheduler) claim(req spool.ClaimRequest, tick uint64) {
	entries, next, err := s.spool.Claim(s.hard, req)
	ok := s.claimed(err)
	left := isDue(next, req.Due)

	s.mu.Lock()
	back := s.admit(entries)
	s.mu.claiming = false
	switch {
	case !ok:
		next = time.Now().Add(retryDelay)
	case left:
		for _, e := range entries { // what is left is likely to be of their kind
			if q := s.mu.queues[e.Queue]; q != nil && e.State == spool.Queued {
				s.noteBacklog(q, e.Class)
			}
		}
	default:
		s.settleBacklogs(tick, false)
	}
	if left || len(s.mu.full) > 0 {
		s.planAt(time.Time{})
	}
	if next.IsZero() || next.After(req.Due.Add(claimInterval)) {
		next = req.Due.Add(claimInterval)
	}
	s.claimAt(next)
	s.claimShed()
	s.kick()
	s.mu.Unlock()
	s.release(back)
}

// claimed looks at the error of a claim and reports whether the claim was made,
// whatever damage it found.
func (s *Scheduler) claimed(err error) bool {
	var damage *spool.CorruptError
	switch {
	case err == nil:
	case errors.As(err, &damage):
		s.log.Error("queue: damaged entries were set aside; they stay in the spool and are not worked on", "error", err)
		s.mu.Lock()
		s.mu.damaged += int64(countErrors(err))
		s.mu.Unlock()
	default:
		if s.hard.Err() == nil {
			s.log.Warn("queue: claiming what is due; tried again", "error", err, "delay", retryDelay)
		}
		s.fail(err)
		return false
	}
	return true
}

// admit takes claimed entries into memory and returns those for which there is
// no handler or no room. mu is held.
func (s *Scheduler) admit(entries []*spool.Entry) (back []*spool.Entry) {
	if s.mu.phase != running {
		return entries
	}
	now := time.Now()
	touched := map[*queueState]struct{}{}
	for _, e := range entries {
		h := s.handler(e.Queue)
		switch {
		case e.State == spool.Final:
		case h == nil:
			s.noteUnrouted(e.Queue)
			back = append(back, e)
			continue
		case s.isSuspended(e.Queue): // since the claim began
			back = append(back, e)
			continue
		}
		q := s.queue(e.Queue, h)
		s.enqueue(q, e, s.notBefore(q, e, now))
		touched[q] = struct{}{}
	}
	for q := range touched {
		s.dispatch(q)
		back = append(back, s.trim(q)...)
	}
	return back
}

// noteUnrouted notes that entries were found in a queue that has no handler. mu is
// held.
func (s *Scheduler) noteUnrouted(name string) {
	if !s.mu.unrouted[name] {
		s.mu.unrouted[name] = true
		s.log.Warn("queue: messages wait in a queue that has no handler; they stay untouched until a host names one with Handle", "queue", name)
	}
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
