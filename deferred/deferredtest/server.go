package deferredtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/internal/pipenet"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A Server is a host in memory: a listener and a running scheduler. It stops by
// itself at the end of the test. Its methods are safe for concurrent use, by
// goroutines of the bubble that it was started in.
type Server struct {
	// Spool is where messages are stored, to look into and to make fail. It is
	// nil if the Scheduler given to Serve works on a spool of another kind.
	Spool *spool.Memory

	t        testing.TB
	sched    *queue.Scheduler
	ln       *pipenet.Listener
	lmtp     bool
	recorder Recorder      // what the Scheduler recorded
	resting  chan struct{} // who has put something in calls synctest.Wait; a mutex would keep it from returning
	stopped  chan struct{} // closed when deferred.Run has returned
	err      error         // what it returned; valid once stopped
}

// Start runs inject as a host does that has no other handlers: a message whose
// callback succeeded without naming a queue is done. nil opts are DeferredQueue
// true and the defaults; other opts are taken as they are. Addr and Listener are
// not used.
//
// The scheduler has the defaults of package queue, but its delays have no jitter:
// the first retries come after exactly 1, 2 and 4 minutes. What Hostname and
// Logger leave open is "localhost" and the log of the test. For anything else
// make a Scheduler and call Serve.
//
// Start must be called inside synctest.Test, elsewhere it fails the test. At the
// end of the test everything stops, as it does in a host; a callback that ignores
// its context then keeps the bubble from ending.
func Start(t testing.TB, inject deferred.Handler, opts *deferred.Options) *Server {
	t.Helper()
	requireBubble(t, "Start")
	sp := spool.NewMemory()
	sched, err := queue.NewScheduler(sp, inject, &queue.Options{
		Record:    func(context.Context, queue.Record) error { return nil }, // Records has them
		Configure: func(string) queue.Config { return queue.Config{Backoff: queue.Backoff{Jitter: -1}} },
		Logger:    testLogger(t),
	})
	if err != nil {
		t.Fatalf("deferredtest: Start: %v", err)
	}
	t.Cleanup(func() { sp.Close() })
	return serve(t, sched, opts)
}

// Serve is Start for a Scheduler of the test's own, which must not run yet:
// with handlers for the queues that messages are rebound to, with a Record
// function, with other delays. Serve runs it; its spool stays the test's.
func Serve(t testing.TB, s *queue.Scheduler, opts *deferred.Options) *Server {
	t.Helper()
	requireBubble(t, "Serve")
	return serve(t, s, opts)
}

func serve(t testing.TB, sched *queue.Scheduler, opts *deferred.Options) *Server {
	t.Helper()
	if sched == nil {
		t.Fatal("deferredtest: Serve: the Scheduler is nil: make one with queue.NewScheduler")
	}
	s := new(Server)
	s.Spool, _ = sched.Spool().(*spool.Memory)
	if err := sched.Observe(func(r queue.Record) { s.recorder.Record(context.Background(), r) }); err != nil {
		t.Fatalf("deferredtest: Serve: %v", err)
	}
	s.run(t, sched, opts)
	return s
}

