package smtpserver

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

var long = flag.Bool("long", false, "run the tests that need programs of other packages, or take long")

// patience is how long a test waits for what must happen.
const patience = time.Minute

// A host is a Listener with everything around it.
type host struct {
	t     testing.TB
	l     *Listener
	sched *queue.Scheduler
	sp    *spool.Memory
	logs  *logBuffer
	got   chan *injected
	recs  chan queue.Record

	deferredSpool bool

	stopScheduler func() // waits for what runs to be finished and stored

	mu struct {
		sync.Mutex
		inject queue.Handler // nil: accept
	}
}

// injected is what the inject callback saw.
type injected struct {
	id      spool.ID
	env     spool.Envelope
	meta    map[string]string
	content string
}

// body returns the content behind the trace fields.
func (m *injected) body() string {
	rest := m.content
	for _, name := range []string{"X-KumoRef:", "Received:"} {
		if !strings.HasPrefix(rest, name) {
			continue
		}
		for {
			_, after, _ := strings.Cut(rest, "\r\n")
			rest = after
			if !strings.HasPrefix(rest, "\t") {
				break
			}
		}
	}
	return rest
}

type logBuffer struct {
	mu struct {
		sync.Mutex
		strings.Builder
	}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.String()
}

// newHost makes a Listener with a running Scheduler on an in-memory spool. At
// the end of the test it must be possible to stop all of it.
func newHost(t testing.TB, opts *Options) *host {
	t.Helper()
	sp := spool.NewMemory()
	h := newHostOn(t, sp, opts)
	h.sp = sp
	return h
}

// newHostOn is newHost on a spool that it closes.
func newHostOn(t testing.TB, sp spool.Spool, opts *Options) *host {
	t.Helper()
	h := &host{t: t, logs: &logBuffer{}, got: make(chan *injected, 10000), recs: make(chan queue.Record, 10000)}
	o := Options{DeferredQueue: true}
	if opts != nil {
		o = *opts
	}
	o.Hostname = "mx.example.com"
	h.deferredSpool = o.DeferredSpool
	logger := slog.New(slog.NewTextHandler(h.logs, nil))
	o.Logger = logger
	var err error
	h.sched, err = queue.NewScheduler(sp, h.handle, &queue.Options{Logger: logger, Record: func(_ context.Context, r queue.Record) error {
		h.recs <- r
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.l, err = NewListener(h.sched, &o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.sched.Run(ctx) }()
	h.stopScheduler = sync.OnceFunc(func() {
		cancel()
		<-ran
	})
	t.Cleanup(func() {
		h.l.Close()
		h.stopScheduler()
		sp.Close()
	})
	return h
}

// serve makes h listen on loopback.
func (h *host) serve() *host {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.serveOn(ln)
	if h.deferredSpool {
		h.awaitRunning()
	}
	return h
}

func (h *host) serveOn(ln net.Listener) {
	served := make(chan error, 1)
	go func() { served <- h.l.Serve(ln) }()
	h.t.Cleanup(func() {
		h.l.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			h.t.Errorf("Serve returned %v, want ErrServerClosed", err)
		}
	})
	for h.l.Addr() == nil {
		runtime.Gosched()
	}
}

func serve(t testing.TB, opts *Options) *host {
	t.Helper()
	return newHost(t, opts).serve()
}

// awaitRunning waits until the scheduler works: before, nothing is kept in memory.
func (h *host) awaitRunning() {
	h.t.Helper()
	h.setInject(func(context.Context, *queue.Message) error { return queue.Reject(550, "only to see it called") })
	defer h.setInject(nil)
	for {
		tr, err := h.sched.Begin(context.Background(), 0)
		if err != nil {
			h.t.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "a@example.com"}}}}
		errs := tr.Inject(context.Background(), false, e)
		tr.Abort()
		if len(errs) == 1 && !errors.Is(errs[0], queue.ErrStopped) {
			return
		}
		runtime.Gosched()
	}
}

func (h *host) setInject(f queue.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.inject = f
}

// handle is the inject callback.
func (h *host) handle(ctx context.Context, m *queue.Message) error {
	h.mu.Lock()
	f := h.mu.inject
	h.mu.Unlock()
	if f != nil {
		if err := f(ctx, m); err != nil {
			return err
		}
	}
	body, err := m.Open()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	h.got <- &injected{id: m.ID, env: m.Envelope.Clone(), meta: m.Meta, content: string(content)}
	return nil
}

// next returns the next message that was injected.
func (h *host) next() *injected {
	h.t.Helper()
	select {
	case m := <-h.got:
		return m
	case <-time.After(patience):
		h.t.Fatalf("no message was injected; log:\n%s", h.logs)
		return nil
	}
}

// nothing fails if anything is stored, or was injected.
func (h *host) nothing() {
	h.t.Helper()
	for e, err := range h.sp.Scan(context.Background(), spool.Query{}) {
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Errorf("message %s for %v is stored", e.ID, e.Envelope.Recipients)
	}
	select {
	case m := <-h.got:
		h.t.Errorf("message %s was injected: %q", m.id, m.content)
	default:
	}
}

// record returns the next record of that type.
func (h *host) record(want queue.RecordType) queue.Record {
	h.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case r := <-h.recs:
			if r.Type == want {
				return r
			}
		case <-timeout:
			h.t.Fatalf("no record of type %s", want)
		}
	}
}

// A client speaks SMTP line by line.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (h *host) dial() *client {
	h.t.Helper()
	conn, err := net.Dial(h.l.Addr().Network(), h.l.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	return newClient(h.t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// greeted returns a client that has said EHLO.
func (h *host) greeted() *client {
	h.t.Helper()
	c := h.dial()
	c.want("220")
	c.cmd("EHLO client.example", "250")
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("sending %.60q: %v", s, err)
	}
}

// reply reads one reply and returns its lines.
func (c *client) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if len(line) > 3 && line[3] == ' ' {
			return all.String(), nil
		}
	}
}

// want reads a reply that begins with prefix.
func (c *client) want(prefix string) string {
	c.t.Helper()
	got, err := c.reply()
	if err != nil || !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("reply %q, %v; want %s", got, err, prefix)
	}
	return got
}

func (c *client) cmd(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(prefix)
}

// envelope says MAIL and RCPT.
func (c *client) envelope(rcpts ...string) {
	c.t.Helper()
	c.cmd("MAIL FROM:<sender@example.com>", "250")
	for _, r := range rcpts {
		c.cmd("RCPT TO:<"+r+">", "250")
	}
}

// data sends a message and returns the reply to it.
func (c *client) data(content string, rcpts ...string) string {
	c.t.Helper()
	c.envelope(rcpts...)
	c.cmd("DATA", "354")
	c.send(content + ".\r\n")
	got, err := c.reply()
	if err != nil {
		c.t.Fatalf("reply to the content: %q, %v", got, err)
	}
	return got
}

// ended fails if the connection is still open behind what was read.
func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) {
		c.t.Errorf("the connection goes on with %q, %v; want its end", rest, err)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Error("the connection is still open")
	}
}

const plain = "Subject: hello\r\n\r\nA line.\r\n"

func wantPrefix(t testing.TB, got, prefix string) {
	t.Helper()
	if !strings.HasPrefix(got, prefix) {
		t.Errorf("got %q, want %s", got, prefix)
	}
}
