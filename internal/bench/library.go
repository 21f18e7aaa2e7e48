package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// A libraryHost is this library: a spool, a Scheduler and a Listener.
type libraryHost struct {
	spool    spool.Spool
	sched    *queue.Scheduler
	listener *smtpserver.Listener

	cancel context.CancelFunc // of the Scheduler; nil if it is not run
	ran    chan error
}

// newMemoryHost and newBoltHost run a Scheduler that is stuck in the first
// message, so that records are taken as in a host, and nothing is injected.
func newMemoryHost(e *environment) (host, error) {
	return newLibraryHost(e, spool.NewMemory(), stuck, stuckQueue(e), deferred.Options{DeferredQueue: true}, true)
}

func newBoltHost(e *environment) (host, error) {
	sp, err := openBolt(e)
	if err != nil {
		return nil, err
	}
	return newLibraryHost(e, sp, stuck, stuckQueue(e), deferred.Options{DeferredQueue: true}, true)
}

// newDeferredSpoolHost injects what it accepts, by a callback that does nothing:
// otherwise the memory that the option may use is soon full, and what follows
// is stored as without it.
func newDeferredSpoolHost(e *environment) (host, error) {
	sp, err := openBolt(e)
	if err != nil {
		return nil, err
	}
	opts := deferred.Options{DeferredQueue: true, DeferredSpool: true}
	return newLibraryHost(e, sp, nothing, takeRecords(e), opts, true)
}

// newReceptionHost drops what it accepts and runs no Scheduler.
func newReceptionHost(e *environment) (host, error) {
	o := takeRecords(e)
	o.RecordBuffer = 1 << 40 // nobody takes them
	return newLibraryHost(e, newDropSpool(), nothing, o, deferred.Options{DeferredQueue: true}, false)
}

// newClampHost runs everything, with a callback that may be slow.
func newClampHost(e *environment) (host, error) {
	sp, err := openBolt(e)
	if err != nil {
		return nil, err
	}
	return newLibraryHost(e, sp, e.Callback.handler(), takeRecords(e), deferred.Options{DeferredQueue: e.Deferred}, true)
}

func openBolt(e *environment) (spool.Spool, error) {
	return boltspool.Open(filepath.Join(e.Dir, "spool"), &boltspool.Options{Logger: e.logger})
}

func nothing(context.Context, *queue.Message) error { return nil }

// stuck ends with the host.
func stuck(ctx context.Context, _ *queue.Message) error {
	<-ctx.Done()
	return ctx.Err()
}

func takeRecords(e *environment) queue.Options {
	return queue.Options{
		Logger: e.logger, Record: func(context.Context, queue.Record) error { return nil },
		StopTimeout: 200 * time.Millisecond, // nobody waits for what is not injected yet
	}
}

func stuckQueue(e *environment) queue.Options {
	o := takeRecords(e)
	o.Configure = func(string) queue.Config { return queue.Config{Concurrency: 1, MaxReady: 1, Timeout: -1} }
	return o
}

// newLibraryHost takes sp over. run says whether the Scheduler is run.
func newLibraryHost(e *environment, sp spool.Spool, inject queue.Handler, qo queue.Options, so deferred.Options, run bool) (host, error) {
	h := &libraryHost{spool: sp, ran: make(chan error, 1)}
	var err error
	if h.sched, err = queue.NewScheduler(sp, inject, &qo); err == nil {
		h.listener, err = deferred.NewListener(h.sched, listenerOptions(e, so))
	}
	if err != nil {
		return nil, errors.Join(err, sp.Close())
	}
	if run {
		h.run()
	}
	return h, nil
}

// run runs the Scheduler until close.
func (h *libraryHost) run() {
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	go func() { h.ran <- h.sched.Run(ctx) }()
}

// listenerOptions lifts the limits that a long session would meet.
func listenerOptions(e *environment, o deferred.Options) *deferred.Options {
	o.Hostname = "library.example"
	o.Logger = e.logger
	o.Limits.Messages = -1
	o.Limits.MessageSize = maxMessage
	o.TLS = smtpserver.TLS{Config: e.tls, Implicit: e.implicit()}
	return &o
}

func (h *libraryHost) serve(ln net.Listener) error {
	if err := h.listener.Serve(ln); !errors.Is(err, smtpserver.ErrServerClosed) {
		return err
	}
	return nil
}

// count adds what the spool has done, if it is a boltspool.
func (h *libraryHost) count(u *usage) {
	if sp, ok := h.spool.(*boltspool.Spool); ok {
		st := sp.Stats()
		u.Spool, u.Checkpoints, u.Syncs = true, uint64(st.Checkpoints), uint64(st.Groups)
	}
}

// close ends the host at once: what it stored is of no interest any more.
func (h *libraryHost) close() error {
	err := h.listener.Close()
	if h.cancel != nil {
		h.cancel()
		err = errors.Join(err, <-h.ran)
	}
	if closeErr := h.spool.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("bench: closing the spool: %w", closeErr))
	}
	return err
}
