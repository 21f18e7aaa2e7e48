package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// A scaleConfig tells a scale process which spool to open.
type scaleConfig struct {
	Dir     string
	Workers int // of accepting and draining
	Size    int // of the bodies that are accepted
}

// A scaleOpened is the answer.
type scaleOpened struct {
	Took    time.Duration
	Heap    int64 // bytes that are in use because of it
	Memory  measure.Memory
	Entries int // that are in it
}

// A scaleRequest says what to do with the spool: one of these.
type scaleRequest struct {
	Fill   int            // store so many messages that are due much later
	Accept *commits.Phase // store messages that are due at once
	Drain  int            // claim, read and remove all that are due, so many in one Apply
}

// runScaleProcess is the process.
func runScaleProcess(ctx context.Context, _ []string, std streams) (err error) {
	var s *scaleSpool
	defer func() {
		if s != nil {
			err = errors.Join(err, s.store.Close())
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if s != nil {
			return s.do(ctx, request)
		}
		var c scaleConfig
		if err := json.Unmarshal(request, &c); err != nil {
			return nil, err
		}
		sp, opened, err := openMeasured(ctx, c.Dir)
		if err != nil {
			return nil, err
		}
		s = newScaleSpool(c, sp)
		return opened, nil
	})
}

func openMeasured(ctx context.Context, dir string) (*boltspool.Spool, scaleOpened, error) {
	before := heapInUse()
	begin := time.Now()
	sp, err := openBoltStore(dir)
	o := scaleOpened{Took: time.Since(begin)}
	if err != nil {
		return nil, o, err
	}
	o.Heap = heapInUse() - before
	o.Memory = measure.OwnMemory()
	for q, err := range sp.Queues(ctx) {
		if err != nil {
			return nil, o, errors.Join(err, sp.Close())
		}
		o.Entries += int(q.Entries)
	}
	return sp, o, nil
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools keep what they have for one
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A scaleSpool is a spool with messages that stay, in which others come and go.
type scaleSpool struct {
	store   boltStore
	workers int
	meter   *measure.Meter
	load    *commits.Load
}

func newScaleSpool(c scaleConfig, sp *boltspool.Spool) *scaleSpool {
	s := &scaleSpool{store: boltStore{sp}, workers: c.Workers, meter: measure.NewMeter(c.Dir)}
	s.load = commits.NewLoad(sharedStore{s.store}, c.Dir, c.Workers, c.Size)
	return s
}

func (s *scaleSpool) do(ctx context.Context, request json.RawMessage) (any, error) {
	var r scaleRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	switch {
	case r.Fill > 0:
		return nil, fill(ctx, s.store, r.Fill, nil)
	case r.Accept != nil:
		return s.load.Run(ctx, *r.Accept)
	case r.Drain > 0:
		return s.drain(ctx, r.Drain)
	}
	return nil, errors.New("bench: a request for nothing")
}

// How a spool is filled, so that it does not take long.
const (
	fillers     = 4
	fillUnits   = 250 // of one Apply
	fillBody    = 512
	fillTenants = 100
)

// fill stores n messages of many tenants, each with its own body, that came in
// the last day and are due in the next. They wait in one of queues each, or in the
// deferred queue if there are none.
func fill(ctx context.Context, store boltStore, n int, queues []string) error {
	var wg sync.WaitGroup
	errs := make([]error, fillers)
	for i := range fillers {
		wg.Go(func() {
			f := newFiller(store)
			f.queues = queues
			for left := n/fillers + min(1, max(0, n%fillers-i)); left > 0 && errs[i] == nil; left -= fillUnits {
				errs[i] = f.apply(ctx, min(left, fillUnits))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

type filler struct {
	store   boltStore
	queues  []string
	random  *rand.Rand
	senders []*commits.Sender
	body    []byte
}

func newFiller(store boltStore) *filler {
	f := &filler{store: store, random: rand.New(rand.NewPCG(rand.Uint64(), 0)), body: make([]byte, fillBody)}
	for i := range fillTenants {
		f.senders = append(f.senders, commits.NewSender(i))
	}
	return f
}

// apply stores n messages and waits for them.
func (f *filler) apply(ctx context.Context, n int) (err error) {
	units := make([]spool.Unit, n)
	for i := range units {
		w, err := f.store.Create(ctx, fillBody)
		if err != nil {
			return err
		}
		defer w.Abort() // has no effect once it is stored
		f.body[f.random.IntN(fillBody)]++
		if _, err := w.Write(f.body); err != nil {
			return err
		}
		e := f.senders[f.random.IntN(fillTenants)].Entry(w.ID())
		if len(f.queues) > 0 {
			e.Queue = f.queues[f.random.IntN(len(f.queues))]
		}
		e.Received = e.Received.Add(-f.upToDay())
		e.Due = e.Due.Add(time.Hour + f.upToDay())
		units[i] = spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}}
	}
	return errors.Join(f.store.Apply(ctx, units...)...)
}

func (f *filler) upToDay() time.Duration {
	return time.Duration(f.random.Int64N(int64(24 * time.Hour)))
}

// drain takes out all that is due: one goroutine claims, the workers read, and
// remove batch messages with one Apply.
func (s *scaleSpool) drain(ctx context.Context, batch int) (*commits.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	due := make(chan []*spool.Entry)
	claimed := make(chan error, 1)
	go func() {
		defer close(due)
		claimed <- s.claim(ctx, batch, due)
	}()
	result, err := commits.Parallel(s.meter, s.workers, func(_ int, latency *measure.Histogram) error {
		for entries := range due {
			begin := time.Now()
			if err := s.take(ctx, entries); err != nil {
				cancel() // or the others would go on, and claim would wait for us
				return err
			}
			for range entries {
				latency.Record(time.Since(begin))
			}
		}
		return nil
	})
	cancel()
	if claimErr := <-claimed; err == nil {
		err = claimErr
	}
	return result, err
}

// claim hands over what is due until nothing is left. It claims as many at once as
// package queue.
func (s *scaleSpool) claim(ctx context.Context, batch int, due chan<- []*spool.Entry) error {
	const most = 256
	for {
		entries, _, err := s.store.Claim(ctx, spool.ClaimRequest{Queues: []string{commits.Queue}, Due: time.Now(), Limit: most})
		if err != nil || len(entries) == 0 {
			return err
		}
		for some := range slices.Chunk(entries, batch) {
			select {
			case due <- some:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// take reads the bodies of claimed entries and removes both.
func (s *scaleSpool) take(ctx context.Context, entries []*spool.Entry) error {
	units := make([]spool.Unit, 0, len(entries))
	for _, e := range entries {
		body, err := s.store.Open(ctx, e.Body)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		if err := errors.Join(err, body.Close()); err != nil {
			return err
		}
		units = append(units, spool.Unit{{Op: spool.Remove, Entry: e}})
	}
	return errors.Join(s.store.Apply(ctx, units...)...)
}
