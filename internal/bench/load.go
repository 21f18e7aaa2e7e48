package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A loadConfig tells a load process what to send where.
type loadConfig struct {
	Addr       string
	Mode       string
	Sessions   int
	Size       int
	Recipients int
	Pipelining bool
	Warmup     phase         // sent before it is ready
	Timeout    time.Duration // for all of it
}

// A phase is a stretch of load. Every session sends until either bound is reached
// and finishes the message that it is at. There is one message at least, however
// short the phase is and however busy the machine.
type phase struct {
	Duration time.Duration
	Least    int           // go on beyond Duration until so many messages were sent,
	Longest  time.Duration // but for no longer than this
	Messages int           // in all sessions together; 0 means no bound
	Rate     float64       // messages a second in all; 0 means as fast as they are answered
}

// over reports whether it ends then, with so many messages sent or under way.
func (p phase) over(at time.Duration, sent int64) bool {
	return at >= p.Duration && (sent >= int64(p.Least) || at >= p.Longest)
}

// A loadResult is what a phase found.
type loadResult struct {
	Messages int
	Elapsed  time.Duration     // until the last reply
	CPU      time.Duration     // of the load process
	Latency  measure.Histogram // of the reply to the content
	Timeline []moment          // with a Rate: what was seen when
}

// A moment is the latency of one reply, and when its message was sent.
type moment struct {
	At, Latency time.Duration
}

// runLoad is the load process: it connects and warms up, then runs one phase for
// each request.
func runLoad(_ context.Context, _ []string, std streams) error {
	var l *loader
	defer func() {
		if l != nil {
			l.close()
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if l != nil {
			var p phase
			if err := json.Unmarshal(request, &p); err != nil {
				return nil, err
			}
			return l.run(p)
		}
		var config loadConfig
		if err := json.Unmarshal(request, &config); err != nil {
			return nil, err
		}
		var err error
		l, err = newLoader(config)
		return nil, err
	})
}

// A loader has open sessions.
type loader struct {
	script  *script
	clients []*client
}

func newLoader(config loadConfig) (*loader, error) {
	l := &loader{script: newScript(config.Mode, config.Size, config.Recipients, config.Pipelining)}
	deadline := time.Now().Add(config.Timeout)
	for range config.Sessions {
		c, err := dialClient(config.Addr, config.Mode, deadline)
		if err != nil {
			l.close()
			return nil, err
		}
		l.clients = append(l.clients, c)
	}
	if config.Warmup != (phase{}) {
		if _, err := l.run(config.Warmup); err != nil {
			l.close()
			return nil, fmt.Errorf("warming up: %w", err)
		}
	}
	return l, nil
}

func (l *loader) close() {
	var wg sync.WaitGroup
	for _, c := range l.clients {
		wg.Go(c.quit)
	}
	wg.Wait()
}

// run sends one phase and returns when every session has its last reply.
func (l *loader) run(p phase) (*loadResult, error) {
	var (
		tickets atomic.Int64
		wg      sync.WaitGroup
		parts   = make([]loadResult, len(l.clients))
		errs    = make([]error, len(l.clients))
	)
	before, err := ownUsage()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	for i, c := range l.clients {
		wg.Go(func() { errs[i] = l.session(c, p, begin, &tickets, &parts[i]) })
	}
	wg.Wait()
	sum := &loadResult{Elapsed: time.Since(begin)}
	after, err := ownUsage()
	if err != nil {
		return nil, err
	}
	sum.CPU = after.CPU - before.CPU
	for i := range parts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		sum.Messages += parts[i].Messages
		sum.Latency.Merge(&parts[i].Latency)
		sum.Timeline = append(sum.Timeline, parts[i].Timeline...)
	}
	return sum, nil
}

// session sends messages on one connection until the phase is over.
func (l *loader) session(c *client, p phase, begin time.Time, tickets *atomic.Int64, r *loadResult) error {
	for {
		ticket := tickets.Add(1) - 1
		if p.Messages > 0 && ticket >= int64(p.Messages) {
			return nil
		}
		if p.Rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(float64(ticket) / p.Rate * float64(time.Second)))))
		}
		at := time.Since(begin)
		if ticket > 0 && p.over(at, ticket) {
			return nil
		}
		latency, err := c.send(l.script)
		if err != nil {
			return err
		}
		r.Messages++
		r.Latency.Record(latency)
		if p.Rate > 0 {
			r.Timeline = append(r.Timeline, moment{at, latency})
		}
	}
}
