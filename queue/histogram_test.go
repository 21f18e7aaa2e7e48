package queue

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestHistogramBounds(t *testing.T) {
	last := time.Duration(0)
	for i := range histBounds {
		bound := histBound(i)
		if got := histIndex(bound); got != i {
			t.Errorf("%v is in bucket %d, want %d, whose bound it is", bound, got, i)
		}
		if got := histIndex(bound + 1); got != i+1 {
			t.Errorf("%v and a bit is in bucket %d, want %d", bound, got, i+1)
		}
		if i > 0 && (bound <= last || 4*bound > 5*last) {
			t.Errorf("bound %v after %v, want at most a quarter more", bound, last)
		}
		last = bound
	}
	if first := histBound(0); first != 10*time.Microsecond {
		t.Errorf("the first bound is %v", first)
	}
	if last < defaultMaxAge {
		t.Errorf("the last bound is %v, want room for the life of a message", last)
	}
	for _, d := range []time.Duration{math.MaxInt64, last + 1} {
		if got := histIndex(d); got != histBuckets-1 {
			t.Errorf("%v is in bucket %d, want the last one", d, got)
		}
	}
	for _, d := range []time.Duration{0, -1, 1} {
		if got := histIndex(d); got != 0 {
			t.Errorf("%v is in bucket %d, want the first one", d, got)
		}
	}
}

func TestHistogramQuantile(t *testing.T) {
	var h histogram
	if s := h.snapshot(); s.Quantile(.5) != 0 || (Histogram{}).Quantile(.5) != 0 || s.Count != 0 || s.Sum != 0 {
		t.Error("an empty histogram is not zero")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	var sum time.Duration
	for range 5000 {
		d := time.Duration(math.Exp(rng.Float64()*20) * float64(20*time.Microsecond))
		all, sum = append(all, d), sum+d
		h.add(d)
	}
	h.add(-time.Second) // a clock that was set
	all = append(all, 0)
	slices.Sort(all)
	s := h.snapshot()
	if s.Count != 5001 || math.Abs(s.Sum-sum.Seconds()) > .01 {
		t.Errorf("count %d, sum %v; want 5001, %v", s.Count, s.Sum, sum.Seconds())
	}
	for _, q := range []float64{.01, .1, .5, .9, .99, 1} {
		exact := all[min(int(math.Ceil(q*float64(len(all))))-1, len(all)-1)]
		if got := s.Quantile(q); float64(got) > 1.25*float64(exact)+1 || float64(got) < .8*float64(exact)-1 {
			t.Errorf("quantile %v: %v, exactly %v", q, got, exact)
		}
	}
	if s.Quantile(-1) != s.Quantile(0) || s.Quantile(2) != s.Quantile(1) {
		t.Error("a fraction outside of 0 to 1 is not cut")
	}
	h.add(100 * 24 * time.Hour)
	if got := h.snapshot().Quantile(1); got != histBound(histBounds-1) {
		t.Errorf("what is beyond the last bound is %v", got)
	}
}

// Buckets are cumulative, and all of them are there.
func TestHistogramBuckets(t *testing.T) {
	var h histogram
	durations := []time.Duration{0, time.Millisecond, time.Millisecond + 1, time.Minute, 1 << 62}
	for _, d := range durations {
		h.add(d)
	}
	s := h.snapshot()
	n := 0
	for le, count := range s.Buckets() {
		var want int64
		for _, d := range durations {
			if d <= le {
				want++
			}
		}
		if n++; count != want {
			t.Errorf("%d up to %v, want %d", count, le, want)
		}
	}
	if n != histBounds || s.Count != 5 {
		t.Errorf("%d buckets, count %d", n, s.Count)
	}
	for range s.Buckets() {
		break
	}
}

func TestHistogramConcurrent(t *testing.T) {
	var h histogram
	var m meter
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 1000 {
				h.add(time.Duration(i*k) * time.Microsecond)
				m.add(time.Duration(k) * 20 * time.Millisecond)
				if k%100 == 0 {
					h.snapshot()
					m.rate(time.Second)
				}
			}
		})
	}
	wg.Wait()
	if s := h.snapshot(); s.Count != 8000 {
		t.Errorf("%d were counted, want 8000", s.Count)
	}
	if n, r := m.total.Load(), m.rate(20*time.Second); n != 8000 || r != 400 {
		t.Errorf("%d were counted at %v a second, want 8000 at 400", n, r)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	rate := func(at time.Duration, want float64) {
		t.Helper()
		if got := m.rate(at); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %v the rate is %v, want %v", at, got, want)
		}
	}
	rate(0, 0)
	m.add(0)
	rate(0, 1)
	rate(10*time.Second, .1)
	for s := range 600 { // two a second for ten minutes
		m.add(time.Duration(s) * time.Second)
		m.add(time.Duration(s)*time.Second + time.Second - 1)
	}
	rate(599*time.Second, 2)
	rate(629*time.Second, 1)
	rate(658*time.Second, 1./30)
	rate(659*time.Second, 0)
	rate(1000*time.Hour, 0)
	m.add(1000 * time.Hour)
	rate(1000*time.Hour, 1./60)
	if n := m.total.Load(); n != 1202 {
		t.Errorf("total %d, want 1202", n)
	}
}
