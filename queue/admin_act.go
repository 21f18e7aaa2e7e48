package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// actionPage is how many messages an action owns at a time.
const actionPage = 256

// An action is one call of a method of Admin.
type action struct {
	name   string
	filter Filter
	reason string
	states []spool.State // selected if the filter names none
	// idle reports whether there is nothing to do about a message that is selected;
	// nil: there always is.
	idle func(e *spool.Entry, now time.Time) bool
	// change makes of e, which is a clone, what is to be stored, and returns the
	// record of that; one without a type is not written.
	change func(a *action, e *spool.Entry, now time.Time) (Record, error)

	tells bool // senders, with notices

	target      string // Rebind
	unprocessed bool

	s      *Scheduler
	now    time.Time // when it began: ages count from here
	result Result
}

// A changedEntry is a message that is stored as it is now, and still owned here.
type changedEntry struct {
	entry    *spool.Entry
	record   Record
	received []*spool.Entry // the notice of it
}

// act carries out an action. It counts as a task of the Scheduler, so that a stop
// waits for it.
func (a *Admin) act(ctx context.Context, act action) (Result, error) {
	act.s, act.now = a.s, time.Now()
	err := act.check()
	if err == nil {
		err = act.run(ctx)
	}
	if err != nil {
		return act.result, fmt.Errorf("queue: %s: %w", act.name, err)
	}
	return act.result, nil
}

func (a *action) check() error {
	if a.filter.empty() {
		return errors.New("the Filter is empty; set All to select every message")
	}
	if a.filter.MinAge < 0 || a.filter.MinAttempts < 0 {
		return errors.New("the Filter has a negative MinAge or MinAttempts, which would select everything")
	}
	if strings.TrimSpace(a.reason) == "" {
		return errors.New("the reason is empty; it stands in the records")
	}
	if a.filter.States == nil {
		a.filter.States = a.states
	}
	return nil
}

func (a *action) run(ctx context.Context) error {
	s := a.s
	if !s.pool.enter() {
		return ErrStopped
	}
	defer s.pool.leave()
	// The stop of the host ends an action as it ends handlers.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.jobs, func() { cancel(context.Cause(s.jobs)) })()
	if a.filter.IDs != nil {
		return a.pages(ctx, sortedIDs(a.filter.IDs))
	}
	kept, err := a.runKept(ctx)
	if err != nil {
		return err
	}
	return a.runScan(ctx, kept)
}

