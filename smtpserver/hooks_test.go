package smtpserver

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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

// FuzzSession sends anything. No session hangs, and what is injected is what was
// answered with 250.
func FuzzSession(f *testing.F) {
	const envelope = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"
	for _, s := range []string{
		envelope + "DATA\r\n" + plain + ".\r\nQUIT\r\n",
		envelope + "DATA\r\na\n.\r\n\r\n.\r\n",
		envelope + "BDAT 3\r\na\r\nRSET\r\n" + envelope[7:] + "BDAT 3 LAST\r\nb\r\nQUIT\r\n",
		envelope + "BDAT 10 LAST\r\nhalf",
		envelope + "DATA\r\nhalf\r\n.",
		"AUTH PLAIN\r\nSTARTTLS\r\nVRFY x\r\nHELP\r\nBDAT x\r\n",
	} {
		f.Add([]byte(s))
	}
	h := serve(f, &Options{DeferredQueue: true, Limits: Limits{MessageSize: 1000, Recipients: 3}})
	f.Fuzz(func(t *testing.T, in []byte) {
		conn, err := net.Dial("tcp", h.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			conn.Write(in) // fails if the server ends the session
			conn.(*net.TCPConn).CloseWrite()
		}()
		replies, err := io.ReadAll(conn)
		<-sent
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%q: the session hangs behind %q", in, replies)
		}
		accepted := countIDs(string(replies))
		for range accepted {
			select {
			case <-h.got:
			case <-time.After(patience):
				t.Fatalf("%q: a message that was answered with 250 is not injected", in)
			}
		}
		select {
		case m := <-h.got:
			if err == nil { // else a reply may be lost
				t.Errorf("%q: more was injected than the %d answered with 250: %q", in, accepted, m.content)
			}
		default:
		}
	})
}

// countIDs counts the messages that replies name.
func countIDs(replies string) (n int) {
	for line := range strings.Lines(replies) {
		if _, ids, ok := strings.Cut(line, "250 2.0.0 OK ids="); ok {
			n += len(strings.Fields(ids))
		}
	}
	return n
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
