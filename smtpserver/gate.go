package smtpserver

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// errDraining is why nothing new is taken after Shutdown began.
var errDraining = errors.New("smtpserver: shutting down")

// A gate says whether messages can be taken. It is asked for each connection,
// at MAIL and before the content, and logs once when it closes and once when it
// opens, for each reason.
type gate struct {
	ready  func() error // of the Scheduler: its spool and its records
	gauges []*gauge
	memory memory
	logger *slog.Logger

	mu struct {
		sync.Mutex
		draining bool
		closed   string // by what, as closedBy says; empty: open
	}
}

// newGate returns the gate of a Listener with these options.
func newGate(sched *queue.Scheduler, o *Options) *gate {
	g := &gate{ready: sched.Ready, memory: memory{read: readMemory, collect: runtime.GC}, logger: o.Logger}
	if limit := memoryLimit(o.Limits.Memory); limit > 0 {
		g.gauges = append(g.gauges, g.memoryGauge(limit))
	}
	if q := queueLimits(o.Limits); q.any() {
		g.gauges = append(g.gauges, queueGauge(sched.Spool(), q, o.Logger))
	}
	return g
}

// closedBy names what err closes a gate by, which does not change with the
// details in the text of err, and says whether that ends by itself.
func closedBy(err error) (name string, passes bool) {
	for _, c := range [...]struct {
		err    error
		name   string
		passes bool
	}{
		{spool.ErrQuota, "spool quota", true},
		{spool.ErrNoInodes, "inodes", true},
		{spool.ErrFull, "disk space", true},
		{spool.ErrBusy, "spool busy", true},
		{spool.ErrFailed, "spool failed", false},
		{spool.ErrFenced, "spool session lost", false},
		{spool.ErrClosed, "spool closed", false},
		{queue.ErrRecordsFull, "record buffer", true},
		{replyMemory, "memory", true},
		{replyQueuedMessages, "queued messages", true},
		{replyQueuedBytes, "queued bytes", true},
		{replyQueuedAge, "age of the oldest message", true},
	} {
		if errors.Is(err, c.err) {
			return c.name, c.passes
		}
	}
	return "spool", false
}

// check returns why no transaction can begin, nil if one can. Now and then it
// waits a little while it asks the spool for its counts.
func (g *gate) check() error {
	for _, m := range g.gauges {
		m.refresh()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.draining {
		return errDraining
	}
	err := g.reason() // under the lock, so that changes are logged in their order
	g.note(err)
	return err
}

func (g *gate) reason() error {
	if err := g.ready(); err != nil {
		return err
	}
	for _, m := range g.gauges {
		if err := m.beyond(); err != nil {
			return err
		}
	}
	return nil
}

// connect returns why no connection can be taken. What ends by itself is no
// reason: MAIL says that, with its own code.
func (g *gate) connect() error {
	err := g.check()
	if err == nil || errors.Is(err, errDraining) {
		return err
	}
	if _, passes := closedBy(err); passes {
		return nil
	}
	return err
}

// drain closes the gate for good.
func (g *gate) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.mu.draining {
		g.mu.draining = true
		g.logger.Info("smtp listener is shutting down")
	}
}

// note logs a change.
func (g *gate) note(err error) {
	name := ""
	if err != nil {
		name, _ = closedBy(err)
	}
	old := g.mu.closed
	if name == old {
		return
	}
	g.mu.closed = name
	ctx := context.Background()
	if name != "" {
		g.logger.LogAttrs(ctx, slog.LevelWarn, "smtp gate closed, no messages are accepted", slog.String("gate", name), slog.Any("reason", err))
	}
	if old != "" {
		g.logger.LogAttrs(ctx, slog.LevelInfo, "smtp gate opened", slog.String("gate", old), slog.Bool("accepting", name == ""))
	}
}
