package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// patience bounds the demonstration, whose retries take seconds.
const patience = 2 * time.Minute

// A demo is the service and what is shown of it.
type demo struct {
	*options
	out      *printer
	tracker  *tracker
	spool    *boltspool.Spool
	listener *deferred.Listener
	addr     string
}

// run is the program. It returns after the demonstration with -once, else when
// ctx is done.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.outbox, 0o700); err != nil {
		return fmt.Errorf("quickstart: making the outbox: %w", err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	sp, err := boltspool.Open(o.spool, &boltspool.Options{Logger: logger})
	if err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	defer func() {
		if err2 := sp.Close(); err == nil {
			err = err2
		}
	}()
	d := &demo{options: o, out: newPrinter(stdout), spool: sp}
	d.tracker = newTracker(d.out, o.backoff())
	if err := d.listen(logger); err != nil {
		return err
	}
	return d.serve(ctx)
}

// listen puts the service together: the whole of what a host needs.
func (d *demo) listen(logger *slog.Logger) error {
	p := &policy{slow: d.slow, outbox: d.outbox, tracker: d.tracker}
	sched, err := queue.NewScheduler(d.spool, p.inject, &queue.Options{
		Record: d.tracker.record, Configure: d.configure, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	if err := sched.Handle("*", p.deliver); err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	ln, err := net.Listen("tcp", d.options.addr)
	if err != nil {
		return fmt.Errorf("quickstart: %w (-addr 127.0.0.1:0 takes a free port)", err)
	}
	d.addr = ln.Addr().String()
	d.listener, err = deferred.NewListener(sched, &deferred.Options{
		DeferredQueue: true, Listener: ln, Hostname: "quickstart.example", Logger: logger,
	})
	if err != nil {
		ln.Close()
		return fmt.Errorf("quickstart: %w", err)
	}
	return nil
}

// serve runs the service with the demonstration in front of it.
func (d *demo) serve(ctx context.Context) error {
	d.headline()
	resumed, err := d.queued(ctx)
	if err != nil {
		d.listener.Close()
		return err
	}
	d.showQueued(resumed)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	go func() {
		ran <- deferred.Run(ctx, d.listener)
		cancel() // a service that failed ends the demonstration
	}()
	err = d.demonstrate(ctx, resumed)
	switch {
	case ctx.Err() != nil:
		err = nil // stopped on the way, or what Run says
		d.stopping()
	case err == nil && !d.once:
		d.howToSend()
		<-ctx.Done()
		d.stopping()
	}
	cancel()
	if runErr := <-ran; runErr != nil {
		return fmt.Errorf("quickstart: %w", runErr)
	}
	if err != nil {
		return err
	}
	return d.farewell()
}

// demonstrate sends the messages and waits for what becomes of them and of
// those that were queued before.
func (d *demo) demonstrate(ctx context.Context, resumed []waiting) error {
	sent, err := d.sendAll(ctx)
	if err != nil {
		return fmt.Errorf("quickstart: sending to %s: %w", d.addr, err)
	}
	var ids []spool.ID
	for _, w := range resumed {
		ids = append(ids, w.id)
	}
	for _, s := range sent {
		ids = append(ids, s.ids...)
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.tracker.wait(limit, ids); err != nil {
		return fmt.Errorf("quickstart: waiting for the outcomes: %w", err)
	}
	d.summary(resumed, sent)
	return nil
}
