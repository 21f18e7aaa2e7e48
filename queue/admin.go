package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Admin is what operators do with a [Scheduler]: look at what is queued, and act
// on it. All methods are safe for concurrent use, while handlers run and while
// other processes work on the same store.
//
// Messages are found wherever they are: waiting in the memory of this Scheduler,
// in the spool, due or scheduled, and in memory alone ([Transaction.Keep]). An
// action first becomes the owner of a message and then changes it. A message whose
// handler runs is left alone, and so is one that another process works on; the
// [Result] counts both, and the action may be repeated.
//
// Looking, suspending and resuming need an open spool only, and work before
// [Scheduler.Run] and after it. Actions work before Run, too: the records of
// messages that they end, and all others, are then written when Run is called. Once
// Run has begun to stop, they answer [ErrStopped]. They wait for [Options.Record], which
// must therefore not call them.
type Admin struct{ s *Scheduler }

// Admin returns the operator's side of the Scheduler.
func (s *Scheduler) Admin() *Admin { return &Admin{s} }

// A Result says what an action did.
type Result struct {
	Done           int64 // changed, and durably so
	RunningHere    int64 // not touched: the handler runs in this process
	OwnedElsewhere int64 // not touched: another process works on it, or a listener has just accepted it
	Skipped        int64 // nothing was to be done; or not selected, although named by ID or selected a moment before
	Failed         int64 // not changed, because of an error

	// Errors has the first errors, at most 100 of them. What is named by
	// [Filter.IDs] and not there is a [spool.ErrNotFound]. Damage to a spool that is
	// no entry's has the zero ID.
	Errors map[spool.ID]error
}

const maxResultErrors = 100

func (r *Result) fail(id spool.ID, err error) {
	r.Failed++
	if r.Errors == nil {
		r.Errors = map[spool.ID]error{}
	}
	if len(r.Errors) < maxResultErrors {
		r.Errors[id] = err
	}
}

// RebindOptions say what [Admin.Rebind] otherwise refuses.
type RebindOptions struct {
	// Deferred allows the queue [Deferred] as the target: the inject callback runs
	// on messages that it, or another operator, had moved on.
	Deferred bool
	// Unprocessed also moves messages that are still in the queue Deferred: the
	// inject callback never sees them.
	Unprocessed bool
}

var errUnprocessed = errors.New("queue: Rebind: the inject callback has not processed the message; RebindOptions.Unprocessed moves it on all the same")

// Retry makes messages due now, however far away their next attempt is. Attempts
// and all else stay as they are. It selects Queued messages; Held ones only if
// [Filter.States] has [spool.Held], and these are released by it. What is due
// already is skipped. Where a queue is suspended or has no handler, its messages
// are due and wait.
//
// Each is recorded as an AdminRebind with the reason, which must not be empty. The
// error is that of the action as a whole, beside what was done until then; that of
// ctx, for one. Nothing is left half done by it.
func (a *Admin) Retry(ctx context.Context, f Filter, reason string) (Result, error) {
	return a.act(ctx, action{name: "Retry", filter: f, reason: reason, states: []spool.State{spool.Queued},
		idle:   func(e *spool.Entry, now time.Time) bool { return e.State == spool.Queued && !e.Due.After(now) },
		change: (*action).retry})
}

// Hold keeps messages from being worked on until they are released, as the verdict
// [Hold] does: attempts do not change, and what is held does not expire. It selects
// Queued messages. Each is recorded as a TransientFailure with the reason; for the
// rest see [Admin.Retry].
func (a *Admin) Hold(ctx context.Context, f Filter, reason string) (Result, error) {
	return a.act(ctx, action{name: "Hold", filter: f, reason: reason, states: []spool.State{spool.Queued},
		idle:   func(e *spool.Entry, _ time.Time) bool { return e.State == spool.Held },
		change: (*action).hold})
}

// Release undoes a Hold, an operator's or a handler's: messages are tried when they
// were due before. It selects Held messages. Each is recorded as an AdminRebind with
// the reason; for the rest see [Admin.Retry].
func (a *Admin) Release(ctx context.Context, f Filter, reason string) (Result, error) {
	return a.act(ctx, action{name: "Release", filter: f, reason: reason, states: []spool.State{spool.Held},
		idle:   func(e *spool.Entry, _ time.Time) bool { return e.State == spool.Queued },
		change: (*action).release})
}

