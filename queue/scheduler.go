package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Scheduler runs the handlers of named queues on the entries of one spool:
// the inject callback on the queue [Deferred], and the handlers named by Handle
// on the queues that messages are rebound to. All methods are safe for
// concurrent use.
type Scheduler struct {
	spool    spool.Spool
	marks    *marks
	inject   Handler
	patterns patterns
	opts     Options
	log      *slog.Logger
	pool     *pool
	recorder *recorder
	clock    clockWatch
	kept     keeper
	times    times
	random   func() float64 // for jitter; called concurrently

	suspending chan struct{} // holds a token while suspensions are changed
	begun      chan struct{} // closed once Run works, or has ended before that

	wake   chan struct{} // the state changed in a way that the loop must see
	failed chan error    // what ended the spool

	// jobs is the parent of every handler's context; hard ends all waiting of
	// the Scheduler itself, when StopTimeout has passed.
	jobs       context.Context
	cancelJobs context.CancelCauseFunc
	hard       context.Context
	cancelHard context.CancelFunc

	state
}

var (
	// ErrStopped is the cause of the contexts of handlers that the stop of the
	// host cancels, and what is answered to work that comes after it.
	ErrStopped = errors.New("queue: the scheduler is stopping")

	// ErrDeadline is the cause of the context of a handler whose deadline passed.
	ErrDeadline = errors.New("queue: the handler's deadline passed")
)