// pages acts on these messages, a page at a time.
func (a *action) pages(ctx context.Context, ids []spool.ID) error {
	for len(ids) > 0 {
		n := min(len(ids), actionPage)
		if err := a.page(ctx, ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// runKept acts on what is in memory alone, and returns what it has seen there: the
// spool may have it by the time it is looked through.
func (a *action) runKept(ctx context.Context) (seen map[spool.ID]bool, err error) {
	entries, err := a.s.kept.entries(ctx)
	if err != nil {
		return nil, err
	}
	seen = map[spool.ID]bool{}
	var ids []spool.ID
	for _, e := range entries {
		if a.selects(e) {
			seen[e.ID] = true
			ids = append(ids, e.ID)
		}
	}
	return seen, a.pages(ctx, ids)
}

// runScan acts on what is in the spool, in the order of the IDs: what an action
// changes is not met again.
func (a *action) runScan(ctx context.Context, but map[spool.ID]bool) error {
	var ids []spool.ID
	for e, err := range a.s.spool.Scan(ctx, spool.Query{Queue: a.filter.Queue}) {
		var damage *spool.CorruptError
		switch {
		case errors.As(err, &damage):
			a.result.fail(damage.ID, err)
			continue
		case err != nil:
			return err
		case !a.selects(e) || but[e.ID]:
			continue
		case a.idle != nil && a.idle(e, a.now) && !a.s.worksOn(e.ID):
			a.result.Skipped++ // without claiming, which would cost much for a backlog
			continue
		}
		if ids = append(ids, e.ID); len(ids) < actionPage {
			continue
		}
		if err := a.page(ctx, ids); err != nil {
			return err
		}
		ids = ids[:0]
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return a.page(ctx, ids)
}

// selects reports whether the action is about e. What is final has its outcome.
func (a *action) selects(e *spool.Entry) bool {
	return e.State != spool.Final && a.filter.matches(e, a.now)
}

// page acts on these messages, whatever they have become since they were looked
// at. It leaves none of them owned and forgotten.
func (a *action) page(ctx context.Context, ids []spool.ID) error {
	if err := a.admitted(ctx); err != nil || len(ids) == 0 {
		return err
	}
	owned, err := a.own(ctx, ids)
	if err != nil {
		return err
	}
	changed := a.store(ctx, owned)
	a.conclude(ctx, changed)
	return context.Cause(ctx)
}

// admitted says why no further page may begin; nil if one may.
func (a *action) admitted(ctx context.Context) error {
	s := a.s
	s.mu.Lock()
	at := s.mu.phase
	s.mu.Unlock()
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case at == stopping:
		return ErrStopped
	case at == idle && s.recorder.full(): // nobody takes them before Run
		return ErrRecordsFull
	}
	return nil
}

// store makes the change of what is owned durable, and gives back what was not
// changed.
func (a *action) store(ctx context.Context, owned []*spool.Entry) []changedEntry {
	now := time.Now()
	var units []spool.Unit
	var changes []changedEntry
	var was, back []*spool.Entry
	for _, e := range owned {
		next := e.Clone()
		r, err := a.change(a, next, now)
		if err != nil {
			a.result.fail(e.ID, err)
			back = append(back, e)
			continue
		}
		o := outcome{unit: spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}}
		if a.tells {
			o.tell(told{action: dsn.Failed, entry: next, response: r.Response, said: true, status: r.Response.Enhanced})
			if err := a.s.addNotices(e, &o, 0, now); err != nil { // nothing is lost by acting again
				a.result.fail(e.ID, err)
				back = append(back, e)
				o.discard()
				continue
			}
			defer o.discard()
		}
		units = append(units, slices.Concat(o.unit, o.notices))
		changes = append(changes, changedEntry{next, r, entriesOf(o.notices)})
		was = append(was, e)
	}
	changed := changes[:0]
	for i, err := range a.s.applyAll(ctx, units) {
		if err == nil {
			changed = append(changed, changes[i])
			continue
		}
		a.result.fail(was[i].ID, err)
		back = append(back, was[i])
	}
	a.result.Done += int64(len(changed))
	a.s.release(back)
	return changed
}

// conclude has the records of a page written, and then what is final removed and the
// rest given to the scheduler. It does not wait for that longer than ctx.
func (a *action) conclude(ctx context.Context, changed []changedEntry) {
	s := a.s
	s.mu.Lock()
	before := s.mu.phase == idle
	s.mu.Unlock()
	if before {
		s.concludeLater(changed)
		return
	}
	done := make(chan struct{})
	s.pool.run(func() { // it does: the action is a task itself
		defer close(done)
		s.concludeNow(changed)
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// concludeLater leaves the records to Run, and with them what is final.
func (s *Scheduler) concludeLater(changed []changedEntry) {
	var back []*spool.Entry
	for _, c := range changed {
		if c.entry.State != spool.Final && c.record.Type != "" {
			s.recorder.post(c.record)
		}
		for _, e := range c.received {
			s.recorder.post(s.reception(e))
		}
		back = append(append(back, c.entry), c.received...)
	}
	s.release(back)
}

// concludeNow is what carryOut does after storing, for many messages at once.
func (s *Scheduler) concludeNow(changed []changedEntry) {
	var rest []*spool.Entry
	var removes []spool.Unit
	for _, c := range changed {
		taken := c.record.Type == "" || s.recorder.write(c.record)
		for _, e := range c.received {
			s.recorder.write(s.reception(e))
		}
		rest = append(rest, c.received...)
		switch {
		case c.entry.State != spool.Final:
			rest = append(rest, c.entry)
		case taken:
			removes = append(removes, spool.Unit{{Op: spool.Remove, Entry: c.entry}})
		}
	}
	s.handOver(rest, nil)
	for i, err := range s.applyAll(s.hard, removes) {
		if err != nil {
			s.log.Error("queue: removing a message that ended; it will be recorded again", "id", removes[i][0].Entry.ID, "error", err)
		}
	}
}

// applyAll makes units, each about one entry, durable, as apply does, and returns an
// error for each. What passes by itself is waited for as long as ctx stands, but not
// room for something new, which may be long in coming; what may have been stored is
// asked after until that is known.
func (s *Scheduler) applyAll(ctx context.Context, units []spool.Unit) []error {
	errs := make([]error, len(units))
	ambiguous := make([]bool, len(units))
	todo := make([]int, len(units))
	for i := range units {
		todo[i] = i
	}
	for delay := 10 * time.Millisecond; len(todo) > 0; delay = min(2*delay, 5*time.Second) {
		todo = s.applySome(ctx, units, todo, errs, ambiguous)
		if len(todo) == 0 || sleep(ctx, delay) {
			continue
		}
		if ctx == s.hard {
			return errs
		}
		uncertain := todo[:0]
		for _, i := range todo {
			if ambiguous[i] {
				uncertain = append(uncertain, i)
			} else {
				errs[i] = errors.Join(errs[i], context.Cause(ctx))
			}
		}
		todo, ctx = uncertain, s.hard
	}
	return errs
}

// applySome tries the units of todo once, and returns those that are to be tried
// again.
func (s *Scheduler) applySome(ctx context.Context, units []spool.Unit, todo []int, errs []error, ambiguous []bool) (again []int) {
	some := make([]spool.Unit, len(todo))
	for k, i := range todo {
		some[k] = units[i]
	}
	answers := s.spool.Apply(ctx, some...)
	for k, i := range todo {
		errs[i] = nil
		if len(answers) == 0 || answers[k] == nil {
			continue
		}
		err := answers[k]
		errs[i] = err
		switch {
		case errors.Is(err, spool.ErrFull) && !ambiguous[i] && inserts(units[i]):
		case errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrBusy):
			again = append(again, i)
		case errors.Is(err, spool.ErrAmbiguous):
			ambiguous[i] = true
			again = append(again, i)
		case ambiguous[i] && (errors.Is(err, spool.ErrFenced) || errors.Is(err, spool.ErrExists)) && s.fatal(nil) == nil:
			s.reread(units[i]) // the first try had succeeded: it changed the revision
			errs[i] = nil
		case ambiguous[i] && ctx.Err() != nil && ctx != s.hard:
			again = append(again, i) // what was refused is this try
		default:
			s.fail(err)
		}
	}
	return again
}

func inserts(u spool.Unit) bool {
	return slices.ContainsFunc(u, func(c spool.Change) bool { return c.Op == spool.Insert })
}
