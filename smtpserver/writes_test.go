package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A countedConn counts the writes of the server.
type countedConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestRepliesCollected: what is pipelined is answered in one write.
func TestRepliesCollected(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		server, conn := net.Pipe()
		var writes atomic.Int32
		ln.conns <- countedConn{server, &writes}
		c := newClient(h.t, conn)
		conn.SetDeadline(time.Now().Add(time.Hour))
		c.want("220")
		for _, group := range []struct {
			lines string
			want  []string
		}{
			{"EHLO client.example\r\n", []string{"250"}},
			{"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n", []string{"250", "250", "250", "354"}},
			{plain + ".\r\n", []string{"250 2.0.0 OK ids="}},
			{"NOOP\r\nVRFY x\r\nNONSENSE\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRSET\r\n", []string{"250", "252", "500", "250", "250", "250", "250"}},
			{"NOOP\r\nQUIT\r\n", []string{"250", "221"}},
		} {
			writes.Store(0)
			c.send(group.lines)
			for _, prefix := range group.want {
				c.want(prefix)
			}
			if n := writes.Load(); n != 1 {
				h.t.Errorf("%q is answered in %d writes, want 1", group.lines, n)
			}
		}
		c.ended()
	})
}

// TestRepliesNotHeldBack: a slow function of the host's does not keep the replies to
// what came before.
func TestRepliesNotHeldBack(t *testing.T) {
	const slow = 10 * time.Second
	wait := func(ctx context.Context) error {
		select {
		case <-time.After(slow):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	inBubble(t, &Options{DeferredQueue: true, Hooks: Hooks{
		Rcpt: func(ctx context.Context, _ *Session, _ *spool.Recipient) error { return wait(ctx) },
	}, Auth: Auth{AllowPlaintext: true, Password: func(ctx context.Context, _ *Session, _, _, _ string) error { return wait(ctx) }}}, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		for _, group := range []struct{ lines, first, second string }{
			{"NOOP\r\nAUTH PLAIN AHgAeA==\r\n", "250", "235"},
			{"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n", "250", "250"},
		} {
			begin := time.Now()
			c.send(group.lines)
			c.want(group.first)
			if d := time.Since(begin); d > maxReplyDelay {
				h.t.Errorf("%q: the first reply came after %v, want %v", group.lines, d, maxReplyDelay)
			}
			c.want(group.second)
			if d := time.Since(begin); d != slow {
				h.t.Errorf("%q: the second reply came after %v, want %v", group.lines, d, slow)
			}
		}
	})
}

// TestLinger: a client that is still sending can do so, and reads why the connection ends.
func TestLinger(t *testing.T) {
	cert, pool := certificate(t)
	const flood = 512 << 10
	for name, tt := range map[string]struct{ first, more, reply string }{
		"too many errors": {"", "NONSENSE\r\n", "421 4.7.0"},
		"endless line":    {"NOOP ", "x", "500 5.5.2"},
		"endless chunk":   {"BDAT x\r\n", "x", "501 5.5.4"},
	} {
		for _, secure := range []bool{false, true} {
			opts := &Options{DeferredQueue: true}
			if secure {
				opts.TLS = TLS{Implicit: true, Config: &tls.Config{Certificates: []tls.Certificate{cert}}}
			}
			h := serve(t, opts)
			c := h.dial()
			if secure {
				c = newClient(t, tls.Client(c.conn, &tls.Config{RootCAs: pool, ServerName: "mx.example.com"}))
			}
			c.want("220")
			c.cmd("EHLO client.example", "250")
			c.send(tt.first)
			for sent := 0; sent < flood; sent += 32 << 10 {
				if _, err := io.WriteString(c.conn, strings.Repeat(tt.more, (32<<10)/len(tt.more))); err != nil {
					t.Fatalf("%s, TLS %v: sending failed behind %d octets: %v", name, secure, sent, err)
				}
			}
			all, err := io.ReadAll(c.r)
			lines := strings.SplitAfter(strings.TrimSuffix(string(all), "\r\n"), "\r\n")
			if err != nil || !strings.HasPrefix(lines[len(lines)-1], tt.reply) {
				t.Errorf("%s, TLS %v: the last line is %q, %v; want %s", name, secure, lines[len(lines)-1], err, tt.reply)
			}
		}
	}
}

// TestSlowLine: a command line has to come within ClientTimeout as a whole.
func TestSlowLine(t *testing.T) {
	for _, secure := range []string{"", "AUTH LOGIN"} { // a command, and a response to a challenge
		inBubble(t, &Options{DeferredQueue: true, Auth: passwords}, func(h *host, ln *pipeListener) {
			c := h.pipe(ln)
			if secure != "" {
				c.cmd(secure, "334")
			}
			time.Sleep(59 * time.Second)
			begin, done := time.Now(), make(chan struct{})
			go func() {
				defer close(done)
				for {
					if _, err := io.WriteString(c.conn, "x"); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			c.want("421 4.4.2")
			if d := time.Since(begin); d != time.Minute {
				h.t.Errorf("timeout after %v, want 1m", d)
			}
			<-done
		})
	}
}

// TestHookCodes: a verdict of the host's is the reply as it is, whatever go-smtp
// means by its code.
func TestHookCodes(t *testing.T) {
	for _, verdict := range []string{"502 5.5.1", "500 5.5.2", "504 5.5.4", "454 4.7.0", "555 5.5.4", "550 5.7.1"} {
		code, text, _ := strings.Cut(verdict, " ")
		var at atomic.Value
		at.Store("")
		refuse := func(where string) error {
			if at.Load() != where {
				return nil
			}
			n := 0
			for _, c := range code {
				n = 10*n + int(c-'0')
			}
			return queue.Reject(n, "%s says the host", text)
		}
		h := serve(t, &Options{DeferredQueue: true, Proxy: Proxy{XClient: []netip.Prefix{loopbackNet}},
			Auth: Auth{AllowPlaintext: true, Password: func(context.Context, *Session, string, string, string) error { return refuse("password") }},
			Hooks: Hooks{
				Connect: func(context.Context, *Session) error { return refuse("connect") },
				Hello:   func(context.Context, *Session) error { return refuse("hello") },
				Mail:    func(context.Context, *Session, *spool.Envelope) error { return refuse("mail") },
				Rcpt:    func(context.Context, *Session, *spool.Recipient) error { return refuse("rcpt") },
			}})
		c, want := h.greeted(), verdict+" says the host\r\n"
		for _, step := range []struct{ at, line, reply string }{
			{"hello", "EHLO x", "250"}, {"password", "AUTH PLAIN AHgAeA==", ""},
			{"mail", "MAIL FROM:<>", "250"}, {"rcpt", "RCPT TO:<a@b.example>", "250"},
		} {
			at.Store(step.at)
			c.cmd(step.line, want)
			if at.Store(""); step.reply != "" {
				c.cmd(step.line, step.reply)
			}
		}
		c.cmd("RSET", "250")
		at.Store("connect")
		c.cmd("XCLIENT PORT=1", want)
		c.ended()
	}
}

// TestErrorsBehindRefusals: who pipelines does not know yet.
func TestErrorsBehindRefusals(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Limits: Limits{Errors: 2}, Hooks: Hooks{
		Mail: func(_ context.Context, _ *Session, env *spool.Envelope) error {
			if env.Sender == "later@example.com" {
				return errors.New("later")
			}
			return nil
		},
		Rcpt: func(context.Context, *Session, *spool.Recipient) error { return queue.Reject(450, "4.2.0 greylisted") },
	}})
	c := h.greeted()
	for range 10 {
		c.send("MAIL FROM:<later@example.com>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nRSET\r\n")
		for _, want := range []string{"451", "503 5.5.1", "503 5.5.1", "250"} {
			c.want(want)
		}
		c.send("MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<b@b.example>\r\nBDAT 1 LAST\r\nxRSET\r\n")
		for _, want := range []string{"250", "450 4.2.0", "450 4.2.0", "503 5.5.1", "250"} {
			c.want(want)
		}
	}
	c.cmd("DATA", "503") // behind nothing
	c.cmd("RCPT TO:<a@b.example>", "503")
	c.cmd("NONSENSE", "500")
	c.want("421 4.7.0")
	c.ended()
}

// TestRejectedRecipient: the record of a RCPT is about that recipient alone, that of
// DATA about all.
func TestRejectedRecipient(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Limits: Limits{Recipients: 2}})
	c := h.greeted()
	c.envelope("a@example.org", "b@example.org")
	for line, want := range map[string]string{
		"RCPT TO:<c@example.org> NOTIFY=NEVER": "c@example.org", `RCPT TO:<"> "@example.org>`: `"> "@example.org`,
		"rcpt to: d@example.org": "d@example.org", "DATA x": "a@example.org b@example.org",
	} {
		c.send(line + "\r\n")
		if got, err := c.reply(); err != nil || got[0] < '4' {
			t.Fatalf("reply %q, %v", got, err)
		}
		if r := h.record(queue.Rejection); strings.Join(r.Recipients, " ") != want || r.Sender != "sender@example.com" {
			t.Errorf("%s: record about %q from %s, want %s", line, r.Recipients, r.Sender, want)
		}
	}
}
