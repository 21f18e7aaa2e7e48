package index

import (
	"cmp"
	"math"
	"slices"
)

// maxSpans bounds the memory of an ages: 6 KiB.
const maxSpans = 256

// An ages counts entries by when they were received, so that it is known how
// old the oldest is, however many come and go. It tells neighbours apart down to
// some percent of their age. The zero value is ready to use.
type ages []span // in their order, none overlaps another

// A span counts the entries received from start to end, in Unix seconds.
type span struct {
	start, end int64
	n          int
}

// find returns the last span that begins at t or before, -1 if there is none.
func (a ages) find(t int64) int {
	i, found := slices.BinarySearchFunc(a, t, func(s span, t int64) int { return cmp.Compare(s.start, t) })
	if found {
		return i
	}
	return i - 1
}

func (a *ages) add(t int64) {
	i := a.find(t)
	if i >= 0 {
		if s := &(*a)[i]; t <= s.end {
			s.n++
			return
		}
	}
	*a = slices.Insert(*a, i+1, span{t, t, 1})
	if len(*a) > maxSpans {
		a.merge()
	}
}

// remove takes back an add.
func (a *ages) remove(t int64) {
	i := a.find(t)
	if i < 0 {
		return
	}
	if (*a)[i].n--; (*a)[i].n == 0 {
		*a = slices.Delete(*a, i, i+1)
	}
}

// merge makes one of the two neighbours for which that matters least, seen from
// the youngest.
func (a *ages) merge() {
	s := *a
	best, least := 0, math.Inf(1)
	now := float64(s[len(s)-1].end)
	for i := range s[:len(s)-1] {
		start := float64(s[i].start)
		if share := (float64(s[i+1].end) - start) / (now - start); share < least {
			best, least = i, share
		}
	}
	s[best].end = s[best+1].end
	s[best].n += s[best+1].n
	*a = slices.Delete(s, best+1, best+2)
}

// oldest returns a time before which nothing was received, 0 if there is
// nothing, or all of it is older.
func (a ages) oldest() int64 {
	if len(a) == 0 {
		return 0
	}
	return a[0].start
}
