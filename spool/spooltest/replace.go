package spooltest

import (
	"fmt"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

var replaceTests = []conformanceTest{
	{
		name: "Back",
		rule: "an Update may refer to another stored body, and back again; a body goes with the last entry that refers to it",
		run:  replaceBack,
	},
	{
		name: "Swap",
		rule: "without a Stage the body must be one that an entry stored before this unit refers to: two may change places",
		run: func(f *fixture) {
			a, b := f.owned("body a"), f.owned("body b")
			x, y := a.Clone(), b.Clone()
			x.Body, y.Body = b.Body, a.Body
			f.apply(spool.Unit{{Op: spool.Update, Entry: x, Keep: true}, {Op: spool.Update, Entry: y, Keep: true}})
			f.has(x.Body, "body b")
			f.has(y.Body, "body a")
			f.apply(unit(spool.Remove, x))
			f.lacks(b.Body, "whose last entry was removed")
			f.has(a.Body, "body a")
		},
	},
	{
		name: "Fails",
		rule: "a unit that fails leaves every body and every reference to one as it was",
		run: func(f *fixture) {
			e, other := f.owned("before"), f.owned("other")
			for range 3 {
				w := f.stage("afterwards")
				next, moved := e.Clone(), other.Clone()
				next.Body, moved.Body = w.ID(), e.Body
				f.is(f.try(spool.Unit{
					{Op: spool.Update, Entry: next, Stage: w}, {Op: spool.Update, Entry: moved},
					{Op: spool.Insert, Entry: f.entry(spool.NewID())},
				}), "a unit with an unknown body", spool.ErrNotFound)
				f.lacks(w.ID(), "of a unit that failed")
				f.unchanged(e, "before")
				f.unchanged(other, "other")
			}
			f.apply(unit(spool.Remove, other))
			f.lacks(other.Body, "whose last entry was removed")
			f.has(e.Body, "before")
		},
	},
	{
		name: "Orders",
		rule: "a split keeps the old body for those that stay on it: each body goes with its last entry, in whatever order they are removed",
		run:  func(f *fixture) { f.splitOrders(func() {}, nil) },
	},
	{
		name:  "OrdersReopen",
		needs: []string{"Reopen"},
		rule:  "each body goes with its last entry, in whatever order they are removed, also when the spool was closed in between",
		run:   func(f *fixture) { f.splitOrders(f.reopen, []int{3, 11, 16}) },
	},
	{
		name:  "OrdersCrash",
		needs: []string{"Crash"},
		rule:  "each body goes with its last entry, in whatever order they are removed, also when the process died in between",
		run:   func(f *fixture) { f.splitOrders(f.crash, []int{5, 14, 20}) },
	},
}

func replaceBack(f *fixture) {
	for _, size := range []int{100, big} {
		first, second := noise(size), noise(size)
		e := f.owned(first)
		anchor := f.entry(e.Body) // which keeps the first body
		f.apply(spool.Unit{{Op: spool.Insert, Entry: anchor, Keep: true}})
		original := e.Body
		for range 3 {
			w := f.stage(second)
			e = f.moved(e, w.ID(), w, size)
			f.has(w.ID(), second)
			f.has(original, first)
			e = f.moved(e, original, nil, size)
			f.lacks(w.ID(), "that no entry refers to any more")
			f.has(original, first)
		}
		e = f.moved(e, original, nil, size) // to where it is already
		f.apply(unit(spool.Remove, anchor))
		f.has(original, first)
		w := f.stage(second)
		e = f.moved(e, w.ID(), w, size)
		f.lacks(original, "that no entry refers to any more")
		back := e.Clone()
		back.Body = original
		f.is(f.try(unit(spool.Update, back)), "Update back to a body that is gone", spool.ErrNotFound)
		f.unchanged(e, second)
		f.apply(unit(spool.Remove, e))
		f.lacks(w.ID(), "whose last entry was removed")
		f.infos()
	}
}

// moved updates an entry to another body.
func (f *fixture) moved(e *spool.Entry, body spool.ID, stage spool.Writer, size int) *spool.Entry {
	f.t.Helper()
	next := e.Clone()
	next.Body = body
	f.apply(spool.Unit{{Op: spool.Update, Entry: next, Stage: stage, Keep: true}})
	if next.Size != int64(len(next.Header)+size) || next.Rev <= e.Rev {
		f.fail("Update to another body: got Size %d, Rev %d, want Size %d, Rev above %d", next.Size, next.Rev, len(next.Header)+size, e.Rev)
	}
	return next
}

// splitOrders splits a message as a scheduler does, and removes what comes of
// it in each order, or in the orders with these numbers. restart comes between
// any two steps.
func (f *fixture) splitOrders(restart func(), numbers []int) {
	f.t.Helper()
	for number, order := range permutations(4) {
		if numbers != nil && !slices.Contains(numbers, number) {
			continue
		}
		old, fresh := fmt.Sprintf("as received %d", number), fmt.Sprintf("as changed %d", number)
		e := f.owned(old)
		w := f.stage(fresh)
		stays, new1, new2 := f.entry(e.Body), f.entry(w.ID()), f.entry(w.ID())
		next := e.Clone()
		next.Body = w.ID()
		f.apply(spool.Unit{
			{Op: spool.Update, Entry: next, Stage: w},
			{Op: spool.Insert, Entry: stays},
			{Op: spool.Insert, Entry: new1, Stage: w},
			{Op: spool.Insert, Entry: new2, Stage: w},
		})
		entries := []*spool.Entry{next, stays, new1, new2}
		left := map[spool.ID]int{w.ID(): 3, e.Body: 1}
		texts := map[spool.ID]string{w.ID(): fresh, e.Body: old}
		for _, n := range order {
			restart()
			f.apply(unit(spool.Remove, f.one(entries[n].ID)))
			left[entries[n].Body]--
			for id, refs := range left {
				if refs > 0 {
					f.has(id, texts[id])
				} else {
					f.lacks(id, fmt.Sprintf("whose last entry was removed, in the order %v", order))
				}
			}
		}
		f.same("Scan", f.stored(), nil)
	}
}

// permutations returns all orders of the numbers below n.
func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for place := range n {
			all = append(all, slices.Insert(slices.Clone(p), place, n-1))
		}
	}
	return all
}
