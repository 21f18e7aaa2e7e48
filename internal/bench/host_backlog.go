package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// queuedQueues is in how many queues the queued messages wait, half of them in the
// deferred queue.
const queuedQueues = 1000

// A queuedConfig tells a queued process which spool to open, and what to do.
type queuedConfig struct {
	Dir     string
	Fill    bool      // or else run a scheduler
	Began   time.Time // when the process was started
	Queued  int       // messages that ought to be there when it runs
	Workers int
	Size    int
}

// A queuedOpened is the answer of a process that runs a scheduler.
type queuedOpened struct {
	Open   time.Duration  // of the spool
	First  time.Duration  // from the start of the process to the first call of the callback
	Memory measure.Memory // as it stands then
	Heap   int64          // bytes of all that lives, once garbage was collected
	Freed  measure.Memory // and given back to the system
}

// A queuedRequest says what to do: one of these.
type queuedRequest struct {
	Fill   int           // store so many messages that are due much later
	Accept time.Duration // take messages in, of which none is injected
	Inject bool          // inject them all
	Due    bool          // leave a message that is due for the next process
}

// runQueued is the process.
func runQueued(ctx context.Context, _ []string, std streams) (err error) {
	var h *queuedHost
	defer func() {
		if h != nil {
			err = errors.Join(err, h.close())
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if h != nil {
			return h.do(ctx, request)
		}
		var c queuedConfig
		if err := json.Unmarshal(request, &c); err != nil {
			return nil, err
		}
		var opened *queuedOpened
		h, opened, err = openQueued(ctx, c)
		return opened, err
	})
}

// A queuedHost is a spool in which messages wait, and a scheduler on it.
type queuedHost struct {
	config queuedConfig
	store  boltStore
	meter  *measure.Meter
	body   []byte

	sched  *queue.Scheduler // nil in a process that fills
	cancel context.CancelFunc
	ran    chan error
	closed atomic.Bool // the callback waits for open
	opened chan struct{}
	calls  chan struct{} // one for each call that returned

	accepted int
}

