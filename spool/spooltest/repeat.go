package spooltest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

var repeatTests = []conformanceTest{
	{
		name: "AfterSuccess",
		rule: "an insert that is repeated after it succeeded answers ErrExists, and nothing changes",
		run: func(f *fixture) {
			w := f.stage("a body")
			e := f.entry(w.ID())
			again := e.Clone()
			again.Attempts = 7
			f.ok(w.Commit(f.ctx, e), "Commit")
			f.is(w.Commit(f.ctx, again), "the same Commit again", spool.ErrExists)
			f.is(f.try(spool.Unit{{Op: spool.Insert, Entry: again, Stage: w}}), "the same Insert again", spool.ErrExists)
			f.is(f.try(unit(spool.Insert, again)), "the same Insert again, without its Stage", spool.ErrExists)
			f.unchanged(e, "a body")
			f.apply(unit(spool.Remove, e)) // which is still owned at its Rev
			f.lacks(e.Body, "whose last entry was removed")
			f.same("Scan", f.stored(), nil)
		},
	},
	{
		name: "OtherEntries",
		rule: "a unit is applied whole or not at all: one ID that is stored already takes all others of its unit with it",
		run: func(f *fixture) {
			old := f.owned("old")
			w := f.stage("new")
			entries := make([]*spool.Entry, 5)
			for n := range entries {
				entries[n] = f.entry(w.ID())
			}
			for n, e := range entries {
				fresh := e.ID
				e.ID = old.ID
				f.is(w.Commit(f.ctx, entries...), fmt.Sprintf("Commit of which ID %d of 5 is stored", n+1), spool.ErrExists)
				e.ID = fresh
				f.same("Scan", f.stored(), []*spool.Entry{old})
			}
			f.ok(w.Commit(f.ctx, entries...), "Commit of new IDs")
			f.unchanged(old, "old")
		},
	},
	{
		name: "OneApply",
		rule: "of several units of one Apply that insert one ID the first is applied, and of the others nothing",
		run: func(f *fixture) {
			var units []spool.Unit
			id := spool.NewID()
			for n := range 4 {
				w := f.stage(fmt.Sprintf("body %d", n))
				e := f.entry(w.ID())
				e.ID = id
				units = append(units, spool.Unit{{Op: spool.Insert, Entry: e, Stage: w, Keep: true}})
			}
			errs := f.sp.Apply(f.ctx, units...)
			if len(errs) != len(units) || errs[0] != nil {
				f.fail("Apply of one ID in four units: got errs %v, want nil for the first", errs)
			}
			for n, u := range units[1:] {
				f.is(errs[n+1], "a later unit", spool.ErrExists)
				f.lacks(u[0].Entry.Body, "whose insert failed")
			}
			f.same("Scan", f.stored(), []*spool.Entry{units[0][0].Entry})
			f.unchanged(units[0][0].Entry, "body 0")
		},
	},
	{
		name: "OneUnit",
		rule: "a unit names an entry at most once",
		run: func(f *fixture) {
			w := f.stage("a body")
			e := f.entry(w.ID())
			err := f.try(spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}, {Op: spool.Insert, Entry: e.Clone(), Stage: w}})
			if err == nil {
				f.fail("a unit that inserts one ID twice: got no error")
			}
			f.same("Scan", f.stored(), nil)
			f.lacks(w.ID(), "whose insert failed")
			f.ok(w.Commit(f.ctx, e), "Commit of the same Writer")
		},
	},
	{
		name: "Concurrent",
		rule: "of several callers that insert one ID exactly one succeeds, the others get ErrExists, and of theirs nothing is stored",
		run:  func(f *fixture) { f.rivals(f) },
	},
	{
		name:  "Second",
		needs: []string{"Second"},
		rule:  "of several owners that insert one ID exactly one succeeds, the others get ErrExists, and of theirs nothing is stored",
		run:   func(f *fixture) { f.rivals(f.second()) },
	},
	{
		name:  "Uncertain",
		needs: []string{"Fail", "Reopen"},
		rule:  "an insert that is repeated after an unknown outcome succeeds, or is recognised: the message is stored once",
		run:   repeatUncertain,
	},
}

// unchanged checks that an entry that this spool owns is as it was stored.
func (f *fixture) unchanged(e *spool.Entry, body string) {
	f.t.Helper()
	f.equal("by Scan", f.find(e.ID), e)
	f.has(e.Body, body)
}

// rivals lets f and g insert one ID, several times each, all at once.
func (f *fixture) rivals(g *fixture) {
	f.t.Helper()
	for round := range 10 {
		id := spool.NewID()
		entries := make([]*spool.Entry, 8)
		errs := make([]error, len(entries))
		var wg sync.WaitGroup
		for n := range entries {
			by := f
			if n%2 == 1 {
				by = g
			}
			w := by.stage(fmt.Sprintf("body %d", n))
			entries[n] = by.entry(w.ID())
			entries[n].ID = id
			wg.Go(func() { errs[n] = w.Commit(f.ctx, entries[n]) })
		}
		wg.Wait()
		var won *spool.Entry
		for n, err := range errs {
			switch {
			case err != nil:
				f.is(err, "Commit of an ID by several at once", spool.ErrExists)
				f.lacks(entries[n].Body, "whose insert failed")
			case won != nil:
				f.fail("round %d: Commit of one ID by several at once: two succeeded", round)
			default:
				won = entries[n]
				f.unchanged(won, fmt.Sprintf("body %d", n))
			}
		}
		if won == nil {
			f.fail("round %d: Commit of one ID by several at once: none succeeded: %v", round, errors.Join(errs...))
		}
	}
}

// repeatUncertain repeats a unit whose sync failed, on the spool that failed and
// on the one that was opened after it.
func repeatUncertain(f *fixture) {
	w := f.stage("first try")
	a, b := f.entry(w.ID()), f.entry(w.ID())
	f.h.Fail(f.t, f.sp)
	err := w.Commit(f.ctx, a, b)
	f.is(err, "Commit when the sync fails", spool.ErrFailed, spool.ErrAmbiguous)
	known := false
	if errors.Is(err, spool.ErrAmbiguous) {
		err = w.Commit(f.ctx, a, b)
		if known = err == nil || errors.Is(err, spool.ErrExists); !known {
			f.is(err, "the same Commit after ErrAmbiguous", spool.ErrFailed, spool.ErrAmbiguous)
		}
	}
	f.reopen()
	v := f.stage("second try")
	again := []*spool.Entry{a.Clone(), b.Clone()}
	again[0].Body, again[1].Body = v.ID(), v.ID()
	body := "second try"
	if err := v.Commit(f.ctx, again...); err != nil || known {
		f.is(err, "the same entries with a new Writer, after Reopen", spool.ErrExists)
		body = "first try"
		f.lacks(v.ID(), "whose insert failed")
	} else {
		f.lacks(w.ID(), "of a unit that was not applied")
	}
	stored := f.stored()
	f.same("Scan after the second try", stored, byID(a, b))
	for _, e := range stored {
		f.has(e.Body, body)
		f.is(f.try(unit(spool.Insert, e.Clone())), "a third try", spool.ErrExists)
	}
}
