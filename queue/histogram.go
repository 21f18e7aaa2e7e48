package queue

import (
	"encoding/json"
	"iter"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets of a Histogram: up to 10 µs, then 36 octaves with four steps of
// equal width in each, up to about eight days, then everything beyond.
const (
	histUnit    = 2500 * time.Nanosecond
	histSteps   = 4
	histOctaves = 36
	histBounds  = 1 + histSteps*histOctaves
	histBuckets = histBounds + 1
)

// A Histogram is a snapshot of how long something took, in buckets whose bounds
// are fixed: from 10 µs to about eight days, each at most a quarter above the
// one before it. Counts only grow as long as the Scheduler lives.
type Histogram struct {
	Count int64   // of all durations
	Sum   float64 // of all durations, in seconds

	counts []int64 // per bucket; nil: there are none
}

// Buckets yields for each bound, in rising order, how many durations were not
// longer: what Prometheus calls le and a cumulative count. Its bucket +Inf is
// Count.
func (h Histogram) Buckets() iter.Seq2[time.Duration, int64] {
	return func(yield func(time.Duration, int64) bool) {
		var n int64
		for i := range histBounds {
			if h.counts != nil {
				n += h.counts[i]
			}
			if !yield(histBound(i), n) {
				return
			}
		}
	}
}

// Quantile estimates the duration that the fraction q of all durations, from 0
// to 1, did not exceed. Beyond the first bound it is at most a quarter
// too long or a fifth too short; what is beyond the last bound counts as that.
// Zero without durations.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 || h.counts == nil {
		return 0
	}
	rank := max(min(q, 1), 0) * float64(h.Count)
	var below int64
	var lower time.Duration
	for i, n := range h.counts[:histBounds] {
		upper := histBound(i)
		if n > 0 && float64(below+n) >= rank {
			inside := max(rank-float64(below), 0) / float64(n)
			return lower + time.Duration(inside*float64(upper-lower))
		}
		below += n
		lower = upper
	}
	return lower
}

// MarshalJSON returns the count, the sum and some quantiles, and of the buckets,
// whose counts are cumulative, those that something fell into.
func (h Histogram) MarshalJSON() ([]byte, error) {
	type bucket struct {
		Le    float64 `json:"le"`
		Count int64   `json:"count"`
	}
	buckets := []bucket{}
	var last int64
	for le, n := range h.Buckets() {
		if n > last {
			buckets = append(buckets, bucket{float64(le) / 1e9, n})
		}
		last = n
	}
	return json.Marshal(struct {
		Count   int64    `json:"count"`
		Sum     float64  `json:"sum_seconds"`
		P50     float64  `json:"p50_seconds"`
		P90     float64  `json:"p90_seconds"`
		P99     float64  `json:"p99_seconds"`
		Buckets []bucket `json:"buckets"`
	}{h.Count, h.Sum, inSeconds(h.Quantile(.5)), inSeconds(h.Quantile(.9)), inSeconds(h.Quantile(.99)), buckets})
}

// inSeconds returns d as JSON has it: to the microsecond.
func inSeconds(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e9 }

// histBound returns the upper bound of a bucket.
func histBound(i int) time.Duration {
	if i == 0 {
		return histSteps * histUnit
	}
	octave, step := (i-1)/histSteps, (i-1)%histSteps
	return time.Duration(histSteps+step+1) << octave * histUnit
}

// histIndex returns the bucket of a duration.
func histIndex(d time.Duration) int {
	if d <= histSteps*histUnit {
		return 0
	}
	n := uint64((d - 1) / histUnit) // at least histSteps
	octave := bits.Len64(n) - bits.Len64(histSteps)
	step := int(n>>octave) % histSteps
	return min(1+octave*histSteps+step, histBounds)
}

// A histogram counts durations. It is safe for concurrent use and never waits.
type histogram struct {
	counts [histBuckets]atomic.Int64
	micros atomic.Int64 // the sum; in nanoseconds a backlog's would not fit
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[histIndex(d)].Add(1)
	h.micros.Add(int64((d + 500) / time.Microsecond))
}

func (h *histogram) snapshot() Histogram {
	s := Histogram{counts: make([]int64, histBuckets)}
	for i := range h.counts {
		s.counts[i] = h.counts[i].Load()
		s.Count += s.counts[i]
	}
	s.Sum = float64(h.micros.Load()) / 1e6
	return s
}

// A meter counts events, and knows how many there were in the last minute.
type meter struct {
	total atomic.Int64
	slots [64]atomic.Uint64 // one for each second: which one, plus one, and how many
}

// meterWindow is what meter.rate looks back to.
const meterWindow = 60

// add counts an event at the time that has passed since the meter was made.
func (m *meter) add(at time.Duration) {
	m.total.Add(1)
	second := uint64(at/time.Second) + 1
	slot := &m.slots[second%uint64(len(m.slots))]
	for {
		old := slot.Load()
		next := second<<32 | 1
		if old>>32 == second&math.MaxUint32 {
			next = old + 1
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// rate returns how many events there were per second in the minute that ends at
// the time that has passed; or in all that time, if it is less.
func (m *meter) rate(at time.Duration) float64 {
	now := uint64(at/time.Second) + 1
	var n uint64
	for i := range m.slots {
		v := m.slots[i].Load()
		if second := v >> 32; second <= now && second+meterWindow > now {
			n += v & math.MaxUint32
		}
	}
	return float64(n) / min(max(at.Seconds(), 1), meterWindow)
}
