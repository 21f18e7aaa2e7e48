package deferred

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/deferredqueue/deferredqueue/queue"
)

// Run serves the listeners (ListenAndServe) and runs each distinct Scheduler
// behind them once. It blocks until ctx is done, then stops and returns nil:
// first all listeners at once, by Shutdown, each within its
// Limits.ShutdownTimeout; then the schedulers, each within its StopTimeout. So
// what is accepted during the stop is stored, and handed to a Scheduler that
// still runs or found when the spool is next opened. Clients that a
// ShutdownTimeout cut off got no 250 and keep their messages.
//
// If a spool fails or its session is lost, or a listener cannot listen or
// accept, Run stops everything in the same order and returns that error, so that
// a supervisor restarts the process; errors.Is finds spool.ErrFailed,
// spool.ErrFenced and the errors of package net in it. Several such errors are
// joined. What fails during a stop is returned too.
//
// A Listener that the host ends by its own Shutdown or Close ends nothing else,
// until it was the last one: then Run stops the schedulers and returns
// [ErrServerClosed].
//
// Every goroutine that Run started has ended when it returns, but for handlers
// that outlast StopTimeout (see [queue.Scheduler.Run]). A Scheduler runs once,
// and so does a Listener: Run cannot be called again with the same. The host
// keeps the spools, and closes them afterwards.
func Run(ctx context.Context, listeners ...*Listener) error {
	schedulers, err := distinct(listeners)
	if err != nil {
		return err
	}
	g := newGroup(ctx, len(listeners))
	for _, s := range schedulers {
		g.schedulers.Go(func() { g.report(s.Run(g.work)) })
	}
	for _, l := range listeners {
		g.listeners.Go(func() { g.listenerEnded(l.ListenAndServe()) })
	}
	select {
	case <-ctx.Done():
	case <-g.ended:
	}
	g.stop(listeners)
	return g.result()
}

// distinct returns each Scheduler behind the listeners once.
func distinct(listeners []*Listener) ([]*queue.Scheduler, error) {
	if len(listeners) == 0 {
		return nil, errors.New("deferred: Run: no listener: make one with NewListener")
	}
	var schedulers []*queue.Scheduler
	for i, l := range listeners {
		if l == nil {
			return nil, fmt.Errorf("deferred: Run: listener %d of %d is nil: look at the error of NewListener", i+1, len(listeners))
		}
		if slices.Contains(listeners[:i], l) {
			return nil, fmt.Errorf("deferred: Run: listener %d of %d was given before; give each once", i+1, len(listeners))
		}
		if s := l.Scheduler(); !slices.Contains(schedulers, s) {
			schedulers = append(schedulers, s)
		}
	}
	return schedulers, nil
}

// A group is what one Run started.
type group struct {
	work       context.Context // of the schedulers; outlasts the listeners
	cancel     context.CancelFunc
	listeners  sync.WaitGroup
	schedulers sync.WaitGroup
	ended      chan struct{} // closed when there is a reason to stop besides ctx

	mu struct {
		sync.Mutex
		stopping bool
		open     int // listeners that serve
		errs     []error
	}
}

func newGroup(ctx context.Context, open int) *group {
	g := &group{ended: make(chan struct{})}
	g.work, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.mu.open = open
	return g
}

// report takes the error of a part that ended, nil after an orderly stop.
func (g *group) report(err error) {
	if err == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(err)
}

func (g *group) failLocked(err error) {
	g.mu.errs = append(g.mu.errs, err)
	if !g.mu.stopping {
		g.mu.stopping = true
		close(g.ended)
	}
}

// listenerEnded takes the error of ListenAndServe, which is never nil.
func (g *group) listenerEnded(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.open--
	switch {
	case !errors.Is(err, ErrServerClosed):
		g.failLocked(err)
	case g.mu.open == 0 && !g.mu.stopping:
		g.failLocked(err)
	}
}

// stop ends the listeners, and then the schedulers.
func (g *group) stop(listeners []*Listener) {
	g.mu.Lock()
	g.mu.stopping = true
	g.mu.Unlock()
	for _, l := range listeners {
		// The error says that clients were cut off, which concerns them alone.
		g.listeners.Go(func() { _ = l.Shutdown(g.work) })
	}
	g.listeners.Wait()
	g.cancel()
	g.schedulers.Wait()
}

func (g *group) result() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.errs) == 1 {
		return g.mu.errs[0]
	}
	return errors.Join(g.mu.errs...)
}
