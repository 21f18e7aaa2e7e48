package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// errExited is the failure of a handler that ended its goroutine, as
// testing.T.FailNow does.
var errExited = errors.New("queue: the handler ended its goroutine (runtime.Goexit)")

// A panicError is the failure of a handler that panicked.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("queue: the handler panicked: %v", e.value) }

// work runs jobs of one queue, one after the other, as long as there are some.
func (s *Scheduler) work(j *job) {
	for j != nil {
		if j.entry.State == spool.Final {
			s.finish(j.entry)
		} else {
			s.attempt(j)
		}
		if j.message != nil {
			j = s.returned(j)
		} else {
			j = s.free(j)
		}
	}
}

// attempt makes one attempt at a message, from its handler to the durable verdict.
func (s *Scheduler) attempt(j *job) {
	if j.entry.Interrupted >= poisonous {
		s.settle(j, &causeError{RetryInterrupted, fmt.Errorf("queue: %d processes died while its handler may have run", j.entry.Interrupted)})
		return
	}
	s.marks.started(j.entry.ID)
	ctx := s.begin(j)
	if ctx == nil { // suspended since the job was taken
		s.marks.ended(j.entry.ID)
		if s.saveJob(j) == nil {
			s.release([]*spool.Entry{j.entry})
		}
		return
	}
	s.times.waited(j.entry)
	exited := true
	defer func() {
		if exited { // the goroutine ends here: the rest needs another one
			s.pool.run(func() {
				s.conclude(ctx, j, errExited)
				s.work(s.returned(j))
			})
		}
	}()
	err := s.call(ctx, j.queue.handler, j.message)
	exited = false
	s.conclude(ctx, j, err)
}

// begin makes the working copy and the context of an attempt; nil if there must be none.
func (s *Scheduler) begin(j *job) context.Context {
	s.mu.Lock()
	timeout := j.queue.config.Timeout
	j.timeout = timeout
	suspended := s.isSuspended(j.queue.name)
	s.mu.Unlock()
	if suspended {
		return nil
	}
	ctx, cancel := context.WithCancelCause(s.jobs)
	if timeout > 0 {
		j.at = time.Now().Add(timeout)
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, j.at, ErrDeadline)
		outer := cancel
		cancel = func(cause error) { outer(cause); stop() }
	}
	j.cancel = cancel
	j.message = newMessage(ctx, s.spool, j.entry, s.opener(ctx, j))
	j.message.target = s.checkTarget
	if timeout > 0 {
		s.mu.Lock()
		heap.Push(&s.mu.deadlines, j)
		first := j.index == 0
		s.mu.Unlock()
		if first {
			s.kick()
		}
	}
	return ctx
}

// opener returns what opens the body of a job as it was received.
func (s *Scheduler) opener(ctx context.Context, j *job) func() (spool.Body, error) {
	if kept := j.body; kept != nil {
		return func() (spool.Body, error) { return kept.open(ctx) }
	}
	return func() (spool.Body, error) { return s.spool.Open(ctx, j.entry.Body) }
}

// call runs a handler and contains its panic.
func (s *Scheduler) call(ctx context.Context, h Handler, m *Message) (err error) {
	began := time.Now()
	defer func() {
		s.times.handled(m.entry.Queue, time.Since(began))
		if p := recover(); p != nil {
			s.log.Error("queue: a handler panicked", "id", m.entry.ID, "queue", m.entry.Queue, "panic", p, "stack", string(debug.Stack()))
			err = &panicError{p}
		}
	}()
	return h(ctx, m)
}

// conclude is the one decision between the handler's return and its deadline
// or the stop of the host: what the handler returned counts only if its context
// still stood.
func (s *Scheduler) conclude(ctx context.Context, j *job, err error) {
	s.mu.Lock()
	late := j.decided
	j.decided = true
	if j.index >= 0 && j.index < len(s.mu.deadlines) && s.mu.deadlines[j.index] == j {
		heap.Remove(&s.mu.deadlines, j.index)
	}
	cause := context.Cause(ctx)
	s.mu.Unlock()
	j.cancel(nil)
	if late {
		return
	}
	j.message.invalidate() // whoever still uses it must not change what is stored now
	switch {
	case cause == nil:
	case errors.Is(cause, ErrDeadline):
		err = deadlineError(j, err)
	default: // the host stops, or the spool failed
		j.message.Discard()
		s.marks.ended(j.entry.ID)
		if s.saveJob(j) == nil {
			s.release([]*spool.Entry{j.entry})
		}
		return
	}
	s.settle(j, err)
	j.message.Discard()
	s.marks.ended(j.entry.ID)
}

func deadlineError(j *job, err error) error {
	if err == nil || isDeadline(err) {
		return fmt.Errorf("%w after %v", ErrDeadline, j.timeout)
	}
	// A verdict that came too late is no verdict: only its text remains.
	return fmt.Errorf("%w after %v; it then returned: %v", ErrDeadline, j.timeout, err)
}

// isDeadline reports whether a handler's error is that of its context. The
// methods of the error are the host's, and may panic.
func isDeadline(err error) (is bool) {
	defer func() {
		if recover() != nil {
			is = false
		}
	}()
	return errors.Is(err, context.DeadlineExceeded)
}

// pastDeadline takes the decision away from a handler that has not returned.
// The handler keeps its slot until it does. mu is held.
func (s *Scheduler) pastDeadline(j *job) {
	if j.decided || s.jobs.Err() != nil {
		return
	}
	j.decided, j.overdue = true, true
	j.queue.overdue++
	s.mu.overdue++
	j.message.invalidate()
	s.log.Warn("queue: a handler runs past its deadline; it keeps its slot and cannot move its message on",
		"id", j.entry.ID, "queue", j.entry.Queue, "timeout", j.timeout)
	s.pool.run(func() {
		kept := s.settle(j, deadlineError(j, nil))
		s.mu.Lock()
		j.kept = kept
		s.mu.Unlock()
		s.work(s.halfDone(j))
	})
}

// returned notes that the handler of j has returned, and returns the next job
// for its slot.
func (s *Scheduler) returned(j *job) *job {
	s.mu.Lock()
	overdue := j.overdue
	s.mu.Unlock()
	if overdue {
		return s.halfDone(j)
	}
	return s.free(j)
}

// halfDone counts the two ends of an overdue job: its stored verdict, and the
// return of its handler. The second one to come frees the slot and returns the
// next job for it.
func (s *Scheduler) halfDone(j *job) *job {
	s.mu.Lock()
	j.halves++
	both := j.halves == 2
	s.mu.Unlock()
	if !both {
		return nil
	}
	return s.endOverdue(j)
}

// endOverdue lets the message of an overdue job run again.
func (s *Scheduler) endOverdue(j *job) *job {
	j.message.Discard()
	s.marks.ended(j.entry.ID)
	if j.kept != nil {
		s.release([]*spool.Entry{j.kept})
	}
	s.mu.Lock()
	j.queue.overdue--
	s.mu.overdue--
	s.mu.Unlock()
	return s.free(j)
}
