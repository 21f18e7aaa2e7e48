package smtpserver

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func TestHooks(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Hooks: Hooks{
		Connect: func(_ context.Context, s *Session) error {
			s.Meta["seen"] = "connect"
			return nil
		},
		Hello: func(_ context.Context, s *Session) error {
			s.Meta["seen"] += " " + s.Hello
			if s.Hello == "bad.example" {
				return queue.Reject(550, "5.7.1 not you")
			}
			return nil
		},
		Mail: func(_ context.Context, _ *Session, env *spool.Envelope) error {
			if env.Sender == "" {
				return errors.New("secret.example does not answer")
			}
			env.Sender = "rewritten@example.com"
			return nil
		},
		Rcpt: func(_ context.Context, _ *Session, rcpt *spool.Recipient) error {
			rcpt.Address = strings.ToLower(rcpt.Address)
			return nil
		},
	}})
	c := h.dial()
	c.want("220")
	c.cmd("EHLO bad.example", "550 5.7.1 not you")
	c.cmd("MAIL FROM:<>", "503")
	c.cmd("EHLO good.example", "250")
	if got := c.cmd("MAIL FROM:<>", "451 4.3.0"); strings.Contains(got, "secret") {
		t.Errorf("the reply gives the error away: %q", got)
	}
	wantPrefix(t, c.data(plain, "A@EXAMPLE.ORG"), "250")
	m := h.next()
	if m.env.Sender != "rewritten@example.com" || m.env.Recipients[0].Address != "a@example.org" || m.meta["seen"] != "connect bad.example good.example" {
		t.Errorf("message %+v", m)
	}
}

func TestConnectHookRefuses(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Hooks: Hooks{Connect: func(context.Context, *Session) error {
		return queue.Reject(554, "5.7.1 no service")
	}}})
	c := h.dial()
	c.want("554 5.7.1 no service")
	c.ended()
	if r := h.record(queue.Rejection); r.Response.Code != 554 || r.SessionID == "" {
		t.Errorf("record %+v", r)
	}
}

// TestSlowReader: a client that never reads its replies does not stay.
func TestSlowReader(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.send("NOOP\r\n")
		time.Sleep(61 * time.Second) // nobody reads the reply
		if _, err := c.conn.Write([]byte("NOOP\r\n")); !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, net.ErrClosed) {
			h.t.Errorf("the connection is still open: %v", err)
		}
	})
}
