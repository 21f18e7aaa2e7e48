package commits

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A Store makes messages durable.
type Store interface {
	// Commit returns nil once body and an entry of from are both safe from a
	// loss of power. It may be called concurrently, with another Sender each, and
	// retains nothing of what it is given.
	Commit(ctx context.Context, from *Sender, body []byte) error
	Close() error
}

// A Phase is a stretch of load. Every committer goes on until either bound is
// reached, and finishes the message that it is at. There is one message at least,
// however short the phase is and however busy the machine.
type Phase struct {
	Duration time.Duration
	Bytes    int64 // bodies of all committers together
}

// A Result is what a phase found.
type Result struct {
	Messages int
	Elapsed  time.Duration // until the last answer
	Used     measure.Used
	Latency  measure.Histogram // of a message
}

// Rate returns messages a second.
func (r *Result) Rate() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// Per returns a share of the messages.
func (r *Result) Per(n float64) float64 { return n / float64(r.Messages) }

// noiseSize is how much noise there is beyond the size of a body.
const noiseSize = 16 << 20

// A Load is a number of committers.
type Load struct {
	store   Store
	meter   *measure.Meter
	size    int
	noise   []byte // bodies are slices of it: hardly one is like another, and none can be compressed
	senders []*Sender
}

// NewLoad returns a Load on a store that writes to dir.
func NewLoad(store Store, dir string, committers, size int) *Load {
	l := &Load{store: store, meter: measure.NewMeter(dir), size: size, noise: make([]byte, noiseSize+size)}
	rand.NewChaCha8([32]byte{}).Read(l.noise) // always returns nil
	for i := range committers {
		l.senders = append(l.senders, NewSender(i))
	}
	return l
}

// Run runs one phase.
func (l *Load) Run(ctx context.Context, p Phase) (*Result, error) {
	var taken atomic.Int64
	begin := time.Now()
	more := func() bool {
		before := taken.Add(int64(l.size)) - int64(l.size)
		return before == 0 || time.Since(begin) < p.Duration && before < p.Bytes
	}
	return Parallel(l.meter, len(l.senders), func(i int, latency *measure.Histogram) error {
		offsets := rand.New(rand.NewPCG(uint64(i), uint64(begin.UnixNano())))
		for more() {
			offset := offsets.IntN(noiseSize)
			at := time.Now()
			if err := l.store.Commit(ctx, l.senders[i], l.noise[offset:offset+l.size]); err != nil {
				return fmt.Errorf("bench: a commit: %w", err)
			}
			latency.Record(time.Since(at))
		}
		return nil
	})
}

// Parallel measures what n goroutines do that call work, each with its number
// and where to record how long each message took. One of them sends a message at
// least.
func Parallel(m *measure.Meter, n int, work func(i int, latency *measure.Histogram) error) (*Result, error) {
	parts := make([]measure.Histogram, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	before, err := m.Read()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	for i := range n {
		wg.Go(func() { errs[i] = work(i, &parts[i]) })
	}
	wg.Wait()
	r := &Result{Elapsed: time.Since(begin)}
	after, err := m.Read()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	r.Used = after.Since(before)
	for i := range parts {
		r.Latency.Merge(&parts[i])
	}
	r.Messages = int(r.Latency.Count())
	return r, nil
}