// NewScheduler returns a Scheduler for sp, whose inject callback is inject. It
// starts nothing: call Run. nil opts are the defaults.
//
// The host keeps sp and closes it after Run has returned. One Scheduler works
// on one Spool value.
func NewScheduler(sp spool.Spool, inject Handler, opts *Options) (*Scheduler, error) {
	if sp == nil {
		return nil, errors.New("queue: NewScheduler: the spool is nil: open one with boltspool.Open, or spool.NewMemory in tests")
	}
	if inject == nil {
		return nil, errors.New("queue: NewScheduler: the inject callback is nil: without it no message could leave the deferred queue")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Scheduler{
		spool: sp, inject: inject, opts: o, log: o.Logger,
		pool: newPool(), wake: make(chan struct{}, 1), failed: make(chan error, 1),
		random: rand.Float64,
	}
	s.marks = newMarks(sp)
	s.times.start()
	s.jobs, s.cancelJobs = context.WithCancelCause(context.Background())
	s.hard, s.cancelHard = context.WithCancel(context.Background())
	s.recorder = newRecorder(s.hard, &o, s.pool)
	s.recorder.patterns = &s.patterns
	s.state.init()
	s.suspending = make(chan struct{}, 1)
	s.begun = make(chan struct{})
	return s, nil
}

// Handle names the handler of the queues that pattern matches. It must be
// called before Run.
//
// A pattern without * is the exact name of a queue. With * it matches the parts
// of a name campaign:tenant@domain!routing_domain, and a part that is left out
// or is * matches anything: "*@example.com", "campaign:*", "tenant@*", "*". The
// pattern with the most fixed parts wins; ties are decided by routing domain,
// domain, tenant, campaign, in this order. "*" never matches [Deferred], whose
// handler is the inject callback.
func (s *Scheduler) Handle(pattern string, h Handler) error {
	if h == nil {
		return fmt.Errorf("queue: Handle(%q): the handler is nil", pattern)
	}
	if pattern == Deferred {
		return fmt.Errorf("queue: Handle(%q): its handler is the inject callback, which NewScheduler takes", pattern)
	}
	if pattern == Suspensions {
		return fmt.Errorf("queue: Handle(%q): it holds no messages", pattern)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.phase != idle {
		return fmt.Errorf("queue: Handle(%q): the scheduler runs already; name all handlers before Run", pattern)
	}
	return s.patterns.add(pattern, h)
}

// handler returns the handler of a queue; nil if there is none.
func (s *Scheduler) handler(queue string) Handler {
	switch queue {
	case Deferred:
		return s.inject
	case Suspensions:
		return nil
	}
	return s.patterns.match(queue)
}

// Run works until ctx is done, then stops within [Options.StopTimeout] and
// returns nil. If the spool fails or its session is lost, Run cancels all
// handlers, stops, and returns that error: it wraps [spool.ErrFailed],
// [spool.ErrFenced] or [spool.ErrClosed]. A Scheduler runs once.
//
// What [Transaction.Keep] has left in memory is stored on a stop. If that does
// not succeed within StopTimeout, or because the spool failed, the error of Run is
// an [ErrNotSaved] that says how many messages were not saved; their IDs are logged.
//
// Before anything else Run reads which queues are suspended, see [Admin.Suspend];
// nothing is worked on before.
//
// On a stop running handlers first may finish; those that are still running
// after half of StopTimeout have their contexts cancelled, and their messages
// stay as they were, due at once and without an attempt counted. A handler
// that does not return by then is abandoned: whatever it returns later, it
// cannot move its message on.
func (s *Scheduler) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.mu.phase != idle {
		s.mu.Unlock()
		return errors.New("queue: Run: a Scheduler runs once; make a new one")
	}
	s.mu.phase = starting
	s.mu.started = time.Now()
	s.clock.start(s.mu.started)
	s.mu.Unlock()

	err := s.beginWork(ctx)
	close(s.begun)
	s.kept.setOpen(true)
	s.recorder.open()
	if err == nil && ctx.Err() == nil {
		err = s.loop(ctx)
	}
	s.stop(err)
	return s.abandonKept(err)
}

// beginWork lets the work begin, once it is known what is suspended.
func (s *Scheduler) beginWork(ctx context.Context) error {
	if err := s.fatal(nil); err != nil {
		return err
	}
	if err := s.loadSuspensions(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.phase = running
	now := time.Now()
	s.mu.suspensionsAt, s.mu.suspensionsHint = now.Add(suspensionInterval), now.Add(suspensionPause)
	s.claimAt(now)
	return nil
}

// stop ends everything that Run began. Its phases share StopTimeout.
func (s *Scheduler) stop(cause error) {
	s.mu.Lock()
	s.mu.phase = stopping
	waiting := s.takeWaiting()
	s.mu.Unlock()

	total := s.opts.StopTimeout
	begin := time.Now()
	until := func(part time.Duration) bool { return s.drained(time.Until(begin.Add(part))) }
	s.kept.setOpen(false)
	s.pool.run(func() { s.release(waiting) })
	s.startSaving(nil)
	s.pool.close()
	if cause == nil && until(total/2) {
		s.cancelJobs(ErrStopped)
		s.cancelHard()
		return
	}
	if cause == nil {
		cause = ErrStopped
	}
	s.cancelJobs(cause)
	if !until(total * 9 / 10) {
		s.cancelHard()
		if !until(total) {
			st := s.counts()
			s.log.Warn("queue: stopped without waiting any longer", "handlers", st.Running, "timeout", total)
		}
	}
	s.cancelHard()
}

// drained waits for the last task; false if it takes longer than d.
func (s *Scheduler) drained(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.pool.done:
		return true
	case <-t.C:
		return false
	}
}

// fail ends Run with err, if err is one that work cannot go on after.
func (s *Scheduler) fail(err error) {
	err = s.fatal(err)
	if err == nil {
		return
	}
	select {
	case s.failed <- err:
	default: // another one came first
	}
}

// fatal returns the error that ends Run, if err is or reveals one.
func (s *Scheduler) fatal(err error) error {
	if errors.Is(err, spool.ErrFailed) || errors.Is(err, spool.ErrClosed) {
		return fmt.Errorf("queue: the spool failed: %w", err)
	}
	if health := s.spool.Health(); health != nil && !errors.Is(health, spool.ErrFull) && !errors.Is(health, spool.ErrBusy) {
		return fmt.Errorf("queue: the spool failed: %w", health)
	}
	return nil
}

// kick makes the loop look at the state again.
func (s *Scheduler) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
