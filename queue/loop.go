package queue

import (
	"container/heap"
	"context"
	"time"
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
			s.claimAt(s.hintTime(time.Now()))
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
	s.mature(now)
	s.wakeQueues(now)
	if isDue(s.mu.resumeAt, now) {
		s.endSuspensions(now)
	}
	look := s.startSuspensions(now)
	s.startClaim(now)
	return max(earlier(look, s.nextStep(now)).Sub(now), 0)
}

// nextStep is when there is something to do again. mu is held.
func (s *Scheduler) nextStep(now time.Time) time.Time {
	wake := s.claimWake(now.Add(claimInterval))
	if len(s.mu.deadlines) > 0 {
		wake = earlier(wake, s.mu.deadlines[0].at)
	}
	if len(s.mu.later) > 0 {
		wake = earlier(wake, s.mu.later[0].at)
	}
	if len(s.mu.throttled) > 0 {
		wake = earlier(wake, s.mu.throttled[0].wakeAt)
	}
	if !s.mu.resumeAt.IsZero() {
		wake = earlier(wake, s.mu.resumeAt)
	}
	return wake
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// isDue reports whether t, which is zero for never, has come.
func isDue(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }
