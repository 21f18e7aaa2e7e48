package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
)

// ErrServerClosed is what [Listener.Serve] and [Listener.ListenAndServe] return
// after [Listener.Shutdown] or [Listener.Close].
var ErrServerClosed = errors.New("smtpserver: server closed")

// A Listener receives mail by SMTP or LMTP and stores it through a Scheduler. Its
// methods are safe for concurrent use. It may serve several net.Listeners at
// once.
type Listener struct {
	*intake
	opts    Options // resolved
	server  *smtp.Server
	tracker *tracker

	serve  sync.WaitGroup // Serve loops
	joined sync.Once

	mu struct {
		sync.Mutex
		addr net.Addr
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
	l := &Listener{
		intake:  &intake{sched: s, gate: newGate(s, &o), grace: defaultGrace},
		opts:    o,
		tracker: newTracker(o.Limits.Connections, o.Logger.Warn),
	}
	if o.Listener != nil {
		l.mu.addr = o.Listener.Addr()
	}
	l.server = l.newServer()
	return l, nil
}

// newServer configures go-smtp, which carries the protocol. Timeouts, sizes,
// numbers, TLS and the errors that a client may make are ours.
func (l *Listener) newServer() *smtp.Server {
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return c.Conn().(*conn).speaker.(*dialogue).s, nil
	}))
	srv.Domain = l.opts.Hostname
	srv.LMTP = l.opts.LMTP
	srv.MaxLineLength = 0
	srv.AllowInsecureAuth = true // the session decides
	srv.EnableSMTPUTF8 = true
	srv.EnableBINARYMIME = true
	srv.EnableREQUIRETLS = true
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
	if l.tracker.closed() {
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
	err := l.server.Serve(acceptor{ln, l})
	if l.tracker.closed() {
		return ErrServerClosed
	}
	return fmt.Errorf("smtpserver: accepting on %s: %w", ln.Addr(), err)
}

func (l *Listener) add(ln net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.tracker.add(ln) {
		return false
	}
	if l.mu.addr == nil {
		l.mu.addr = ln.Addr()
	}
	l.serve.Add(1)
	return true
}

func (l *Listener) remove(ln net.Listener) {
	ln.Close()
	l.tracker.remove(ln)
	l.serve.Done()
}

// An acceptor gives go-smtp connections of ours.
type acceptor struct {
	net.Listener
	l *Listener
}

// Accept returns a *conn that is tracked.
func (a acceptor) Accept() (net.Conn, error) {
	raw, err := a.l.tracker.accept(a.Listener)
	if err != nil {
		return nil, err
	}
	c := newConn(a.l.tracker, raw, &a.l.opts.Limits)
	d := &dialogue{c: c}
	c.speaker = d
	d.s = newSession(a.l, c, d)
	open, over := a.l.tracker.track(c)
	switch {
	case !open:
		raw.Close()
		return nil, net.ErrClosed
	case over:
		d.refused = replyTooMany
	}
	return c, nil
}

// stop accepts nothing more.
func (l *Listener) stop() {
	l.gate.drain()
	l.mu.Lock() // add has counted what it took up
	l.tracker.stop()
	l.mu.Unlock()
	if ln := l.opts.Listener; ln != nil {
		ln.Close()
	}
}

// Shutdown ends the Listener without interrupting transactions: it accepts no
// more connections, closes those that are in no transaction with 421 4.3.2, and
// the others when theirs has ended. When ctx is done or
// [Limits.ShutdownTimeout] has passed it closes all that are left, and returns
// the error of the context. In any case it waits for commits in flight, so that no message
// is stored after it has returned, and for hooks, which must heed their context and
// not call it.
// It does not stop the Scheduler.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.stop()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		l.join()
	}()
	if err := l.tracker.shutdown(ctx, l.opts.Limits.ShutdownTimeout, joined); err != nil {
		return fmt.Errorf("smtpserver: Shutdown closed connections that were in a transaction: %w", err)
	}
	return nil
}

// Close ends the Listener at once: it closes all sockets and waits for hooks, which must not call it, and
// for commits in flight, whose clients do not learn of them. What was committed is
// handed to the Scheduler.
func (l *Listener) Close() error {
	l.stop()
	l.tracker.abortAll()
	l.join()
	return nil
}

// join waits for every goroutine: the Serve loops first, so that no connection
// is added, then the connections.
func (l *Listener) join() {
	l.serve.Wait()
	l.joined.Do(func() {
		l.server.Shutdown(context.Background()) // waits; all listeners are closed
	})
	l.tracker.cancel()
}

// errorLog takes what go-smtp has to say.
type errorLog struct{ logger *slog.Logger }

func (e errorLog) Printf(format string, v ...any) {
	e.logger.Warn("smtp server", "message", fmt.Sprintf(format, v...))
}

func (e errorLog) Println(v ...any) { e.logger.Warn("smtp server", "message", fmt.Sprint(v...)) }
