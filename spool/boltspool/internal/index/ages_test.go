package index

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestAges compares with a plain list, for a queue in which most entries stay for
// a moment and some for days, over two weeks of which the second is quiet.
func TestAges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a ages
	type entry struct{ received, ends int64 }
	var all []entry
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	worst := 0.0
	for step := range 40_000 {
		now += rng.Int64N(40)
		if step > 30_000 {
			now += 60
		}
		all = slices.DeleteFunc(all, func(e entry) bool {
			if e.ends <= now {
				a.remove(e.received)
				return true
			}
			return false
		})
		if step < 30_000 {
			stays := math.Exp(rng.Float64() * math.Log(5*24*3600))
			all = append(all, entry{now, now + int64(stays)})
			a.add(now)
		}
		if len(all) > 0 && rng.IntN(10) == 0 { // an attempt failed: removed and stored again
			e := all[rng.IntN(len(all))]
			a.remove(e.received)
			a.add(e.received)
		}
		if len(a) > maxSpans {
			t.Fatalf("%d spans", len(a))
		}
		if len(all) == 0 {
			if a.oldest() != 0 {
				t.Fatalf("step %d: %d spans without entries", step, len(a))
			}
			continue
		}
		oldest := slices.MinFunc(all, func(x, y entry) int { return int(x.received - y.received) }).received
		if a.oldest() > oldest {
			t.Fatalf("step %d: oldest is %d seconds too young", step, a.oldest()-oldest)
		}
		worst = max(worst, float64(oldest-a.oldest())/float64(now-oldest+1))
	}
	t.Logf("the oldest was said to be older than it is by %.1f percent at most", 100*worst)
	if worst > 0.05 {
		t.Errorf("the oldest was said to be older than it is by %.1f percent, want at most 5", 100*worst)
	}
	if len(a) != 0 {
		t.Errorf("%d spans are left, want 0", len(a))
	}
}

// TestAgesEdges: times at the ends of what can be stored, and many of them.
func TestAgesEdges(t *testing.T) {
	var a ages
	times := []int64{math.MaxInt64, math.MinInt64, 0, -1, math.MaxInt64 - 1, math.MinInt64}
	for i := range int64(1000) {
		times = append(times, i*3600)
	}
	for _, at := range times {
		a.add(at)
	}
	if a.oldest() != math.MinInt64 {
		t.Errorf("oldest is %d", a.oldest())
	}
	n := 0
	for i, s := range a {
		n += s.n
		if s.start > s.end || i > 0 && s.start <= a[i-1].end {
			t.Errorf("span %d is %+v behind %+v", i, s, a[max(i-1, 0)])
		}
	}
	if n != len(times) {
		t.Errorf("the spans count %d of %d", n, len(times))
	}
	for _, at := range times {
		a.remove(at)
	}
	a.remove(5) // nothing is there
	if len(a) != 0 {
		t.Errorf("%d spans are left: %v", len(a), a)
	}
}
