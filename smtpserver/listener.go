package smtpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
)

// ErrServerClosed is what [Listener.Serve] and [Listener.ListenAndServe] return
// after [Listener.Shutdown] or [Listener.Close].
var ErrServerClosed = errors.New("smtpserver: server closed")

// defaultGrace is how long a commit that was begun is awaited after
// ProcessingTimeout.
const defaultGrace = 30 * time.Second

// A Listener receives mail by SMTP or LMTP and stores it through a Scheduler. Its
// methods are safe for concurrent use. It may serve several net.Listeners at
// once.
type Listener struct {
	sched   *queue.Scheduler
	opts    Options // resolved
	server  *smtp.Server
	gate    *gate
	grace   time.Duration
	writers sync.Pool // *bufio.Writer, in front of the spool

	ctx    context.Context // ends with Close, and when Shutdown runs out of time
	cancel context.CancelFunc
	done   chan struct{}  // closed when nothing more is accepted
	serve  sync.WaitGroup // Serve loops
	joined sync.Once

	mu struct {
		sync.Mutex
		closed    bool
		addr      net.Addr
		listeners map[net.Listener]struct{}
		conns     map[*conn]struct{}
		perAddr   map[netip.Addr]int
	}
}

// NewListener returns a Listener that hands what it accepts to s. It checks
// opts, which may be nil, and opens nothing. s need not be running; until it
// runs, messages are accepted and wait.
func NewListener(s *queue.Scheduler, opts *Options) (*Listener, error) {
	if s == nil {
		return nil, errors.New("smtpserver: NewListener: the Scheduler is nil: make one by queue.NewScheduler")
	}
	o, err := resolve(opts)
	if err != nil {
		return nil, err
	}
	l := &Listener{sched: s, opts: o, grace: defaultGrace, done: make(chan struct{})}
	l.writers.New = func() any { return bufio.NewWriterSize(nil, 32<<10) }
	l.gate = &gate{ready: s.Ready, logger: o.Logger}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mu.listeners = make(map[net.Listener]struct{})
	l.mu.conns = make(map[*conn]struct{})
	l.mu.perAddr = make(map[netip.Addr]int)
	if o.Listener != nil {
		l.mu.addr = o.Listener.Addr()
	}
	l.server = l.newServer()
	return l, nil
}

// newServer configures go-smtp, which carries the protocol. Timeouts, line
// lengths, TLS and the errors that a client may make are the conn's.
func (l *Listener) newServer() *smtp.Server {
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return c.Conn().(*conn).s, nil
	}))
	srv.Domain = l.opts.Hostname
	srv.LMTP = l.opts.LMTP
	srv.MaxRecipients = l.opts.Limits.Recipients
	srv.MaxMessageBytes = l.opts.Limits.MessageSize
	srv.MaxLineLength = 0
	srv.AllowInsecureAuth = true // the session decides
	srv.EnableSMTPUTF8 = true
	srv.EnableDSN = true
	srv.ErrorLog = errorLog{l.opts.Logger}
	return srv
}

// Scheduler returns the Scheduler that l hands messages to.
func (l *Listener) Scheduler() *queue.Scheduler { return l.sched }

// Addr returns the address that l listens on: that of [Options.Listener], or of
// the first net.Listener that it serves; nil before that.
func (l *Listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.addr
}

// ListenAndServe serves [Options.Listener], or else listens on [Options.Addr] and
// serves that. It blocks and returns as [Listener.Serve] does.
func (l *Listener) ListenAndServe() error {
	if l.opts.Listener != nil {
		return l.Serve(l.opts.Listener)
	}
	if l.closed() {
		return ErrServerClosed
	}
	network, addr := "tcp", l.opts.Addr
	if path, ok := unixPath(addr); ok {
		network, addr = "unix", path
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		return fmt.Errorf("smtpserver: listening on %s: %w", l.opts.Addr, err)
	}
	return l.Serve(ln)
}

// Serve accepts connections from ln until Shutdown or Close, and returns
// [ErrServerClosed] then, which may be before they have returned. It closes ln.
// An address beyond loopback is refused unless RelayHosts, AUTH or client
// certificates say who is trusted. Serve starts no Scheduler. Running out
// of file descriptors and the like is logged and waited out; other errors of
// ln end Serve and are returned.
func (l *Listener) Serve(ln net.Listener) error {
	if err := checkExposure(&l.opts, ln.Addr()); err != nil {
		ln.Close()
		return err
	}
	if !l.add(ln) {
		ln.Close()
		return ErrServerClosed
	}
	defer l.remove(ln)
	err := l.server.Serve(&acceptor{Listener: ln, l: l})
	if l.closed() {
		return ErrServerClosed
	}
	return fmt.Errorf("smtpserver: accepting on %s: %w", ln.Addr(), err)
}

func (l *Listener) add(ln net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.mu.listeners[ln] = struct{}{}
	if l.mu.addr == nil {
		l.mu.addr = ln.Addr()
	}
	l.serve.Add(1)
	return true
}

func (l *Listener) remove(ln net.Listener) {
	ln.Close()
	l.mu.Lock()
	delete(l.mu.listeners, ln)
	l.mu.Unlock()
	l.serve.Done()
}

func (l *Listener) closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.closed
}

// stopAccepting closes all listeners and returns the connections that are open.
func (l *Listener) stopAccepting() []*conn {
	l.gate.drain()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mu.closed {
		l.mu.closed = true
		close(l.done)
	}
	for ln := range l.mu.listeners {
		ln.Close()
	}
	if ln := l.opts.Listener; ln != nil {
		ln.Close()
	}
	conns := make([]*conn, 0, len(l.mu.conns))
	for c := range l.mu.conns {
		conns = append(conns, c)
	}
	return conns
}

// Shutdown ends the Listener without interrupting transactions: it accepts no
// more connections, closes those that are in no transaction with 421 4.3.2, and
// the others when theirs has ended. When ctx is done or
// [Limits.ShutdownTimeout] has passed it closes all that are left, and returns
// the error of the context. In any case it waits for commits in flight, so that no message
// is stored after it has returned, and for hooks, which must heed their context.
// It does not stop the Scheduler.
func (l *Listener) Shutdown(ctx context.Context) error {
	if d := l.opts.Limits.ShutdownTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	for _, c := range l.stopAccepting() {
		c.drain()
	}
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		l.join()
	}()
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
	}
	l.abortAll()
	<-joined
	return fmt.Errorf("smtpserver: Shutdown closed connections that were in a transaction: %w", ctx.Err())
}

// Close ends the Listener at once: it closes all sockets and waits for hooks and
// for commits in flight, whose clients do not learn of them. What was committed is
// handed to the Scheduler.
func (l *Listener) Close() error {
	l.stopAccepting()
	l.abortAll()
	l.join()
	return nil
}

func (l *Listener) abortAll() {
	l.cancel()
	for _, c := range l.stopAccepting() {
		c.abort()
	}
}

// join waits for every goroutine: the Serve loops first, so that no connection
// is added, then the connections, which wait for the content of BDAT.
func (l *Listener) join() {
	l.serve.Wait()
	l.joined.Do(func() {
		l.server.Shutdown(context.Background()) // waits; all listeners are closed
	})
	l.cancel()
}

// errorLog takes what go-smtp has to say.
type errorLog struct{ logger *slog.Logger }

func (e errorLog) Printf(format string, v ...any) {
	e.logger.Warn("smtp server", "message", fmt.Sprintf(format, v...))
}

func (e errorLog) Println(v ...any) { e.logger.Warn("smtp server", "message", fmt.Sprint(v...)) }
