package smtpserver

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// errDraining is why nothing new is taken after Shutdown began.
var errDraining = errors.New("smtpserver: shutting down")

// A gate says whether messages can be taken, and logs once when that ends and
// once when it begins again.
type gate struct {
	ready  func() error
	logger *slog.Logger

	mu struct {
		sync.Mutex
		draining bool
		closed   string // why; empty: open
	}
}

// check returns why no transaction can begin, nil if one can.
func (g *gate) check() error {
	err := g.ready()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.draining {
		return errDraining
	}
	g.note(err)
	return err
}

// connect returns why no connection can be taken. What ends by itself is no
// reason: MAIL says that, with its own code.
func (g *gate) connect() error {
	err := g.check()
	if errors.Is(err, spool.ErrFull) || errors.Is(err, spool.ErrBusy) || errors.Is(err, queue.ErrRecordsFull) {
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
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if reason == g.mu.closed {
		return
	}
	opened := reason == ""
	g.mu.closed = reason
	if opened {
		g.logger.LogAttrs(context.Background(), slog.LevelInfo, "smtp listener accepts messages again")
		return
	}
	g.logger.LogAttrs(context.Background(), slog.LevelWarn, "smtp listener accepts no messages", slog.String("reason", reason))
}
