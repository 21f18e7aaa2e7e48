package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// The queues of a host.
const (
	hungQueue = "stuck@example.com" // whose handlers never return
	nextQueue = "next@example.com"  // to which the callback sends on
)

// hungSlots is how many handlers of hungQueue hang at once.
const hungSlots = 32

// A hostConfig tells a host process what to be: a scheduler on boltspool.
type hostConfig struct {
	Dir     string
	Fill    int           // messages that wait before anything is measured
	Handler time.Duration // fairness: how long the callback takes
	Slots   int           // fairness: how many run at once
}

// A hostRequest says what a host is to measure.
type hostRequest struct {
	Pass  int // isolation: messages that are accepted one by one
	Class *classRequest
}

// A classRequest has some messages of one class come beside the many.
type classRequest struct {
	Name     string
	Messages int
	Accept   bool // else they are in the spool, and due
}

// A passResult is the answer to Pass.
type passResult struct {
	Accepted, Rebound measure.Histogram // from acceptance to the callback, and from its return to the next handler
}

// A classResult is the answer to Class.
type classResult struct {
	Took time.Duration // from when the first one came to when the last handler returned
	Many int           // handlers of the many that returned meanwhile
}

// runHost is the process.
func runHost(ctx context.Context, _ []string, std streams) (err error) {
	var h *queueHost
	defer func() {
		if h != nil {
			err = errors.Join(err, h.close())
		}
	}()
	return measure.Serve(std.in, std.out, func(request json.RawMessage) (any, error) {
		if h == nil {
			var c hostConfig
			if err := json.Unmarshal(request, &c); err != nil {
				return nil, err
			}
			var err error
			h, err = startHost(ctx, c)
			return nil, err
		}
		var r hostRequest
		if err := json.Unmarshal(request, &r); err != nil {
			return nil, err
		}
		if r.Class != nil {
			return h.class(ctx, *r.Class)
		}
		return h.pass(ctx, r.Pass)
	})
}

// A queueHost is a scheduler on a spool that has many messages already.
type queueHost struct {
	config hostConfig
	cancel context.CancelFunc
	sp     *boltspool.Spool
	sched  *queue.Scheduler
	ran    chan error

	ended chan struct{} // one for each measured message that is done

	mu     sync.Mutex
	since  map[spool.ID]time.Time // messages that are measured, and when they were handed over
	result *passResult
	many   int // messages that are done and not measured
}

// errStuck ends what is stuck when the host does.
var errStuck = errors.New("bench: stuck until the end")

func startHost(ctx context.Context, c hostConfig) (*queueHost, error) {
	sp, err := openBoltStore(c.Dir)
	if err != nil {
		return nil, err
	}
	h := &queueHost{config: c, sp: sp, since: map[spool.ID]time.Time{}, result: &passResult{},
		ended: make(chan struct{}, 1<<16), ran: make(chan error, 1)}
	ctx, h.cancel = context.WithCancel(ctx)
	if err := h.start(ctx); err != nil {
		h.cancel()
		return nil, errors.Join(err, sp.Close())
	}
	return h, nil
}

// start fills the spool and runs the scheduler until it is busy.
func (h *queueHost) start(ctx context.Context) (err error) {
	opts := &queue.Options{
		Logger:    slog.New(slog.DiscardHandler),
		Record:    func(context.Context, queue.Record) error { return nil },
		Configure: h.configure, StopTimeout: time.Second,
	}
	callback := h.inject
	if h.config.Handler > 0 {
		callback = h.work
	}
	if h.sched, err = queue.NewScheduler(h.sp, callback, opts); err != nil {
		return err
	}
	many := queue.Deferred
	if h.config.Handler == 0 {
		many = hungQueue
		err = errors.Join(h.sched.Handle(nextQueue, h.next), h.sched.Handle(hungQueue, func(ctx context.Context, _ *queue.Message) error {
			<-ctx.Done()
			return errStuck
		}))
	}
	if err == nil {
		err = storeMany(ctx, h.sp, many, h.config.Fill)
	}
	if err != nil {
		return err
	}
	go func() { h.ran <- h.sched.Run(ctx) }()
	if err := h.settle(ctx); err != nil {
		h.cancel()
		<-h.ran
		return err
	}
	return nil
}

