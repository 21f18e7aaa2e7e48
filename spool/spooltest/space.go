package spooltest

import (
	"math/rand/v2"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	spaceCycles = 16      // after half of them the spool has what it needs
	spaceCycle  = 1 << 20 // bytes that are stored and removed in one
	spaceGrowth = spaceCycles * spaceCycle / 4
)

const spaceRule = "the space of what was removed is used again: while 16 MiB are stored and removed, a spool grows by no more than a quarter of that, and by what stays"

var spaceTests = []conformanceTest{
	{
		name:  "Entries",
		needs: []string{"Space"},
		rule:  spaceRule,
		run: func(f *fixture) {
			f.bounded(func(*spool.Entry) bool { return false }, func() (int, int) { return 10, 4000 })
		},
	},
	{
		name:  "Small",
		needs: []string{"Space"},
		rule:  spaceRule,
		run: func(f *fixture) {
			f.bounded(func(*spool.Entry) bool { return false }, func() (int, int) { return 4000, 10 })
		},
	},
	{
		name:  "Big",
		needs: []string{"Space"},
		rule:  spaceRule,
		run: func(f *fixture) {
			f.bounded(func(*spool.Entry) bool { return false }, func() (int, int) { return spaceCycle - 1000, 100 })
		},
	},
	{
		name:  "Mixed",
		needs: []string{"Space"},
		rule:  spaceRule,
		run: func(f *fixture) {
			n := 0
			stays := func(*spool.Entry) bool { n++; return n%16 == 0 }
			f.bounded(stays, func() (int, int) { return rand.IntN(30_000), rand.IntN(1000) })
		},
	},
}

// bounded stores messages, whose sizes next says, and removes them again, but
// for those that stay. It compares what the store takes in the second half of
// the time with the most that it took in the first.
func (f *fixture) bounded(stays func(*spool.Entry) bool, next func() (body, header int)) {
	f.t.Helper()
	var before, stayed int64
	for cycle := range spaceCycles {
		all := f.fillBytes(spaceCycle, next)
		var gone []*spool.Entry
		for _, e := range all {
			if !stays(e) {
				gone = append(gone, e)
			} else if cycle >= spaceCycles/2 {
				stayed += e.Size
			}
		}
		f.apply(removal(gone))
		space := f.h.Space(f.t, f.sp)
		if cycle < spaceCycles/2 {
			before = max(before, space)
		} else if space > before+stayed+spaceGrowth {
			f.fail("after %d of %d MiB the store takes %d bytes; after half of it it had taken %d, and %d stay since",
				cycle+1, spaceCycles, space, before, stayed)
		}
	}
}

// fillBytes stores messages of n bytes together, a body each, and owns them.
func (f *fixture) fillBytes(n int, next func() (body, header int)) (all []*spool.Entry) {
	f.t.Helper()
	var u spool.Unit
	for n > 0 {
		body, header := next()
		n -= body + header + 1
		w := f.create(noise(body)) // nothing of the test may keep it
		e := f.entry(w.ID())
		e.Header = []byte(noise(header))
		all = append(all, e)
		u = append(u, spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true})
		if len(u) == 100 || n <= 0 {
			f.apply(u)
			u = nil
		}
	}
	return all
}