func openQueued(ctx context.Context, c queuedConfig) (_ *queuedHost, o *queuedOpened, err error) {
	begin := time.Now()
	sp, err := openBoltStore(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	h := &queuedHost{config: c, store: boltStore{sp}, meter: measure.NewMeter(c.Dir), ran: make(chan error, 1),
		body: make([]byte, c.Size), opened: make(chan struct{}), calls: make(chan struct{}, 1<<16)}
	rand.NewChaCha8([32]byte{}).Read(h.body)
	if c.Fill {
		return h, nil, nil
	}
	o = &queuedOpened{Open: time.Since(begin)}
	if err := h.start(ctx, o); err != nil {
		return nil, nil, errors.Join(err, h.close())
	}
	return h, o, nil
}

// start runs the scheduler until the message that was left is injected.
func (h *queuedHost) start(ctx context.Context, o *queuedOpened) (err error) {
	h.sched, err = queue.NewScheduler(h.store, h.inject, &queue.Options{
		Logger: slog.New(slog.DiscardHandler), Configure: h.configure, StopTimeout: time.Second,
		Record: func(context.Context, queue.Record) error { return nil },
	})
	if err == nil {
		err = h.sched.Handle("*", func(context.Context, *queue.Message) error { return nil })
	}
	if err != nil {
		return err
	}
	ctx, h.cancel = context.WithCancel(ctx)
	go func() { h.ran <- h.sched.Run(ctx) }()
	if err := h.await(ctx, 1); err != nil {
		return err
	}
	o.First = time.Since(h.config.Began)
	if err := h.settle(ctx, int64(h.config.Queued)); err != nil {
		return err
	}
	o.Memory = measure.OwnMemory()
	o.Heap = heapInUse()
	debug.FreeOSMemory()
	o.Freed = measure.OwnMemory()
	return nil
}

// settle waits until so many messages are queued, and none is on its way.
func (h *queuedHost) settle(ctx context.Context, want int64) error {
	ctx, stop := context.WithTimeout(ctx, grace)
	defer stop()
	for {
		st := h.sched.Stats()
		if st.Running == 0 && st.Scheduled+st.Ready == want {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("bench: %d messages are queued and %d are with the callback, want %d and none", st.Scheduled+st.Ready, st.Running, want)
		}
	}
}

// configure keeps messages in the spool while the callback waits.
func (h *queuedHost) configure(string) queue.Config {
	if h.closed.Load() {
		return queue.Config{Concurrency: 1, MaxReady: 1, Timeout: -1}
	}
	return queue.Config{}
}

// inject ends a message.
func (h *queuedHost) inject(ctx context.Context, _ *queue.Message) error {
	if h.closed.Load() {
		select {
		case <-h.opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.calls <- struct{}{}
	return queue.Drop("it was measured")
}

func (h *queuedHost) await(ctx context.Context, calls int) error {
	for range calls {
		select {
		case <-h.calls:
		case err := <-h.ran:
			h.ran <- err
			return fmt.Errorf("bench: the scheduler has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (h *queuedHost) do(ctx context.Context, request json.RawMessage) (any, error) {
	var r queuedRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	switch {
	case r.Fill > 0:
		queues := make([]string, queuedQueues)
		for i := range queues {
			if queues[i] = queue.Deferred; i%2 == 1 {
				queues[i] = fmt.Sprintf("tenant-%02d@customer-%03d.example", i%fillTenants, i)
			}
		}
		return nil, fill(ctx, h.store, r.Fill, queues)
	case r.Accept > 0:
		return h.accept(ctx, r.Accept)
	case r.Inject:
		return h.drain(ctx)
	case r.Due:
		return nil, h.store.commit(ctx, commits.NewSender(0), h.body, true) // owned until close
	}
	return nil, errors.New("bench: a request for nothing")
}

// accept takes messages in as a listener does, while the callback stands still.
func (h *queuedHost) accept(ctx context.Context, d time.Duration) (*commits.Result, error) {
	h.closed.Store(true)
	h.sched.Reconfigure()
	begin := time.Now()
	result, err := commits.Parallel(h.meter, h.config.Workers, func(i int, latency *measure.Histogram) error {
		from := commits.NewSender(i)
		for n := 0; n == 0 || time.Since(begin) < d; n++ {
			at := time.Now()
			if err := h.take(ctx, from); err != nil {
				return err
			}
			latency.Record(time.Since(at))
		}
		return nil
	})
	if err == nil {
		h.accepted += result.Messages
	}
	return result, err
}

func (h *queuedHost) take(ctx context.Context, from *commits.Sender) error {
	t, err := h.sched.Begin(ctx, int64(len(h.body)))
	if err != nil {
		return err
	}
	defer t.Abort()
	if _, err := t.Write(h.body); err != nil {
		return err
	}
	if err := t.Commit(ctx, from.Entry(spool.ID{})); err != nil {
		return err
	}
	t.HandOver()
	return nil
}

// drain lets the callback have all that was accepted, and waits until it is removed.
func (h *queuedHost) drain(ctx context.Context) (*commits.Result, error) {
	before, err := h.meter.Read()
	if err != nil {
		return nil, err
	}
	n := h.accepted
	begin := time.Now()
	h.closed.Store(false)
	h.sched.Reconfigure()
	close(h.opened)
	if err := h.await(ctx, n); err != nil {
		return nil, err
	}
	if err := h.settle(ctx, int64(h.config.Queued)); err != nil {
		return nil, err
	}
	r := &commits.Result{Messages: n, Elapsed: time.Since(begin)}
	after, err := h.meter.Read()
	r.Used = after.Since(before)
	h.accepted, h.opened = 0, make(chan struct{})
	return r, err
}

func (h *queuedHost) close() error {
	var err error
	if h.cancel != nil {
		h.cancel()
		err = <-h.ran
	}
	return errors.Join(err, h.store.Close())
}
