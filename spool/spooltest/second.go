package spooltest

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var secondTests = []conformanceTest{
	{
		name:  "Shared",
		needs: []string{"Second"},
		rule:  "several Spool values may stand on one store: what one made durable the other finds",
		run: func(f *fixture) {
			g := f.second()
			e := f.owned("a body")
			w := f.stage("staged")
			g.same("Scan by the other", g.stored(), []*spool.Entry{e})
			g.has(e.Body, "a body")
			g.lacks(w.ID(), "that another staged")
			g.infos(spool.QueueInfo{Queue: "queue", Class: "class", Entries: 1, Bytes: 6, Oldest: e.Received})
			other := g.entry(e.Body)
			g.apply(spool.Unit{{Op: spool.Insert, Entry: other}})
			f.claims("Claim of what the other inserted", spool.ClaimRequest{}, other)
		},
	},
	{
		name:  "Fenced",
		needs: []string{"Second"},
		rule:  "changes to what this Spool value does not own answer ErrFenced, whatever the Rev",
		run: func(f *fixture) {
			g := f.second()
			e := f.owned("a body")
			g.claims("Claim of what another owns", spool.ClaimRequest{})
			g.claims("Claim by ID of what another owns", spool.ClaimRequest{IDs: []spool.ID{e.ID}})
			for _, op := range []spool.Op{spool.Update, spool.Remove, spool.Release} {
				g.is(g.try(unit(op, e.Clone())), "a change to what another owns", spool.ErrFenced)
			}
			f.apply(unit(spool.Release, e))
			got := g.one(e.ID)
			for _, op := range []spool.Op{spool.Update, spool.Remove, spool.Release} {
				f.is(f.try(unit(op, e.Clone())), "a change by the former owner", spool.ErrFenced)
				f.is(f.try(unit(op, got.Clone())), "a change by the former owner at the present Rev", spool.ErrFenced)
			}
			g.apply(unit(spool.Remove, got))
		},
	},
	{
		name:  "Disjoint",
		needs: []string{"Second"},
		rule:  "an entry has one owner: the claims of two have nothing in common",
		run: func(f *fixture) {
			g := f.second()
			var all []*spool.Entry
			for n := range 10 {
				all = append(all, f.freeIn("queue", "class", -time.Duration(n+1)*time.Second))
			}
			var got []*spool.Entry
			for range 3 {
				got = append(got, f.claim(spool.ClaimRequest{Limit: 2})...)
				got = append(got, g.claim(spool.ClaimRequest{Limit: 2})...)
			}
			f.same("six claims by two owners", byID(got...), byID(all...))
		},
	},
	{
		name:  "Hints",
		needs: []string{"Second"},
		rule:  "Changed receives a hint that something may have become claimable by another hand than this Spool's Claim",
		run: func(f *fixture) {
			g := f.second()
			e := f.owned("a body")
			g.quiet()
			f.apply(unit(spool.Release, e))
			g.hinted("another's Release")
			e = f.one(e.ID)
			g.quiet()
			f.apply(unit(spool.Update, e))
			g.hinted("another's Update without Keep")
			f.one(e.ID)
			g.quiet()
			f.ok(f.sp.Close(), "Close")
			g.hinted("another's Close")
			g.same("Claim of what another owned until its Close", g.claim(spool.ClaimRequest{}), []*spool.Entry{e})
		},
	},
	{
		name:  "Crash",
		needs: []string{"Second", "Crash"},
		rule:  "when one owner dies, the other keeps what it owns and may claim the rest",
		run: func(f *fixture) {
			g := f.second()
			mine, theirs := f.owned("mine"), g.owned("theirs")
			f.crash()
			g.same("Claim after the other crashed", g.claim(spool.ClaimRequest{}), []*spool.Entry{mine})
			f.claims("Claim after the crash", spool.ClaimRequest{})
			g.apply(unit(spool.Remove, theirs))
		},
	},
	{
		name:  "Invisible",
		needs: []string{"Second"},
		rule:  "nothing of what is staged is visible to others before it is committed",
		run: func(f *fixture) {
			g := f.second()
			w, v := f.stage("a body"), f.stage(noise(big))
			e := f.entry(w.ID())
			f.is(f.try(spool.Unit{
				{Op: spool.Insert, Entry: e, Stage: w}, {Op: spool.Insert, Entry: f.entry(spool.NewID())},
			}), "a unit with an unknown body", spool.ErrNotFound)
			g.same("Scan by the other", g.stored(), nil)
			g.claims("Claim by the other", spool.ClaimRequest{})
			g.claims("Claim by ID by the other", spool.ClaimRequest{IDs: []spool.ID{e.ID}})
			g.lacks(w.ID(), "that another staged")
			g.lacks(v.ID(), "that another staged")
			g.infos()
			f.ok(w.Commit(f.ctx, e), "Commit")
			g.has(e.Body, "a body")
		},
	},
	{
		name:  "UnitFenced",
		needs: []string{"Second"},
		rule:  "a unit of which one change is fenced does nothing, whoever owns the entry",
		run:   unitFenced,
	},
	{
		name:  "ClaimIDs",
		needs: []string{"Second"},
		rule:  "an entry has one owner: of two that claim it by its ID at the same time one gets it",
		run:   claimIDsRace,
	},
	{
		name:  "Takeover",
		needs: []string{"Second"},
		rule:  "of the changes of a former owner none is applied, however they race with those of the next",
		run:   takeover,
	},
}

