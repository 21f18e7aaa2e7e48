package spooltest

import (
	"errors"

	"github.com/deferredqueue/deferredqueue/spool"
)

// end closes an owner, lets it die or lets its sync fail, in half of the cases
// while calls are under way, opens it anew and compares everything.
func (r *run) end() {
	var ends []func(o *owner, calls []call)
	if r.h.Reopen != nil {
		ends = append(ends, r.endClose)
	}
	if r.h.Crash != nil {
		ends = append(ends, r.endCrash)
	}
	if r.h.Fail != nil && (r.h.Reopen != nil || r.h.Crash != nil) {
		ends = append(ends, r.endFail)
	}
	if ends == nil {
		return
	}
	r.readAll()
	o := r.by()
	var calls []call
	if r.chance(50) {
		for range 1 + r.rng.IntN(4) {
			calls = append(calls, r.applying(r.by()))
		}
	}
	ends[r.rng.IntN(len(ends))](o, calls)
	r.check()
}

// under sets the mood of the calls of an owner; nil: of every one.
func under(calls []call, by *owner, m mood) {
	for _, c := range calls {
		if a := c.(*applyCall); by == nil || a.by == by {
			a.mood = m
		}
	}
}

func (r *run) endClose(o *owner, calls []call) {
	r.count("close")
	under(calls, o, closing)
	wait := r.start(calls)
	r.ok(o.sp.Close(), "Close")
	wait()
	r.settle(calls)
	r.dropReaders(o, true)
	o.sp = r.h.Reopen(r.t, o.sp)
	r.m.disown(o, false)
}

func (r *run) endCrash(o *owner, calls []call) {
	r.count("crash")
	under(calls, o, dying)
	wait := r.start(calls)
	next := r.h.Crash(r.t, o.sp)
	wait()
	o.sp = next
	r.settle(calls)
	r.dropReaders(o, false)
	r.resolve(calls)
	r.m.disown(o, true)
}

// endFail lets the next sync of an owner fail, and then opens every owner anew:
// which of them noticed depends on what they share.
func (r *run) endFail(o *owner, calls []call) {
	r.count("failed sync")
	sure := &applyCall{f: r.as(o), by: o}
	sure.add(r, r.message(o)) // so that there is a sync
	calls = append(calls, sure)
	under(calls, nil, failing)
	r.h.Fail(r.t, o.sp)
	r.start(calls)()
	r.settle(calls)
	failed := 0
	for _, c := range calls {
		failed += len(c.(*applyCall).open)
	}
	if failed == 0 {
		r.fail("a sync failed, and every unit was answered by nil, or by an error of its own")
	}
	if r.h.Crash != nil && (r.h.Reopen == nil || r.chance(50)) {
		for _, o := range r.owners {
			o.sp = r.h.Crash(r.t, o.sp)
		}
		r.afterFail(calls, true)
		return
	}
	for _, o := range r.owners {
		if err := o.sp.Close(); errors.Is(err, spool.ErrClosed) {
			r.fail("Close of a failed spool: %v", err)
		}
	}
	for i, o := range r.owners {
		if i == 0 {
			o.sp = r.h.Reopen(r.t, o.sp)
		} else {
			o.sp = r.h.Second(r.t, r.owners[0].sp)
		}
	}
	r.afterFail(calls, false)
}

func (r *run) afterFail(calls []call, counted bool) {
	r.t.Helper()
	r.resolve(calls)
	for _, o := range r.owners {
		r.dropReaders(o, false)
		r.m.disown(o, counted)
	}
}

// resolve finds out what became of the units whose outcome is open, each of
// which must have been applied whole or not at all.
func (r *run) resolve(calls []call) {
	r.t.Helper()
	stored := r.as(r.owners[0]).index()
	for _, c := range calls {
		a := c.(*applyCall)
		for _, u := range a.open {
			if r.wasApplied(u, stored) {
				r.count("uncertain, applied")
				r.m.apply(a.by, u)
				continue
			}
			r.discard(u)
		}
	}
}

// wasApplied looks at each change of a unit.
func (r *run) wasApplied(u spool.Unit, stored map[spool.ID]*spool.Entry) bool {
	r.t.Helper()
	yes, no := 0, 0
	for _, c := range u {
		got := stored[c.Entry.ID]
		var done bool
		switch c.Op {
		case spool.Remove:
			if r.m.entries[c.Entry.ID] == nil {
				continue // which it was before as well
			}
			done = got == nil
		case spool.Insert:
			done = got != nil
		case spool.Update:
			if got == nil {
				r.fail("an entry is gone that a unit was to update: %s", describeUnit(u))
			}
			done = got.LastError == c.Entry.LastError
		case spool.Release:
			continue // nobody owns anything any more
		}
		if done {
			yes++
		} else {
			no++
		}
	}
	if yes > 0 && no > 0 {
		r.fail("a unit whose outcome was unknown was applied in part: %d of its changes, and %d not: %s", yes, no, describeUnit(u))
	}
	return yes > 0
}
