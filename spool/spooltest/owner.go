package spooltest

import (
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var ownerTests = []conformanceTest{
	{
		name: "Fenced",
		rule: "an entry must be owned by this Spool at its Rev for every operation but Insert, else the unit is ErrFenced",
		run:  fencedWays,
	},
	{
		name: "Keep",
		rule: "with Keep an inserted or updated entry stays owned at its new Rev; without, ownership ends",
		run: func(f *fixture) {
			w := f.stage("a body")
			kept, given := f.entry(w.ID()), f.entry(w.ID())
			f.apply(spool.Unit{
				{Op: spool.Insert, Entry: kept, Stage: w, Keep: true},
				{Op: spool.Insert, Entry: given, Stage: w},
			})
			f.claims("Claim after Insert", spool.ClaimRequest{}, given)
			for range 3 {
				next := kept.Clone()
				next.Attempts++
				f.apply(spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
				if next.Rev <= kept.Rev {
					f.fail("Update: Rev went from %d to %d; it grows with every durable change", kept.Rev, next.Rev)
				}
				kept = next
				f.claims("Claim after Update with Keep", spool.ClaimRequest{})
			}
			f.apply(unit(spool.Update, kept))
			f.claims("Claim after Update without Keep", spool.ClaimRequest{}, kept)
		},
	},
	{
		name: "Remove",
		rule: "Remove is idempotent: to remove what is not stored succeeds",
		run: func(f *fixture) {
			e := f.owned("a body")
			f.apply(unit(spool.Remove, e))
			f.apply(unit(spool.Remove, e))
			f.apply(unit(spool.Remove, f.entry(spool.NewID())))
			f.same("Scan", f.stored(), nil)

			// Beside it the other changes of the unit are judged and applied.
			kept, w := f.owned("kept"), f.stage("new")
			gone := spool.Change{Op: spool.Remove, Entry: e}
			stale := kept.Clone()
			stale.Rev += 1000
			f.is(f.try(spool.Unit{gone, {Op: spool.Remove, Entry: stale}}), "a unit with a stale Rev", spool.ErrFenced)
			a, b := f.entry(w.ID()), f.entry(w.ID())
			f.apply(spool.Unit{
				{Op: spool.Insert, Entry: a, Stage: w, Keep: true}, gone, {Op: spool.Insert, Entry: b, Stage: w, Keep: true},
			})
			f.same("Scan", f.stored(), byID(kept, a, b))
			f.apply(spool.Unit{gone, {Op: spool.Remove, Entry: a}})
			f.has(w.ID(), "new")
			f.apply(spool.Unit{{Op: spool.Remove, Entry: kept}, {Op: spool.Remove, Entry: f.entry(w.ID())}, {Op: spool.Remove, Entry: b}})
			f.lacks(w.ID(), "whose last entry was removed")
		},
	},
	{
		name: "Release",
		rule: "Release gives the entry back unchanged, and something has become claimable: Changed gets a hint",
		run: func(f *fixture) {
			e := f.owned("a body", func(e *spool.Entry) { e.Attempts, e.LastError = 3, "421 later" })
			changed := e.Clone()
			changed.Attempts = 7
			f.quiet()
			f.apply(unit(spool.Release, changed))
			f.hinted("Release of an entry that is due")
			got := f.one(e.ID)
			if got.Attempts != 3 || got.LastError != "421 later" || !got.Due.Equal(e.Due) {
				f.fail("after Release: got %+v, want what was stored", got)
			}
			f.apply(unit(spool.Update, got))
		},
	},
	{
		name: "GivenBack",
		rule: "Changed receives a hint that something may have become claimable by another hand than this Spool's Claim",
		run: func(f *fixture) {
			e := f.owned("a body")
			f.quiet()
			f.apply(unit(spool.Update, e))
			f.hinted("Update without Keep of an entry that is due")

			w := f.stage("another")
			f.quiet()
			f.apply(spool.Unit{{Op: spool.Insert, Entry: f.entry(w.ID()), Stage: w}})
			f.hinted("Insert without Keep of an entry that is due")
		},
	},
	{
		name: "FailureKeeps",
		rule: "on failure ownership stays as it was",
		run: func(f *fixture) {
			e := f.owned("a body")
			f.is(f.try(spool.Unit{
				{Op: spool.Update, Entry: e.Clone()},
				{Op: spool.Insert, Entry: f.entry(spool.NewID())},
			}), "a unit with an unknown body", spool.ErrNotFound)
			f.claims("Claim", spool.ClaimRequest{})
			f.apply(unit(spool.Update, e))
		},
	},
	{
		name: "Reclaimed",
		rule: "a change names the entry at its Rev: who claimed it and had a change applied cannot use the Rev from before",
		run: func(f *fixture) {
			first := f.owned("a body")
			old := first.Clone()
			f.apply(unit(spool.Update, first))
			again := f.one(first.ID)
			if again.Rev <= old.Rev {
				f.fail("Rev went from %d to %d over an Update and a Claim; it grows with every durable change", old.Rev, again.Rev)
			}
			f.is(f.try(unit(spool.Remove, old)), "Remove at the Rev from before an Update", spool.ErrFenced)
			f.apply(unit(spool.Remove, again))
		},
	},
}

// fencedWays tries every operation on entries that are not owned at that Rev.
func fencedWays(f *fixture) {
	ways := []struct {
		name   string
		entry  func() *spool.Entry // as the loser of ownership knows it
		stored bool
	}{
		{"was released", func() *spool.Entry { return f.free("a body") }, true},
		{"was updated without Keep", func() *spool.Entry {
			e := f.owned("a body")
			f.apply(unit(spool.Update, e))
			return e
		}, true},
		{"was inserted without Keep", func() *spool.Entry {
			w := f.stage("a body")
			e := f.entry(w.ID())
			f.apply(spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}})
			return e
		}, true},
		{"is known at an older Rev", func() *spool.Entry {
			e := f.owned("a body")
			f.apply(spool.Unit{{Op: spool.Update, Entry: e.Clone(), Keep: true}})
			return e
		}, true},
		{"was only seen by Scan", func() *spool.Entry { return f.find(f.free("a body").ID) }, true},
		{"was removed", func() *spool.Entry {
			e := f.owned("a body")
			f.apply(unit(spool.Remove, e))
			return e
		}, false},
		{"never was", func() *spool.Entry { return f.entry(f.owned("a body").Body) }, false},
	}
	for _, way := range ways {
		for _, op := range []spool.Op{spool.Update, spool.Remove, spool.Release} {
			if op == spool.Remove && !way.stored {
				continue // idempotent, see its own test
			}
			e := way.entry().Clone()
			e.Due = f.now.Add(time.Hour)
			e.Attempts = 99
			before := f.find(e.ID)
			name := map[spool.Op]string{spool.Update: "Update", spool.Remove: "Remove", spool.Release: "Release"}[op]
			f.is(f.try(unit(op, e)), name+" of an entry that "+way.name, spool.ErrFenced)
			after := f.find(e.ID)
			switch {
			case way.stored && (after == nil || after.Attempts == 99 || after.Rev != before.Rev):
				f.fail("%s of an entry that %s: answered ErrFenced, yet changed it to %+v", name, way.name, after)
			case !way.stored && after != nil:
				f.fail("%s of an entry that %s: answered ErrFenced, yet stored it", name, way.name)
			}
		}
	}
}