// unitFenced puts the change of an entry that another owns at each place of a
// unit.
func unitFenced(f *fixture) {
	g := f.second()
	theirs := g.owned("theirs")
	for place := range 4 {
		removed, updated, released := f.owned("removed"), f.owned("updated"), f.owned("released")
		w := f.stage("inserted")
		next := updated.Clone()
		next.Attempts = 7
		u := spool.Unit{
			{Op: spool.Remove, Entry: removed},
			{Op: spool.Update, Entry: next},
			{Op: spool.Insert, Entry: f.entry(w.ID()), Stage: w},
			{Op: spool.Release, Entry: released},
		}
		for _, op := range []spool.Op{spool.Update, spool.Remove, spool.Release} {
			bad := spool.Change{Op: op, Entry: theirs.Clone()}
			with := append(u[:place:place], append(spool.Unit{bad}, u[place:]...)...)
			f.is(f.try(with), "a unit that changes an entry of another", spool.ErrFenced)
			for _, by := range []*fixture{f, g} {
				by.same("Scan after a unit that was fenced", by.stored(), byID(theirs, removed, updated, released))
				by.claims("Claim after a unit that was fenced", spool.ClaimRequest{})
				by.equal("after a unit that was fenced", by.find(updated.ID), updated)
				by.equal("after a unit that was fenced", by.find(theirs.ID), theirs)
				by.lacks(w.ID(), "of a unit that was fenced")
			}
		}
		f.apply(spool.Unit{
			{Op: spool.Remove, Entry: removed}, {Op: spool.Remove, Entry: updated}, {Op: spool.Remove, Entry: released},
		})
	}
	g.apply(unit(spool.Remove, theirs))
}

func claimIDsRace(f *fixture) {
	both := []*fixture{f, f.second()}
	all := f.fill(100, nil)
	for round := range 20 {
		got := make([][]*spool.Entry, 4)
		errs := make([]error, len(got))
		var wg sync.WaitGroup
		for n := range got {
			list := ids(all)
			if n%3 == 1 {
				slices.Reverse(list)
			}
			wg.Go(func() {
				for some := range slices.Chunk(list, 1+(round+n)%9) {
					entries, _, err := both[n%2].sp.Claim(f.ctx, spool.ClaimRequest{IDs: some})
					got[n], errs[n] = append(got[n], entries...), errors.Join(errs[n], err)
				}
			})
		}
		wg.Wait()
		f.ok(errors.Join(errs...), "Claim by IDs by two owners")
		f.same("what two owners claimed by IDs", byID(slices.Concat(got...)...), byID(all...))
		for n, entries := range got {
			var u spool.Unit
			for _, e := range entries {
				u = append(u, spool.Change{Op: spool.Release, Entry: e})
			}
			both[n%2].apply(u)
		}
	}
}

// takeover lets one owner give an entry up and use it nevertheless, while the
// other claims and changes it.
func takeover(f *fixture) {
	g := f.second()
	for round := range 20 {
		e := f.free("a body")
		mine := f.one(e.ID)
		var late, taken error
		var theirs *spool.Entry
		var wg sync.WaitGroup
		f.apply(unit(spool.Release, mine))
		use := func() {
			next := mine.Clone()
			next.LastError = "by the former owner"
			late = errors.Join(f.sp.Apply(f.ctx, unit(spool.Update, next))...)
		}
		if round%2 == 0 { // what is started first often runs last
			wg.Go(use)
		}
		wg.Go(func() {
			entries, _, err := g.sp.Claim(f.ctx, spool.ClaimRequest{IDs: []spool.ID{e.ID}})
			if taken = err; err != nil || len(entries) != 1 {
				return
			}
			theirs = entries[0].Clone()
			theirs.LastError = "by the next owner"
			taken = errors.Join(g.sp.Apply(f.ctx, spool.Unit{{Op: spool.Update, Entry: theirs, Keep: true}})...)
		})
		if round%2 == 1 {
			wg.Go(use)
		}
		wg.Wait()
		f.is(late, "Update by the former owner", spool.ErrFenced)
		f.ok(taken, "Claim and Update by the next owner")
		if theirs == nil {
			f.fail("Claim by the next owner of what was released: got nothing")
		}
		g.equal("after both", g.find(e.ID), theirs)
		g.apply(unit(spool.Remove, theirs))
	}
}
