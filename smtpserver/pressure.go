package smtpserver

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// gaugeInterval is how old a reading may be.
	gaugeInterval = time.Second
	// gaugeTimeout is how long a spool may take to say what it holds.
	gaugeTimeout = time.Second
	// collectAfter is how old the figure for the memory may be while it is beyond
	// its limit.
	collectAfter = 10 * time.Second
)

// A gauge tells whether something is beyond its limit. Who asks when the last
// reading is old takes the next one; all others meanwhile rely on the last. When
// reading fails that stays too.
type gauge struct {
	// read returns the reply that a figure beyond its limit is worth, or nil.
	read   func() (*reply, error)
	what   string // in the log
	logger *slog.Logger

	mu struct {
		sync.Mutex
		at      time.Time // of the last reading
		reading bool
		failing bool // the last reading failed
		beyond  *reply
	}
}

// beyond returns what the last reading said.
func (g *gauge) beyond() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.beyond == nil {
		return nil
	}
	return g.mu.beyond
}

// refresh takes a reading if the last one is old and nobody else takes one.
func (g *gauge) refresh() {
	if !g.begin() {
		return
	}
	var beyond *reply
	err := errors.New("smtpserver: reading panicked") // unless it returns
	defer func() { g.end(beyond, err) }()
	beyond, err = g.read()
}

func (g *gauge) begin() bool {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.reading || !g.mu.at.IsZero() && now.Sub(g.mu.at) < gaugeInterval {
		return false
	}
	g.mu.reading, g.mu.at = true, now
	return true
}

func (g *gauge) end(beyond *reply, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	failed := g.mu.failing
	g.mu.reading, g.mu.failing = false, err != nil
	if err == nil {
		g.mu.beyond = beyond
	} else if !failed {
		g.logger.LogAttrs(context.Background(), slog.LevelWarn, "smtp gate stays as it is: a limit cannot be checked",
			slog.String("limit", g.what), slog.Any("error", err))
	}
}

// A memory is the memory of the process.
type memory struct {
	// read returns how many bytes are in use, and how often the garbage collector
	// has found that out.
	read    func() (bytes int64, collections uint64)
	collect func() // has it do so once more
}

// memoryGauge watches the memory of the process. An idle process is seldom
// collected, and would stay beyond its limit for minutes after it has let go of
// its memory: then the gauge has it collected.
func (g *gate) memoryGauge(limit int64) *gauge {
	var seen uint64
	var since time.Time
	return &gauge{what: "memory", logger: g.logger, read: func() (*reply, error) {
		bytes, collections := g.memory.read()
		if now := time.Now(); collections != seen {
			seen, since = collections, now
		} else if bytes > limit && now.Sub(since) >= collectAfter {
			g.memory.collect()
			bytes, seen = g.memory.read()
			since = now
		}
		if bytes > limit {
			return replyMemory, nil
		}
		return nil, nil
	}}
}

// memoryLimit resolves Limits.Memory; 0 means none.
func memoryLimit(limit int64) int64 {
	if limit != 0 {
		return max(limit, 0)
	}
	if most := debug.SetMemoryLimit(-1); most < math.MaxInt64 { // it only asks
		return most / 4 * 3
	}
	return 0
}

// readMemory returns what the garbage collector found alive last, and stacks.
func readMemory() (bytes int64, collections uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	value := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // not known to this version of Go
		}
		return samples[i].Value.Uint64()
	}
	return int64(value(0) + value(1)), value(2)
}

// queueLimits are those of Limits that are about what is queued.
type queueLimits Limits

func (l queueLimits) any() bool { return l.QueuedMessages > 0 || l.QueuedBytes > 0 || l.QueuedAge > 0 }

// queueGauge watches what the spool holds.
func queueGauge(sp spool.Spool, limits queueLimits, logger *slog.Logger) *gauge {
	return &gauge{what: "queued messages", logger: logger, read: func() (*reply, error) {
		ctx, cancel := context.WithTimeout(context.Background(), gaugeTimeout)
		defer cancel()
		var q queued
		for info, err := range sp.Queues(ctx) {
			if err != nil {
				return nil, err
			}
			q.add(info)
		}
		return limits.beyond(q, time.Now()), nil
	}}
}

// queued is what a spool holds.
type queued struct {
	messages, bytes int64
	oldest          time.Time // in the deferred queue and not held; zero: none
}

func (q *queued) add(info spool.QueueInfo) {
	if info.Queue == queue.Suspensions {
		return
	}
	q.messages += info.Entries
	q.bytes += info.Bytes
	if info.Queue == queue.Deferred && info.State == spool.Queued && info.Entries > 0 &&
		(q.oldest.IsZero() || info.Oldest.Before(q.oldest)) {
		q.oldest = info.Oldest
	}
}

func (l queueLimits) beyond(q queued, now time.Time) *reply {
	switch {
	case l.QueuedMessages > 0 && q.messages >= l.QueuedMessages:
		return replyQueuedMessages
	case l.QueuedBytes > 0 && q.bytes >= l.QueuedBytes:
		return replyQueuedBytes
	case l.QueuedAge > 0 && !q.oldest.IsZero() && now.Sub(q.oldest) > l.QueuedAge:
		return replyQueuedAge
	}
	return nil
}
