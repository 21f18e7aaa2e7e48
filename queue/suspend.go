package queue

import (
	"maps"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Suspensions is the name of the queue in which the spool keeps which queues are
// suspended: a Held entry with an empty body for each. It is no queue of messages;
// nothing is bound for it, and who counts what a spool holds leaves it out.
const Suspensions = "suspensions.deferredqueue.internal"

// A suspension is why and how long nothing of a queue is started.
type suspension struct {
	reason string
	since  time.Time
	until  time.Time // zero: until it is resumed
}

// setSuspended says which queues are suspended from now on. What waits in memory of
// those that were not is given back to the spool before it returns.
func (s *Scheduler) setSuspended(all map[string]suspension) {
	var stored []*spool.Entry
	kept := map[*keptBody][]*spool.Entry{}
	s.mu.Lock()
	was := s.mu.suspended
	s.mu.suspended = maps.Clone(all)
	for name := range all {
		if _, ok := was[name]; ok || s.mu.queues[name] == nil {
			continue
		}
		for _, j := range s.take(name, func(j *job) bool { return j.entry.State != spool.Final }) {
			if j.body != nil {
				kept[j.body] = append(kept[j.body], j.entry)
				continue
			}
			stored = append(stored, j.entry)
		}
	}
	for name := range was {
		if _, ok := all[name]; !ok {
			s.resumed(name)
		}
	}
	s.mu.Unlock()
	s.release(stored)
	for b, entries := range kept {
		s.handBack(b, entries)
	}
	s.kick()
}

// resumed starts a queue that is not suspended any more. mu is held.
func (s *Scheduler) resumed(name string) {
	if q := s.mu.queues[name]; q != nil {
		s.dispatch(q)
	}
	if s.mu.phase == running {
		s.claimAt(time.Time{})
	}
}

// endSuspensions ends those whose time is over, and returns when the next one ends;
// zero if none does. mu is held.
func (s *Scheduler) endSuspensions(now time.Time) (next time.Time) {
	for name, sus := range s.mu.suspended {
		switch {
		case sus.until.IsZero():
		case !sus.until.After(now):
			delete(s.mu.suspended, name)
			s.log.Info("queue: the suspension of a queue has ended", "queue", name)
			s.resumed(name)
			s.mu.suspensionsAt = now // what is stored of it is to be removed
		case next.IsZero() || sus.until.Before(next):
			next = sus.until
		}
	}
	return next
}

// isSuspended reports whether nothing of a queue may start. mu is held.
func (s *Scheduler) isSuspended(queue string) bool {
	_, ok := s.mu.suspended[queue]
	return ok
}