// Bounce ends messages as undeliverable, and has their senders told if
// [Options.Notices] says so; where that cannot be stored, the message has failed and
// stays. It selects Queued and Held messages. Each is
// recorded as an AdminBounce with the reason. The end of a message is stored first,
// then recorded, and then the message is removed; Bounce waits for all of that while
// Run is running, but not longer than ctx, and what is left is done without it. For
// the rest see [Admin.Retry].
func (a *Admin) Bounce(ctx context.Context, f Filter, reason string) (Result, error) {
	return a.act(ctx, action{name: "Bounce", filter: f, reason: reason, states: []spool.State{spool.Queued, spool.Held},
		tells: true, change: (*action).bounce})
}

// Drop is [Admin.Bounce], but for that the sender is not to be told.
func (a *Admin) Drop(ctx context.Context, f Filter, reason string) (Result, error) {
	return a.act(ctx, action{name: "Drop", filter: f, reason: reason, states: []spool.State{spool.Queued, spool.Held},
		change: (*action).drop})
}

// Rebind moves messages to another queue, which must have a handler: due now, with
// no attempts; ID, class, age and content stay. It selects Queued messages; Held ones
// only if [Filter.States] has [spool.Held], and these are released by it. Nothing
// moves into or out of the queue [Deferred] unless opts, which may be nil, say so.
// Each is recorded as an AdminRebind of the queue that it was in, with the reason; for
// the rest see [Admin.Retry].
func (a *Admin) Rebind(ctx context.Context, f Filter, queue, reason string, opts *RebindOptions) (Result, error) {
	var o RebindOptions
	if opts != nil {
		o = *opts
	}
	if err := a.s.rebindTarget(queue, o); err != nil {
		return Result{}, err
	}
	if f.Queue == Deferred && !o.Unprocessed {
		return Result{}, errUnprocessed
	}
	return a.act(ctx, action{name: "Rebind", filter: f, reason: reason, states: []spool.State{spool.Queued},
		target: queue, unprocessed: o.Unprocessed, change: (*action).rebind})
}

// rebindTarget says why messages cannot be moved to that queue.
func (s *Scheduler) rebindTarget(queue string, opts RebindOptions) error {
	switch {
	case queue == "":
		return errors.New("queue: Rebind: the name of the target is empty")
	case queue == Deferred && opts.Deferred:
		return nil
	case queue == Deferred:
		return fmt.Errorf("queue: Rebind: in %q the inject callback runs on the messages again; RebindOptions.Deferred says that this is meant", queue)
	}
	s.mu.Lock() // Handle may be called beside this before Run
	defer s.mu.Unlock()
	return s.checkTarget(queue)
}

func (a *action) retry(e *spool.Entry, now time.Time) (Record, error) {
	r := a.moved(e, now, "retried")
	e.State = spool.Queued
	if e.Due.After(now) {
		e.Due = now
	}
	return r, nil
}

func (a *action) hold(e *spool.Entry, now time.Time) (Record, error) {
	v := classify(Hold(a.reason))
	e.State, e.LastError = spool.Held, v.response.Content
	return a.s.record(TransientFailure, e, now, v.response), nil
}

func (a *action) release(e *spool.Entry, now time.Time) (Record, error) {
	r := a.moved(e, now, "released")
	e.State = spool.Queued
	return r, nil
}

func (a *action) bounce(e *spool.Entry, now time.Time) (Record, error) {
	return a.end(e, now, "bounced"), nil
}

func (a *action) drop(e *spool.Entry, now time.Time) (Record, error) {
	return a.end(e, now, "dropped"), nil
}

func (a *action) rebind(e *spool.Entry, now time.Time) (Record, error) {
	if e.Queue == Deferred && !a.unprocessed {
		return Record{}, errUnprocessed
	}
	r := a.moved(e, now, "rebound to "+a.target)
	e.Queue, e.State, e.Attempts, e.Interrupted, e.LastError = a.target, spool.Queued, 0, 0, ""
	e.Due = now
	return r, nil
}

// moved is the record of what stays queued. e is as it was.
func (a *action) moved(e *spool.Entry, now time.Time, what string) Record {
	return a.s.record(AdminRebind, e, now, respond(250, [3]int{2, 0, 0}, what+" by an operator: "+a.reason))
}

// end makes e final. The codes are those of KumoMTA's AdminBounce.
func (a *action) end(e *spool.Entry, now time.Time, what string) Record {
	response := respond(551, [3]int{5, 7, 1}, what+" by an operator: "+a.reason)
	e.LastError = response.Content
	r := a.s.record(AdminBounce, e, now, response)
	a.s.final(&outcome{entry: e}, r)
	return r
}
