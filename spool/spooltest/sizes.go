package spooltest

import (
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

var sizeTests = []conformanceTest{
	{
		name: "Stored",
		rule: "a body is stored byte for byte, however long it is, staged as committed",
		run:  func(f *fixture) { f.storeSizes(100_000) },
	},
	{
		name: "Pieces",
		rule: "a body is what was written, in however many pieces it came",
		run: func(f *fixture) {
			for _, piece := range []int{4093, 32 << 10, big + 1} {
				f.storeSizes(piece)
			}
		},
	},
	{
		name: "Removed",
		rule: "a body goes with its last entry, however long it is, and takes nothing of another with it",
		run: func(f *fixture) {
			var all []*spool.Entry
			bodies := make(map[spool.ID]string)
			for _, size := range f.sizes() {
				want := noise(size)
				e := f.owned(want)
				all = append(all, e)
				bodies[e.Body] = want
			}
			for len(all) > 0 { // from the middle outwards
				n := len(all) / 2
				e := all[n]
				all = slices.Delete(all, n, n+1)
				f.apply(unit(spool.Remove, e))
				f.lacks(e.Body, "whose last entry was removed")
				if len(all)%4 == 0 {
					for _, other := range all {
						f.has(other.Body, bodies[other.Body])
					}
				}
			}
		},
	},
}

// sizes returns the lengths of bodies that are worth while to try.
func (f *fixture) sizes() []int {
	if f.h.Sizes == nil {
		f.t.Log("not checked, since the harness has no Sizes: other lengths than those that are tried on every spool")
	}
	all := []int{0, 1, big}
	for _, n := range append([]int{512, 4 << 10, 64 << 10, 1 << 20}, f.h.Sizes...) {
		all = append(all, n-1, n, n+1)
	}
	all = slices.DeleteFunc(all, func(n int) bool { return n < 0 })
	slices.Sort(all)
	return slices.Compact(all)
}

// storeSizes stores a body of every size, written piece by piece.
func (f *fixture) storeSizes(piece int) {
	f.t.Helper()
	for _, size := range f.sizes() {
		want := noise(size)
		w, err := f.sp.Create(f.ctx, 0)
		f.ok(err, "Create")
		defer w.Abort()
		for rest := want; len(rest) > 0; {
			n, err := w.Write([]byte(rest[:min(piece, len(rest))]))
			f.ok(err, "Write")
			rest = rest[n:]
		}
		staged, err := w.Open()
		f.ok(err, "Writer.Open")
		f.reads(staged, want)
		e := f.entry(w.ID())
		f.ok(w.Commit(f.ctx, e), "Commit")
		if e.Size != int64(size) {
			f.fail("Size of an entry with a body of %d bytes: got %d", size, e.Size)
		}
		f.has(e.Body, want)
		f.apply(unit(spool.Remove, e))
	}
}
