package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A callback says how long the inject callback of clamp takes. The zero
// value returns at once.
type callback struct {
	Median time.Duration // half of the calls take longer
	P99    time.Duration // one in a hundred takes longer

	// Stall is how long everything stands still every now and then, as behind a
	// database that does not answer: no call that is running or begins meanwhile
	// returns before its end. Every is how long it goes well in between.
	Stall, Every time.Duration
}

// handler returns a callback that takes as long as c says, by a log-normal
// distribution, the same in every process.
func (c callback) handler() queue.Handler {
	if c == (callback{}) {
		return nothing
	}
	begin := time.Now()
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	return func(ctx context.Context, _ *queue.Message) error {
		mu.Lock()
		z := random.NormFloat64()
		mu.Unlock()
		end := c.end(time.Since(begin), c.delay(z))
		timer := time.NewTimer(time.Until(begin.Add(end)))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263

// delay is how long a call takes whose standard normal deviate is z.
func (c callback) delay(z float64) time.Duration {
	sigma := math.Log(float64(c.P99)/float64(c.Median)) / z99
	return time.Duration(float64(c.Median) * math.Exp(sigma*min(z, 3.5)))
}

// end returns when a call ends that begins then and takes d, both counted from
// the start of the process.
func (c callback) end(begin, d time.Duration) time.Duration {
	end := begin + d
	if c.Stall <= 0 {
		return end
	}
	period := c.Every + c.Stall
	for at := begin / period; ; at++ {
		from := at*period + c.Every
		if end < from {
			return end
		}
		end = max(end, from+c.Stall)
	}
}
