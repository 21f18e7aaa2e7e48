package queue

import (
	"errors"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Spool returns the spool that the Scheduler works on.
func (s *Scheduler) Spool() spool.Spool { return s.spool }

// Observe has f called with each record right after [Options.Record] took it:
// concurrently, in order for one message. f must not block, panic or retain
// what is in r. It is for what looks on (metrics, tests), beside the Record
// function that is the record. It must be called before Run.
func (s *Scheduler) Observe(f func(r Record)) error {
	if f == nil {
		return errors.New("queue: Observe: the function is nil")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.phase != idle {
		return errors.New("queue: Observe: the scheduler runs already; observe it before Run")
	}
	s.recorder.observers = append(s.recorder.observers, f)
	return nil
}
