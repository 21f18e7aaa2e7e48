package spooltest

import (
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
)

var unitTests = []conformanceTest{
	{
		name: "Atomic",
		rule: "a unit is applied whole or not at all",
		run:  atomicUnit,
	},
	{
		name: "Independent",
		rule: "errs holds one error per unit, nil for those that succeeded, which do not mind the others",
		run: func(f *fixture) {
			a, b, c := f.owned("a"), f.owned("b"), f.owned("c")
			stale := b.Clone()
			stale.Rev += 1000
			errs := f.sp.Apply(f.ctx, unit(spool.Remove, a), unit(spool.Remove, stale), unit(spool.Remove, c))
			if len(errs) != 3 || errs[0] != nil || errs[2] != nil {
				f.fail("Apply of three units, the second fenced: got errs %v", errs)
			}
			f.is(errs[1], "the second unit", spool.ErrFenced)
			f.same("Scan", f.stored(), []*spool.Entry{b})
		},
	},
	{
		name: "Order",
		rule: "units of one Apply are judged in their order: the second insert of an ID finds the first",
		run: func(f *fixture) {
			w := f.stage("a body")
			e := f.entry(w.ID())
			first := spool.Unit{{Op: spool.Insert, Entry: e, Stage: w, Keep: true}}
			errs := f.sp.Apply(f.ctx, first, spool.Unit{{Op: spool.Insert, Entry: e.Clone(), Stage: w}})
			if len(errs) != 2 || errs[0] != nil {
				f.fail("Apply of the same insert twice: got errs %v, want nil for the first", errs)
			}
			f.is(errs[1], "the second unit", spool.ErrExists)
			f.same("Scan", f.stored(), []*spool.Entry{e})
		},
	},
	{
		name: "Empty",
		rule: "errs is nil if all units succeeded",
		run: func(f *fixture) {
			if errs := f.sp.Apply(f.ctx); errs != nil {
				f.fail("Apply of no units: got errs %v", errs)
			}
			if errs := f.sp.Apply(f.ctx, spool.Unit{}); errs != nil {
				f.fail("Apply of an empty unit: got errs %v", errs)
			}
		},
	},
	{
		name: "NamedTwice",
		rule: "a unit names an entry at most once",
		run: func(f *fixture) {
			e := f.owned("a body")
			later := e.Clone()
			later.Attempts = 7
			err := f.try(spool.Unit{{Op: spool.Update, Entry: later, Keep: true}, {Op: spool.Remove, Entry: e}})
			if err == nil {
				f.fail("a unit that updates and removes one entry: got no error")
			}
			if got := f.find(e.ID); got == nil || got.Attempts != 0 {
				f.fail("a unit that was refused changed something: the entry is %+v", got)
			}
		},
	},
	{
		name: "Exists",
		rule: "Insert answers ErrExists if its ID is stored already, whoever owns that, and nothing changes",
		run: func(f *fixture) {
			for _, old := range []*spool.Entry{f.owned("owned"), f.free("free")} {
				w := f.stage("new")
				e := f.entry(w.ID())
				e.ID, e.Attempts = old.ID, 7
				err := f.try(spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}})
				f.is(err, "Insert of an ID that is stored", spool.ErrExists)
				if got := f.find(old.ID); got == nil || got.Body != old.Body || got.Attempts != 0 {
					f.fail("after ErrExists the stored entry is %+v, want it unchanged", got)
				}
				f.lacks(w.ID(), "whose insert failed")
			}
		},
	},
	{
		name: "ExistingBody",
		rule: "without a Stage the body must be one that an entry stored before this unit refers to",
		run: func(f *fixture) {
			a := f.owned("a body")
			b := f.entry(a.Body)
			b.Header = []byte("X: y\r\n")
			f.apply(spool.Unit{{Op: spool.Insert, Entry: b, Keep: true}})
			if b.Rev == 0 || b.Size != 6+6 {
				f.fail("Insert onto a stored body: got Rev %d, Size %d, want Rev above 0, Size 12", b.Rev, b.Size)
			}
			f.apply(unit(spool.Remove, a))
			f.has(b.Body, "a body")
		},
	},
	{
		name: "BodyNotFound",
		rule: "without a Stage, and without a body that an entry stored before this unit refers to, the unit is ErrNotFound",
		run: func(f *fixture) {
			e := f.owned("a body")
			err := f.try(unit(spool.Insert, f.entry(spool.NewID())))
			f.is(err, "Insert onto a body that nobody made", spool.ErrNotFound)

			w := f.stage("staged")
			err = f.try(unit(spool.Insert, f.entry(w.ID())))
			f.is(err, "Insert without Stage onto a staged body", spool.ErrNotFound)
			err = f.try(spool.Unit{
				{Op: spool.Insert, Entry: f.entry(w.ID()), Stage: w},
				{Op: spool.Insert, Entry: f.entry(w.ID())},
			})
			f.is(err, "Insert without Stage onto a body that only this unit brings", spool.ErrNotFound)

			moved := e.Clone()
			moved.Body = spool.NewID()
			f.is(f.try(unit(spool.Update, moved)), "Update to a body that nobody made", spool.ErrNotFound)
			f.same("Scan", f.stored(), []*spool.Entry{e})
			f.has(e.Body, "a body")
		},
	},
	{
		name: "BodyPassedOn",
		rule: "a unit that removes the last entry of a body and inserts another that refers to it keeps the body",
		run: func(f *fixture) {
			old := f.owned("a body")
			e := f.entry(old.Body)
			f.apply(spool.Unit{{Op: spool.Remove, Entry: old}, {Op: spool.Insert, Entry: e}})
			f.has(e.Body, "a body")
			f.same("Scan", f.stored(), []*spool.Entry{e})
		},
	},
	{
		name: "NewBody",
		rule: "an Update may refer to another body, which its Stage brings; the old one goes with its last entry",
		run: func(f *fixture) {
			e := f.owned("before")
			w := f.stage("afterwards")
			next := e.Clone()
			next.Body = w.ID()
			f.apply(spool.Unit{{Op: spool.Update, Entry: next, Stage: w, Keep: true}})
			if next.Size != 10 || next.Rev <= e.Rev {
				f.fail("Update with a new body: got Size %d, Rev %d, want Size 10, Rev above %d", next.Size, next.Rev, e.Rev)
			}
			f.has(w.ID(), "afterwards")
			f.lacks(e.Body, "that no entry refers to any more")
		},
	},
	{
		name: "SharedStage",
		rule: "changes of one unit may share a Stage: a success with its emitted messages is one unit",
		run: func(f *fixture) {
			e := f.owned("received")
			w, v := f.stage("emitted"), f.stage("notice")
			next, a, b := e.Clone(), f.entry(w.ID()), f.entry(v.ID())
			next.Body, next.Queue = w.ID(), "next"
			f.apply(spool.Unit{
				{Op: spool.Insert, Entry: a, Stage: w},
				{Op: spool.Update, Entry: next, Stage: w, Keep: true},
				{Op: spool.Insert, Entry: b, Stage: v, Keep: true},
			})
			f.has(w.ID(), "emitted")
			f.has(v.ID(), "notice")
			f.lacks(e.Body, "that no entry refers to any more")
			f.claims("Claim, where one of three was not kept", spool.ClaimRequest{}, a)
		},
	},
	{
		name: "AbortedStage",
		rule: "a Stage that was aborted brings nothing",
		run: func(f *fixture) {
			w := f.stage("a body")
			f.ok(w.Abort(), "Abort")
			if err := f.try(spool.Unit{{Op: spool.Insert, Entry: f.entry(w.ID()), Stage: w}}); err == nil {
				f.fail("Insert with a Stage that was aborted: got no error")
			}
			f.same("Scan", f.stored(), nil)
		},
	},
	{
		name: "OtherStage",
		rule: "Entry.Body must be the ID of its Stage",
		run: func(f *fixture) {
			e := f.owned("a body")
			w := f.stage("staged")
			if err := f.try(spool.Unit{{Op: spool.Insert, Entry: f.entry(e.Body), Stage: w}}); err == nil {
				f.fail("Insert with a Stage that is not its Body: got no error")
			}
			f.lacks(w.ID(), "whose insert failed")
			f.same("Scan", f.stored(), []*spool.Entry{e})
		},
	},
}