func (h *queueHost) configure(name string) queue.Config {
	if h.config.Handler > 0 {
		return queue.Config{Concurrency: h.config.Slots}
	}
	// What is due at the start is not spread over a minute, and no deadline ends what is stuck.
	c := queue.Config{Backoff: queue.Backoff{Base: time.Millisecond}, Timeout: -1}
	if name == hungQueue {
		c.Concurrency = hungSlots
	}
	return c
}

// settle waits until the many have filled what they may: the memory of their queue too.
func (h *queueHost) settle(ctx context.Context) error {
	for last := int64(-1); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-h.ran:
			h.ran <- err
			return fmt.Errorf("bench: the scheduler has ended: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
		st := h.sched.Stats()
		if st.Err != nil {
			return st.Err
		}
		if h.config.Fill > 0 && st.Running == 0 && st.Ready+st.Scheduled == 0 {
			return errGone
		}
		if (h.config.Fill == 0 || st.Running > 0) && st.Ready <= last {
			return nil
		}
		last = st.Ready
	}
}

func (h *queueHost) close() error {
	h.cancel()
	return errors.Join(<-h.ran, h.sp.Close())
}

// storeMany stores n messages that are due.
func storeMany(ctx context.Context, sp *boltspool.Spool, queueName string, n int) error {
	body, err := sp.Create(ctx, fillBody)
	if err != nil {
		return err
	}
	defer body.Abort()
	if _, err := body.Write([]byte(strings.Repeat("stuck\r\n", fillBody/7))); err != nil {
		return err
	}
	for n > 0 {
		units := make([]spool.Unit, min(n, 4*fillUnits))
		for i := range units {
			units[i] = spool.Unit{{Op: spool.Insert, Entry: waiting(body.ID(), queueName, "many"), Stage: body}}
		}
		if err := errors.Join(sp.Apply(ctx, units...)...); err != nil {
			return err
		}
		n -= len(units)
	}
	return nil
}

// waiting is an entry that is due.
func waiting(body spool.ID, queueName, class string) *spool.Entry {
	now := time.Now()
	return &spool.Entry{
		ID: spool.NewID(), Body: body, Queue: queueName, Class: class, Received: now, Due: now,
		Envelope: spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}}},
	}
}

// accept takes a message in as a listener does. Its clock starts when it is
// durable: when the 250 would be written.
func (h *queueHost) accept(ctx context.Context, class string) error {
	t, err := h.sched.Begin(ctx, 0)
	if err != nil {
		return err
	}
	defer t.Abort()
	if _, err := t.Write([]byte("Subject: test\r\n\r\nhello\r\n")); err != nil {
		return err
	}
	e := waiting(spool.ID{}, "", class)
	if err := t.Commit(ctx, e); err != nil {
		return err
	}
	h.note(e.ID)
	t.HandOver()
	return nil
}

// note starts the clock of a message.
func (h *queueHost) note(id spool.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since[id] = time.Now()
}

// clock reads the clock of a message; 0 if it has none.
func (h *queueHost) clock(id spool.ID) time.Duration {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	since, ok := h.since[id]
	delete(h.since, id)
	if !ok {
		return 0
	}
	return now.Sub(since)
}

// await waits for the end of n measured messages.
func (h *queueHost) await(ctx context.Context, n int) error {
	for range n {
		select {
		case <-h.ended:
		case err := <-h.ran:
			h.ran <- err
			return fmt.Errorf("bench: the scheduler has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// withHosts starts host processes, and stops them after use.
func withHosts(ctx context.Context, configs []hostConfig, use func([]*child) error) (err error) {
	var hosts []*child
	defer func() {
		for _, c := range slices.Backward(hosts) {
			if err != nil {
				c.kill()
			} else {
				err = c.stop()
			}
		}
	}()
	for _, config := range configs {
		c, err := startChild(ctx, hostProcess, config, nil)
		if err != nil {
			return err
		}
		hosts = append(hosts, c)
	}
	return use(hosts)
}

// hostDir is where the spool of a host is.
func hostDir(dir, name string) string { return filepath.Join(dir, "host-"+name) }
