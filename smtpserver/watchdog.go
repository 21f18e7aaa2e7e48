package smtpserver

import (
	"context"
	"sync"
	"time"
)

// A watchdog bounds the work behind the content of the messages of one
// connection: it ends their context after ProcessingTimeout, and answers for them
// when the grace has passed too. Its timer goes on from one message to the
// next and looks, when it fires, whether there is something to be done: to start
// and stop one for each costs more than to store a short message in memory.
type watchdog struct {
	mu struct {
		sync.Mutex
		tx      *transaction // that is being worked on; nil: none
		due     time.Time    // when something must be done for it
		barked  bool         // its context was ended
		timer   *time.Timer
		fires   time.Time // when timer does; zero: it does not
		stopped bool
		barking chan struct{} // closed when tx was answered for; nil: it is not being

		ctx    context.Context // for all messages until one takes too long
		cancel context.CancelCauseFunc
	}
}

// watch starts the clock for tx, and returns the context of its work, which ends
// with the connection too. unwatch must be called behind that.
func (w *watchdog) watch(tx *transaction) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.stopped {
		return tx.r.link.context()
	}
	if w.mu.ctx == nil || w.mu.ctx.Err() != nil {
		w.mu.ctx, w.mu.cancel = context.WithCancelCause(tx.r.link.context())
	}
	if d := tx.r.opts.Limits.ProcessingTimeout; d > 0 {
		w.mu.tx, w.mu.barked = tx, false
		w.mu.due = time.Now().Add(d)
		w.armLocked()
	}
	return w.mu.ctx
}

// unwatch is behind the work. If the client is being answered for it, it waits for
// that: the answer must not come upon what follows.
func (w *watchdog) unwatch() {
	w.mu.Lock()
	barking := w.mu.barking
	w.mu.tx, w.mu.barking = nil, nil
	w.mu.Unlock()
	if barking != nil {
		<-barking
	}
}

// stop is for the end of the connection.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.tx, w.mu.stopped = nil, true
	if w.mu.timer != nil {
		w.mu.timer.Stop()
	}
	if w.mu.cancel != nil {
		w.mu.cancel(nil)
	}
}

// armLocked sees to it that the timer fires when something is due, or before.
func (w *watchdog) armLocked() {
	if !w.mu.fires.IsZero() && !w.mu.fires.After(w.mu.due) {
		return
	}
	w.mu.fires = w.mu.due
	d := time.Until(w.mu.due)
	if w.mu.timer == nil {
		w.mu.timer = time.AfterFunc(d, w.fire)
		return
	}
	w.mu.timer.Reset(d)
}

func (w *watchdog) fire() {
	if tx, barking := w.overdue(); tx != nil {
		defer close(barking)
		tx.overdue()
	}
}

// overdue does what is due, and returns the transaction that must be answered for,
// and what to close behind that.
func (w *watchdog) overdue() (*transaction, chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.fires = time.Time{}
	tx := w.mu.tx
	switch {
	case tx == nil:
		return nil, nil
	case time.Now().Before(w.mu.due):
	case !w.mu.barked:
		w.mu.barked = true
		w.mu.cancel(context.DeadlineExceeded)
		w.mu.due = w.mu.due.Add(tx.r.grace)
	default:
		w.mu.tx, w.mu.barking = nil, make(chan struct{})
		return tx, w.mu.barking
	}
	w.armLocked()
	return nil, nil
}
