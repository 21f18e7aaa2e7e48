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

// setSuspended says which queues are suspended, by name; those that were and are
// not named are so no longer. Nothing of a suspended queue is started but what has
// ended already, and what waited in memory goes back to the spool, where no claim
// finds it. Due times and attempts stay, and what runs goes on.
func (s *Scheduler) setSuspended(now map[string]suspension) {
	var stored []*spool.Entry
	kept := map[*keptBody][]*spool.Entry{}
	s.mu.Lock()
	before := s.mu.suspended
	s.mu.suspended = maps.Clone(now)
	for name := range s.mu.suspended {
		if s.mu.queues[name] == nil {
			continue
		}
		for _, j := range s.take(name, func(j *job) bool { return j.entry.State != spool.Final }) {
			if j.body != nil {
				kept[j.body] = append(kept[j.body], j.entry)
			} else {
				stored = append(stored, j.entry)
			}
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			s.resumed(name)
		}
	}
	s.endSuspensions(time.Now())
	s.kick() // the loop waits for the end of the first one
	s.mu.Unlock()
	s.release(stored)
	for b, entries := range kept {
		s.handBack(b, entries)
	}
}

// isSuspended reports whether a queue is suspended. mu is held.
func (s *Scheduler) isSuspended(name string) bool {
	_, ok := s.mu.suspended[name]
	return ok
}

// endSuspensions ends those whose time is over. mu is held.
func (s *Scheduler) endSuspensions(now time.Time) {
	s.mu.resumeAt = time.Time{}
	for name, sus := range s.mu.suspended {
		switch {
		case sus.until.IsZero():
		case !sus.until.After(now):
			delete(s.mu.suspended, name)
			s.log.Info("queue: the suspension of a queue has ended", "queue", name)
			s.resumed(name)
			s.mu.suspensionsAt = now // what is stored of it is to be removed
		case s.mu.resumeAt.IsZero() || sus.until.Before(s.mu.resumeAt):
			s.mu.resumeAt = sus.until
		}
	}
}

// resumed goes on with a queue that is not suspended any longer. What came in
// meanwhile stands before what comes in now. mu is held.
func (s *Scheduler) resumed(name string) {
	h := s.handler(name)
	if h == nil {
		return
	}
	q := s.queue(name, h)
	q.backlog.noteAll(s.mu.tick)
	s.mu.backlogged[q] = struct{}{}
	s.takeIn(q)
	s.dispatch(q)
}