func (s *Server) run(t testing.TB, sched *queue.Scheduler, opts *deferred.Options) {
	t.Helper()
	o := deferred.Options{DeferredQueue: true}
	if opts != nil {
		o = *opts
	}
	s.t, s.sched, s.ln, s.lmtp = t, sched, pipenet.Listen(2525), o.LMTP
	s.resting, s.stopped = make(chan struct{}, 1), make(chan struct{})
	o.Listener = s.ln
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Logger == nil {
		o.Logger = testLogger(t)
	}
	l, err := deferred.NewListener(sched, &o)
	if err != nil {
		t.Fatalf("deferredtest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(s.stopped)
		s.err = deferred.Run(ctx, l)
	}()
	stop := func() {
		cancel()
		<-s.stopped
	}
	t.Cleanup(stop)
	s.rest()
	select {
	case <-s.stopped:
		t.Fatalf("deferredtest: the server did not start: %v", s.err)
	default:
	}
	t.Cleanup(func() {
		stop()
		s.checkEnd()
	})
}

// checkEnd fails the test if the server ended by an error that is not one which
// only the test can have caused, by making its spool fail.
func (s *Server) checkEnd() {
	switch {
	case s.err == nil:
	case errors.Is(s.err, spool.ErrFailed), errors.Is(s.err, spool.ErrFenced), errors.Is(s.err, spool.ErrClosed):
		s.t.Logf("deferredtest: the server stopped during the test: %v", s.err)
	default:
		s.t.Errorf("deferredtest: the server stopped during the test: %v", s.err)
	}
}

// Send sends msg by SMTP, or LMTP with Options.LMTP, and returns once the reply
// is there and everything is at rest: callbacks have run, and what failed waits
// for its next attempt. Lines of msg that end with \n alone get CRLF.
//
// The error is the first refusal of the server, a *smtp.SMTPError of go-smtp; by
// LMTP after the content a smtp.LMTPDataError with one for each recipient that was
// refused. Nothing was sent when a recipient is refused at RCPT. Send does not
// authenticate and does not start TLS: see Dial.
//
// A callback that waits takes virtual time; what it waits for comes with Advance.
func (s *Server) Send(from string, to []string, msg string) error {
	defer s.rest()
	conn, err := s.Dial()
	if err != nil {
		return err
	}
	newClient := smtp.NewClient
	if s.lmtp {
		newClient = smtp.NewClientLMTP
	}
	c := newClient(conn)
	defer c.Close()
	if err := c.SendMail(from, to, strings.NewReader(msg)); err != nil {
		return err
	}
	_ = c.Quit() // the message was accepted, whatever comes of this
	return nil
}

// Dial opens a connection to the server, for what Send does not do: AUTH, TLS,
// extensions, a client that misbehaves. The greeting has not been read. It is
// a pipe without a buffer: a Write waits until the server reads it. The caller
// closes it.
func (s *Server) Dial() (net.Conn, error) {
	conn, err := s.ln.Dial()
	if err != nil {
		<-s.stopped
		return nil, fmt.Errorf("deferredtest: the server has stopped: %w", errors.Join(s.err, err))
	}
	return conn, nil
}

// Advance lets d of virtual time pass, with all that falls due in it, and
// returns when everything is at rest, what falls due at the end of d included.
// 0 only waits for that. A negative d fails the test.
//
// What the test did before Advance happens before the callbacks that run in it,
// and these before what follows it, in the sense of the memory model: a plain
// variable may carry what they say to each other.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	if d < 0 {
		s.t.Fatalf("deferredtest: Advance(%v): time cannot go back", d)
	}
	s.sched.Stats() // passes the lock under which handlers are started; a timer orders nothing
	time.Sleep(d)
	s.rest()
}

// Records returns the records of these types that were taken so far, all if
// none is given, as [Recorder.Records] does.
func (s *Server) Records(types ...queue.RecordType) []queue.Record {
	return s.recorder.Records(types...)
}

// Scheduler returns the Scheduler that the server runs, for its Stats and for
// Submit.
func (s *Server) Scheduler() *queue.Scheduler { return s.sched }

// rest waits until every other goroutine of the bubble waits for something that
// does not come without time or the test.
func (s *Server) rest() {
	s.resting <- struct{}{}
	defer func() { <-s.resting }()
	synctest.Wait()
}

// requireBubble fails the test unless it is called inside synctest.Test.
func requireBubble(t testing.TB, name string) {
	t.Helper()
	if !inBubble() {
		t.Fatalf("deferredtest: %s must be called inside synctest.Test, so that time is virtual: "+
			"synctest.Test(t, func(t *testing.T) { srv := deferredtest.%s(t, ...) })", name, name)
	}
}

// inBubble reports whether the caller is in a bubble, outside of which
// synctest.Wait panics.
func inBubble() (in bool) {
	defer func() { in = recover() == nil }()
	synctest.Wait()
	return true
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
