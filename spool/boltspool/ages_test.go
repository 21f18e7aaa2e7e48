package boltspool

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestAges compares with a plain list, for a queue in which most entries stay for
// a moment and some for days, over two weeks of which the second is quiet.
func TestAges(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a ages
	type entry struct{ received, ends int64 }
	var all []entry
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	worst := 0.0
	for step := range 40_000 {
		now += rng.Int64N(int64(40 * time.Second))
		if step > 30_000 {
			now += int64(time.Minute)
		}
		all = slices.DeleteFunc(all, func(e entry) bool {
			if e.ends <= now {
				a.remove(e.received)
				return true
			}
			return false
		})
		if step < 30_000 {
			stays := math.Exp(rng.Float64() * math.Log(float64(5*24*time.Hour)))
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
			t.Fatalf("step %d: oldest is %v too young", step, time.Duration(a.oldest()-oldest))
		}
		worst = max(worst, (float64(oldest-a.oldest())-float64(spanWidth))/float64(now-oldest+1))
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
		times = append(times, i*int64(time.Hour))
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

// TestOldestMovesOn: in a queue that is never empty the oldest message is not
// the oldest ever.
func TestOldestMovesOn(t *testing.T) {
	s := newTest(t, nil)
	now := time.Now()
	var last *spool.Entry
	for age := 10; age >= 0; age-- {
		e := storeAt(t, s, now.Add(-time.Duration(age)*time.Hour))
		if last != nil {
			if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: last}}); errs != nil {
				t.Fatal(errs)
			}
		}
		last = e
		for info, err := range s.Queues(context.Background()) {
			if err != nil || !info.Oldest.Equal(e.Received) {
				t.Errorf("Oldest is %v (error %v), want %v of the only entry", info.Oldest, err, e.Received)
			}
		}
	}
}

func storeAt(t *testing.T, s *Spool, received time.Time) *spool.Entry {
	t.Helper()
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := testEntry(w.ID())
	e.Received = received
	if err := w.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}
