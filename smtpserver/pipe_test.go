package smtpserver

import (
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A pipeListener hands out in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

func (l *pipeListener) dial() net.Conn {
	server, client := net.Pipe()
	l.conns <- server
	return client
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// inBubble runs f in virtual time, with a host that listens in memory.
func inBubble(t *testing.T, opts *Options, f func(h *host, ln *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, ln := newHost(t, opts), newPipeListener()
		h.serveOn(ln)
		f(h, ln)
	})
}

// pipe returns a client that has said EHLO.
func (h *host) pipe(ln *pipeListener) *client {
	h.t.Helper()
	c := newClient(h.t, ln.dial())
	c.conn.SetDeadline(time.Now().Add(24 * time.Hour))
	c.want("220")
	c.cmd("EHLO client.example", "250")
	return c
}

// A flakyListener fails before it accepts.
type flakyListener struct {
	*pipeListener
	errs []error
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.pipeListener.Accept()
}

// TestAcceptErrors: what passes is waited out, other errors end Serve.
func TestAcceptErrors(t *testing.T) {
	inBubble(t, nil, func(h *host, _ *pipeListener) {
		ln := &flakyListener{newPipeListener(), []error{syscall.EMFILE, &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}}}
		h.serveOn(ln)
		begin := time.Now()
		h.pipe(ln.pipeListener)
		if d := time.Since(begin); d != 15*time.Millisecond {
			h.t.Errorf("accepted after %v, want 15ms", d)
		}
		if n := strings.Count(h.logs.String(), "cannot accept connections"); n != 2 {
			h.t.Errorf("%d lines of log, want 2:\n%s", n, h.logs)
		}
		err := h.l.Serve(&flakyListener{newPipeListener(), []error{syscall.EINVAL}})
		if !errors.Is(err, syscall.EINVAL) || errors.Is(err, ErrServerClosed) {
			h.t.Errorf("Serve: %v, want EINVAL", err)
		}
	})
}

// TestEnvelopeParameters: what MAIL and RCPT say stays in the envelope.
func TestEnvelopeParameters(t *testing.T) {
	h := serve(t, nil)
	if h.l.Scheduler() != h.sched {
		t.Error("Scheduler is another one")
	}
	c := h.greeted()
	c.cmd("MAIL FROM:<a@example.com> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By", "250")
	c.cmd("RCPT TO:<b@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c+2Bd@example.org", "250")
	c.cmd("DATA", "354")
	c.send(plain + ".\r\n")
	c.want("250")
	env := h.next().env
	if env.Body != "8BITMIME" || !env.SMTPUTF8 || env.Ret != "HDRS" || env.EnvID != "x+y" {
		t.Errorf("envelope %+v", env)
	}
	rcpt := env.Recipients[0]
	if strings.Join(rcpt.Notify, ",") != "SUCCESS,FAILURE" || !strings.EqualFold(rcpt.ORcpt, "rfc822;c+d@example.org") {
		t.Errorf("recipient %+v", rcpt)
	}
}

// TestRejectionRecord: what go-smtp refuses by itself is recorded too.
func TestRejectionRecord(t *testing.T) {
	h := serve(t, nil)
	h.greeted().cmd("MAIL FROM:nonsense", "501 5.5.2")
	r := h.record(queue.Rejection)
	if r.Response.Code != 501 || r.Response.Enhanced != [3]int{5, 5, 2} || r.Response.Command != "MAIL FROM:nonsense" ||
		r.PeerAddress.Addr != "127.0.0.1" || r.SessionID == "" || r.NodeID == "" || r.Time.IsZero() {
		t.Errorf("record %+v", r)
	}
}
