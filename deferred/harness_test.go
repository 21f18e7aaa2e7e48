package deferred_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/internal/pipenet"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// The tests run in bubbles: a goroutine that Run leaves behind fails them.

// A backend is a spool and the Scheduler on it.
type backend struct {
	sp    *spool.Memory
	sched *queue.Scheduler
	got   chan string // recipients that the callback saw

	inject deferred.Handler // nil: note the recipient; to be set before Run
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{sp: spool.NewMemory(), got: make(chan string, 100)}
	var err error
	b.sched, err = queue.NewScheduler(b.sp, func(ctx context.Context, m *deferred.Message) error {
		if b.inject != nil {
			return b.inject(ctx, m)
		}
		b.got <- m.Envelope.Recipients[0].Address
		return nil
	}, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// listen returns a Listener in front of b, and the network that it serves.
func (b *backend) listen(t *testing.T) (*deferred.Listener, *pipenet.Listener) {
	t.Helper()
	ln := pipenet.Listen(2525)
	return b.listener(t, &deferred.Options{Listener: ln}), ln
}

func (b *backend) listener(t *testing.T, o *deferred.Options) *deferred.Listener {
	t.Helper()
	o.DeferredQueue = true
	o.Logger = slog.New(slog.DiscardHandler)
	l, err := deferred.NewListener(b.sched, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A running Run.
type running struct {
	cancel context.CancelFunc
	done   chan error
}

func run(listeners ...*deferred.Listener) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- deferred.Run(ctx, listeners...) }()
	return r
}

// stop ends Run as a host does.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
}

// A client speaks SMTP line by line.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, ln *pipenet.Listener) *client {
	t.Helper()
	conn, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.want("220")
	return c
}

func (c *client) want(prefix string) {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, prefix) {
			c.t.Fatalf("reply %q, %v; want %s", line, err, prefix)
		}
		if len(line) > 3 && line[3] == ' ' {
			return
		}
	}
}

func (c *client) cmd(line, prefix string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	c.want(prefix)
}

// data begins a message for rcpt.
func (c *client) data(rcpt string) {
	c.t.Helper()
	c.cmd("EHLO client.example", "250")
	c.cmd("MAIL FROM:<a@example.com>", "250")
	c.cmd("RCPT TO:<"+rcpt+">", "250")
	c.cmd("DATA", "354")
}

// end ends the message that data began.
func (c *client) end(prefix string) {
	c.t.Helper()
	c.cmd("Subject: hello\r\n\r\nA line.\r\n.", prefix)
}