// atomicUnit puts a change that fails at each place of a unit.
func atomicUnit(f *fixture) {
	for place := range 5 {
		removed, updated, released, other := f.owned("removed"), f.owned("updated"), f.owned("released"), f.owned("other")
		w := f.stage("inserted")
		inserted := f.entry(w.ID())
		next := updated.Clone()
		next.Attempts, next.Queue = 7, "elsewhere"
		u := spool.Unit{
			{Op: spool.Remove, Entry: removed},
			{Op: spool.Update, Entry: next},
			{Op: spool.Release, Entry: released},
			{Op: spool.Insert, Entry: inserted, Stage: w},
		}
		stale := other.Clone()
		stale.Rev += 1000
		bad := spool.Change{Op: spool.Update, Entry: stale}
		u = append(u[:place:place], append(spool.Unit{bad}, u[place:]...)...)

		what := fmt.Sprintf("a unit whose change %d of 5 is fenced", place+1)
		f.is(f.try(u), what, spool.ErrFenced)
		f.same("Scan after "+what, f.stored(), byID(removed, updated, released, other))
		if got := f.find(updated.ID); got.Attempts != 0 || got.Queue != "queue" {
			f.fail("%s: its Update was applied", what)
		}
		f.lacks(w.ID(), "of "+what)
		if inserted.Rev != 0 || next.Rev != updated.Rev {
			f.fail("%s: Rev of its entries was set", what)
		}
		f.claims("Claim after "+what+", where ownership stays as it was", spool.ClaimRequest{})
		// All of them are still owned at the revisions they had.
		f.apply(spool.Unit{
			{Op: spool.Remove, Entry: removed}, {Op: spool.Remove, Entry: updated},
			{Op: spool.Remove, Entry: released}, {Op: spool.Remove, Entry: other},
		})
	}
}
