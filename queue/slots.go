package queue

import (
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// dispatch starts jobs of q in free slots. mu is held.
func (s *Scheduler) dispatch(q *queueState) {
	for s.mu.phase == running {
		j := s.next(q)
		if j == nil {
			return
		}
		s.pool.run(func() { s.work(j) })
	}
}

// next takes the next job of q, a slot for it and, if a handler is to be started,
// what its rate asks for; nil if it may not be. mu is held.
func (s *Scheduler) next(q *queueState) *job {
	if s.mu.phase != running || q.running >= q.config.Concurrency {
		return nil
	}
	j := q.ready.popFinal()
	if j == nil && q.ready.len() > 0 && !s.isSuspended(q.name) && s.takeToken(q) {
		j = q.ready.pop()
	}
	if j != nil {
		q.running++
		s.mu.working[j.entry.ID]++
		s.refill(q, j.entry.Class)
	}
	s.reopen(q)
	return j
}

// startable reports whether n jobs that come to q now are started at once. mu is
// held.
func (s *Scheduler) startable(q *queueState, n int) bool {
	return q.ready.len() == 0 && q.running+n <= q.config.Concurrency &&
		(q.limiter == nil || q.limiter.has(n, time.Now()))
}

// free gives back the memory and the slot of a job that is done, and returns
// the next one of its queue.
func (s *Scheduler) free(j *job) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := j.queue
	q.running--
	if s.mu.working[j.entry.ID]--; s.mu.working[j.entry.ID] == 0 {
		delete(s.mu.working, j.entry.ID)
	}
	s.mu.bytes -= j.size
	s.fed()
	next := s.next(q)
	if next == nil {
		s.forget(q)
	}
	return next
}

// fed has a claim made that waits for memory, if there is some. mu is held.
func (s *Scheduler) fed() {
	if s.mu.starved && s.mu.bytes < s.opts.MemoryLimit {
		s.mu.starved = false
		s.claimAt(time.Time{})
		s.kick() // a claim may have been asked for long ago
	}
	s.claimShed()
}

// trim gives back what is beyond the room of q. mu is held.
func (s *Scheduler) trim(q *queueState) []*spool.Entry {
	back := s.giveBack(q, q.limit)
	if len(back) > 0 {
		s.leaveOut(q)
	}
	return back
}

// leaveOut has claims leave a queue out, until there is room again. What other
// classes than those in memory want to have of it is then found by a plan. mu is
// held.
func (s *Scheduler) leaveOut(q *queueState) {
	if !q.full {
		q.full = true
		s.mu.full[q] = struct{}{}
		s.planAt(time.Time{})
	}
}

// reopen ends that, once half of the room is free and no class waits for it. mu is held.
func (s *Scheduler) reopen(q *queueState) {
	if !q.full || q.ready.total() > q.limit/2 || s.isSuspended(q.name) {
		return
	}
	if s.roomy() { // what a lack of memory took away
		q.limit = min(2*q.limit, q.config.MaxReady)
	}
	if s.offerPlaces(q); q.short || !q.waiting.any() {
		s.takeIn(q)
	}
}

// takeIn has claims take a queue in again. mu is held.
func (s *Scheduler) takeIn(q *queueState) {
	q.full, q.short, q.waiting = false, false, rotation{}
	delete(s.mu.full, q)
	s.claimAt(time.Time{})
	s.kick() // a claim may have been asked for long ago
}

// handOver takes messages that were just stored and are owned, or that body
// keeps: in memory, if they are due, there is room, and nothing of their class
// waits in the spool, else back to the spool. What body keeps must find a slot.
func (s *Scheduler) handOver(entries []*spool.Entry, body *keptBody) {
	var back, trimmed []*spool.Entry
	s.mu.Lock()
	for _, e := range entries {
		q := s.takes(e, body != nil)
		if q == nil {
			back = append(back, e)
			continue
		}
		s.enqueue(q, e, time.Time{}).body = body
		s.dispatch(q)
		trimmed = append(trimmed, s.trim(q)...)
	}
	s.mu.Unlock()
	s.release(trimmed)
	if body != nil {
		s.handBack(body, back)
		return
	}
	s.release(back)
}

// takes returns the queue of an entry if that may stay in memory. mu is held.
func (s *Scheduler) takes(e *spool.Entry, kept bool) *queueState {
	h := s.handler(e.Queue)
	if s.mu.phase != running || h == nil || e.State != spool.Queued || e.Due.After(time.Now()) || s.isSuspended(e.Queue) {
		return nil
	}
	q := s.queue(e.Queue, h)
	if q.backlog.has(e.Class) || !s.startable(q, 1) && (kept || s.mu.bytes >= s.opts.MemoryLimit) {
		s.noteBacklog(q, e.Class)
		return nil
	}
	return q
}
