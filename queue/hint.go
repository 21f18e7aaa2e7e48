package queue

import (
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// maxHints bounds the groups of which it is known when to claim from them later. What
// does not get a place among them is found by the next look at all queues. Those to be
// claimed from at once are no more than there are places.
const maxHints = 1024

// A queueClass is a class of a queue.
type queueClass struct{ queue, class string }

// hint has a group claimed from at a time, if claims leave its queue out then. It
// costs no look at all queues of the spool. Of a queue without a backlog nothing is
// noted: claims find what it has. It reports whether a hint is noted. mu is held.
func (s *Scheduler) hint(q *queueState, class string, at time.Time) bool {
	key := queueClass{q.name, class}
	was, known := s.mu.hints[key]
	if !q.full && !q.backlog.any() || !known && len(s.mu.hints) >= maxHints && at.After(time.Now()) {
		return false
	}
	if !known || at.Before(was) {
		s.mu.hints[key] = at
		s.askFor(&s.mu.nextHint, at)
	}
	return true
}

// hinted takes out the hints whose time has come, as picks. mu is held.
func (s *Scheduler) hinted(now time.Time) (picks pickHeap) {
	s.mu.nextHint = time.Time{}
	for key, at := range s.mu.hints {
		q := s.mu.queues[key.queue]
		switch {
		case q == nil || !q.full && !q.backlog.any() || !q.full && isDue(at, now):
			delete(s.mu.hints, key) // claims find it
		case isDue(at, now):
			delete(s.mu.hints, key)
			picks = append(picks, pick{queue: key.queue, class: key.class, have: q.ready.count(key.class), due: at})
		case s.mu.nextHint.IsZero() || at.Before(s.mu.nextHint):
			s.mu.nextHint = at
		}
	}
	return picks
}

// noteReleased has claimed what is due of entries that are in the spool again,
// unless there is no room for it: then it is claimed when there is. mu is held.
func (s *Scheduler) noteReleased(units []spool.Unit) {
	now := time.Now()
	var soonest *time.Time
	for _, u := range units {
		e := u[0].Entry
		q := s.mu.queues[e.Queue]
		if q != nil && e.State == spool.Queued && !e.Due.After(now) {
			s.noteBacklog(q, e.Class)
			if q.full && q.wants(e.Class) <= 0 {
				q.await(e.Class)
				continue
			}
			if q.full {
				s.hint(q, e.Class, now)
			}
		}
		if soonest == nil || e.Due.Before(*soonest) {
			soonest = &e.Due
		}
	}
	if soonest != nil {
		s.claimAt(*soonest)
	}
}
