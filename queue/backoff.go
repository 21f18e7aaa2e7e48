package queue

import (
	"math"
	"time"
)

// A Backoff says how long a message waits after a failed attempt. It is a
// plain value, safe for concurrent use.
type Backoff struct {
	// Base is the delay after the first failure. A negative Base means no
	// delay at all. Defaults to 1 minute in the deferred queue, and to 20
	// minutes in the others.
	Base time.Duration

	// Max is the longest delay, before jitter. Zero or negative: there is none.
	// Defaults to none.
	Max time.Duration

	// Factor is what each further failure multiplies the delay with. Anything
	// below 1, a negative number included, means a constant delay. Defaults to
	// 2.
	Factor float64

	// Jitter is the part of the delay, 0 to 1, by which it is made longer or
	// shorter at random, so that what failed together does not come back
	// together. A negative number means none. Defaults to 0.05.
	Jitter float64
}

// Delay returns how long a message waits after n failures: Base x
// Factor^(n-1), at most Max, without jitter. It is pure: equal arguments give
// equal results. It is 0 for n below 1 and never negative; what would be too
// long for a [time.Duration] is the longest one. Fields are taken as they are,
// without the defaults: the Delay of a zero Backoff is 0.
func (b Backoff) Delay(n int) time.Duration {
	if n < 1 || b.Base <= 0 {
		return 0
	}
	factor := b.Factor
	if !(factor > 1) { // NaN included
		factor = 1
	}
	delay := longest(float64(b.Base) * math.Pow(factor, float64(n-1)))
	if b.Max > 0 {
		delay = min(delay, b.Max)
	}
	return delay
}

// jittered returns Delay(n) made longer or shorter by up to Jitter of it: r,
// at least 0 and below 1, says how much.
func (b Backoff) jittered(n int, r float64) time.Duration {
	delay := b.Delay(n)
	jitter := min(b.Jitter, 1)
	if !(jitter > 0) || !(r >= 0 && r < 1) {
		return delay
	}
	return longest(float64(delay) * (1 + jitter*(2*r-1)))
}

// longest converts nanoseconds, not negative, and cuts what is too long.
func longest(ns float64) time.Duration {
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(math.Round(ns))
}
