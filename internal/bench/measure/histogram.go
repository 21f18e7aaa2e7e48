package measure

import (
	"encoding/json"
	"math/bits"
	"slices"
	"time"
)

// subBits is how finely a power of two is divided: 1 part in 64 is 1.6 %.
const subBits = 6

// A Histogram counts durations in buckets that are 1.6 % wide. It is not for
// concurrent use.
type Histogram struct {
	counts map[int]uint64
	n      uint64
	max    time.Duration
}

// bucketOf numbers the bucket of a duration in nanoseconds.
func bucketOf(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	shift := bits.Len64(ns) - subBits - 1
	return (shift+1)<<subBits + int(ns>>shift) - 1<<subBits
}

// upperOf returns the longest duration of a bucket.
func upperOf(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	mantissa := bucket&(1<<subBits-1) + 1<<subBits
	return time.Duration((mantissa+1)<<shift - 1)
}

// Record counts d.
func (h *Histogram) Record(d time.Duration) { h.add(bucketOf(uint64(max(d, 0))), 1, d) }

func (h *Histogram) add(bucket int, count uint64, longest time.Duration) {
	if h.counts == nil {
		h.counts = map[int]uint64{}
	}
	h.counts[bucket] += count
	h.n += count
	h.max = max(h.max, longest)
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for bucket, count := range o.counts {
		h.add(bucket, count, 0)
	}
	h.max = max(h.max, o.max)
}

// Count returns how many durations were counted.
func (h *Histogram) Count() uint64 { return h.n }

// Max returns the longest of them, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share of q, 0 to 1, does not exceed; 0 if
// nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	rank = max(rank, 1)
	var seen uint64
	for _, bucket := range h.buckets() {
		seen += h.counts[bucket]
		if seen >= rank {
			return min(upperOf(bucket), h.max)
		}
	}
	return h.max
}

func (h *Histogram) buckets() []int {
	buckets := make([]int, 0, len(h.counts))
	for b := range h.counts {
		buckets = append(buckets, b)
	}
	slices.Sort(buckets)
	return buckets
}

// histogramJSON lists pairs of a bucket's longest duration and its count.
type histogramJSON struct {
	Max     time.Duration `json:"max_ns"`
	Buckets [][2]uint64   `json:"buckets"`
}

// MarshalJSON writes the buckets that are not empty, shortest first.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	j := histogramJSON{Max: h.max, Buckets: [][2]uint64{}}
	for _, b := range h.buckets() {
		j.Buckets = append(j.Buckets, [2]uint64{uint64(upperOf(b)), h.counts[b]})
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*h = Histogram{}
	for _, b := range j.Buckets {
		h.add(bucketOf(b[0]), b[1], 0)
	}
	h.max = j.Max
	return nil
}
