package smtpserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// This file is about connections that end, and servers that have limits.

// rest returns all that the server still says, to the end of the connection.
func (c *client) rest() string {
	c.t.Helper()
	all, err := io.ReadAll(c.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Errorf("the connection is still open behind %q", all)
	}
	return string(all)
}

// commands is what a message could hold for a server that takes its content for
// commands.
const commands = "\r\nNOOP\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nBDAT 3 LAST\r\nx\r\nDATA\r\nevil\r\n.\r\n"

// TestWrapStalled: what is left of content that did not arrive in time is not
// executed, though go-smtp goes on reading.
func TestWrapStalled(t *testing.T) {
	const timeout = time.Second // in which what comes before has to be done, too
	opts := Options{Limits: Limits{ClientTimeout: timeout}}
	configure := func(s *smtp.Server) { s.ReadTimeout = timeout }
	begins := []string{"DATA\r\n", "BDAT 1000\r\n", "BDAT 1000 LAST\r\n", "BDAT 2\r\n\r\nBDAT 1000\r\n"}
	if testing.Short() {
		begins = []string{begins[0], begins[3]}
		t.Log("short form: two ways to begin the content of four")
	}
	for _, begin := range begins {
		t.Run(begin, func(t *testing.T) {
			eachWrapping(t, wrapping{opts: opts, configure: configure}, func(t *testing.T, h *host, w *wrapping) {
				t.Parallel()
				c := w.connect(h)
				c.envelope("a@example.org")
				c.send(begin + "Subject: slow\r\n")
				reply := ""
				for !strings.HasPrefix(reply, "4") && !strings.HasPrefix(reply, "5") {
					var err error
					if reply, err = c.reply(); err != nil {
						t.Fatalf("the connection ended behind %q: %v", reply, err)
					}
				}
				io.WriteString(c.conn, commands) // an error is the end, too
				for _, line := range strings.Split(c.rest(), "\r\n") {
					if strings.HasPrefix(line, "2") || strings.HasPrefix(line, "3") {
						t.Errorf("behind %q: %q", reply, line)
					}
				}
				c.conn.Close()
				w.stop()
				h.stopScheduler()
				h.nothing()
			})
		})
	}
}

// TestWrapOverdue: ProcessingTimeout and the grace bound the wait for the reply,
// and what is stored later is removed.
func TestWrapOverdue(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, send := range []string{"DATA\r\n" + plain + ".\r\n", "BDAT 4 LAST\r\nab\r\n"} {
			gate := &gatedSpool{}
			w := wrapping{lmtp: lmtp, opts: Options{Limits: Limits{ProcessingTimeout: 10 * time.Millisecond}}}
			eachWrappingOn(t, gate.begin, w, func(t *testing.T, h *host, w *wrapping) {
				w.deferring.grace = time.Millisecond
				c := w.connect(h)
				c.envelope("a@example.org", "b@example.org")
				c.send(send)
				if send[0] == 'D' {
					c.want("354")
				}
				want := 1
				if lmtp {
					want = 2
				}
				if got := strings.Count(c.rest(), "451 4.4.5 "); got != want {
					t.Errorf("%d replies, want %d", got, want)
				}
				close(gate.open)
				w.stop()
				h.stopScheduler()
				h.nothing()
			})
		}
	}
}

// A gatedSpool stores mail that is received when its gate is open.
type gatedSpool struct {
	*spool.Memory
	open chan struct{}
}

// begin makes it another spool, whose gate is closed.
func (g *gatedSpool) begin() (spool.Spool, *spool.Memory) {
	g.Memory, g.open = spool.NewMemory(), make(chan struct{})
	return g, g.Memory
}

func (g *gatedSpool) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := g.Memory.Create(ctx, size)
	return gatedWriter{w, g.open}, err
}

type gatedWriter struct {
	spool.Writer
	open chan struct{}
}

func (w gatedWriter) Commit(ctx context.Context, entries ...*spool.Entry) error {
	<-w.open
	return w.Writer.Commit(ctx, entries...)
}

// TestWrapContext: what waits for a connection ends with it.
func TestWrapContext(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		w.connect(h).cmd("QUIT", "221")
		w.connect(h).conn.Close()
		for range w.sessions(t) {
			select {
			case s := <-w.made:
				select {
				case <-s.link.context().Done():
				case <-time.After(patience):
					t.Error("the context of a connection that ended goes on")
				}
			case <-time.After(patience):
				t.Fatal("too few sessions")
			}
		}
	})
}

// sessions is how many the two connections of TestWrapContext make.
func (w *wrapping) sessions(t *testing.T) int {
	t.Helper()
	if w.starttls {
		return 4
	}
	return 2
}

// TestWrapServerLimits: the limits of the server hold, and are refusals.
func TestWrapServerLimits(t *testing.T) {
	configure := func(s *smtp.Server) { s.MaxMessageBytes, s.MaxLineLength, s.MaxRecipients = 5000, 1500, 2 }
	eachWrapping(t, wrapping{opts: Options{Limits: Limits{LineLength: -1}}, configure: configure}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.cmd("MAIL FROM:<a@example.com> SIZE=5001", "552 5.3.4")
		c.envelope("a@example.org", "b@example.org")
		c.cmd("RCPT TO:<c@example.org>", "452 4.5.3")
		c.cmd("RSET", "250")
		wantPrefix(t, c.data(strings.Repeat("12345678\r\n", 501), "a@example.org"), "552 5.3.4")
		wantPrefix(t, c.data(strings.Repeat("12345678\r\n", 499), "a@example.org"), "250")
		h.next()
		c.envelope("a@example.org")
		c.send("BDAT 3000\r\n" + strings.Repeat("12345678\r\n", 300))
		c.want("250")
		c.send("BDAT 3000 LAST\r\n" + strings.Repeat("12345678\r\n", 300))
		c.want("552 5.3.4")
		c.cmd("NOOP", "250")
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		c.send(strings.Repeat("x", 4000) + "\r\n.\r\n")
		switch reply, _ := c.reply(); {
		case strings.HasPrefix(reply, "250") && w.listener && !w.starttls && !w.tls:
			h.next() // content does not pass go-smtp
		case !strings.HasPrefix(reply, "500 5.6.0 Line too long"):
			t.Errorf("a line that is too long for go-smtp: %q", reply)
		}
		h.stopScheduler()
		h.nothing()
	})
}

// TestWrapServerSize: a server that takes more than the default, or whatever comes,
// takes it.
func TestWrapServerSize(t *testing.T) {
	const more = 21 << 20
	for _, test := range []struct{ own, server, want int64 }{
		{0, more, more}, {-1, more, more}, {1000, more, 1000}, {0, 0, 0}, {-1, 0, 0}, {1000, 0, 1000},
	} {
		opts := Options{Limits: Limits{MessageSize: test.own}}
		eachWrapping(t, wrapping{opts: opts, configure: func(s *smtp.Server) { s.MaxMessageBytes = test.server }}, func(t *testing.T, h *host, w *wrapping) {
			w.connect(h)
			if got := w.deferring.options(w.server).Limits.MessageSize; got != test.want {
				t.Errorf("MessageSize %d and a server's of %d give %d, want %d", test.own, test.server, got, test.want)
			}
		})
	}
}

// TestWrapAnySize: what is beyond the default comes through, if nobody limits it.
func TestWrapAnySize(t *testing.T) {
	w := wrappings[0]
	w.configure = func(s *smtp.Server) { s.MaxMessageBytes = 0 }
	h := newHost(t, nil)
	w.start(h)
	c := w.connect(h)
	c.envelope("a@example.org")
	c.cmd("DATA", "354")
	for range 21 {
		c.send(strings.Repeat(strings.Repeat("x", 62)+"\r\n", 1<<14))
	}
	c.send(".\r\n")
	c.want("250")
}

// TestWrapRefusedChunks: a temporary refusal stays one for a BDAT that goes on
// for longer than is borne.
func TestWrapRefusedChunks(t *testing.T) {
	eachWrapping(t, wrapping{lmtp: true, opts: Options{Limits: Limits{MessageSize: -1}}}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.envelope("a@example.org", "b@example.org")
		h.sp.SetFull(true)
		const size = 3 << 20
		go func() {
			io.WriteString(c.conn, "BDAT 3145728\r\n")
			io.WriteString(c.conn, strings.Repeat("12345678\r\n", size/10+1)[:size])
		}()
		c.want("452 4.3.1")
		w.stop()
		h.sp.SetFull(false)
		h.stopScheduler()
		h.nothing()
	})
}

// TestWrapBinary: BINARYMIME is what the server offers it to be.
func TestWrapBinary(t *testing.T) {
	eachWrapping(t, wrapping{configure: func(s *smtp.Server) { s.EnableBINARYMIME = true }}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		content := "Subject: x\r\n\r\na\nb\rc\x00" + strings.Repeat("y", 500)
		c.cmd("MAIL FROM:<a@example.com> BODY=BINARYMIME", "250")
		c.cmd("RCPT TO:<b@example.org>", "250")
		if reply := c.cmd("DATA", "50"); reply[2] != '2' && reply[2] != '3' {
			t.Errorf("DATA with BINARYMIME: %q", reply)
		}
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
		c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != content || m.env.Body != "BINARYMIME" {
			t.Errorf("message %q", m.body())
		}
		c.envelope("b@example.org")
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content))
		c.want("552 5.6.0")
	})
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		w.connect(h).cmd("MAIL FROM:<a@example.com> BODY=BINARYMIME", "504")
	})
}

// TestWrapCloseChunks: a client that goes away in the middle of a BDAT leaves
// nothing behind, goroutines neither. (Close of a go-smtp server is not for then:
// it races with its own BDAT.)
func TestWrapCloseChunks(t *testing.T) {
	for _, begin := range []string{"BDAT 1000\r\nhalf", "BDAT 4\r\nhalf", "BDAT 4 LAST\r\nhalf"} {
		eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
			c := w.connect(h)
			c.envelope("a@example.org")
			c.send(begin)
			c.conn.Close()
			awaitNone(t, "smtp.(*Server).handleConn")
			w.stop()
			awaitNone(t, "smtpserver.(*wrapped)")
			h.stopScheduler()
			stored := len(h.got)
			for range h.sp.Scan(context.Background(), spool.Query{}) {
				stored++
			}
			if stored > 0 && !strings.Contains(begin, "LAST") || stored > 1 {
				t.Errorf("%q: %d messages", begin, stored)
			}
		})
	}
}

// awaitNone waits until no goroutine is in a function of that name.
func awaitNone(t *testing.T, name string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, name) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a goroutine is still in %s:\n%s", name, stacks)
		}
	}
}

// TestWrapTwoServers: one backend serves several servers, each with its own ways.
func TestWrapTwoServers(t *testing.T) {
	h := newHost(t, nil)
	first := &wrapping{name: "SMTP", configure: func(s *smtp.Server) { s.MaxMessageBytes = 100 }}
	first.start(h)
	second := &wrapping{name: "LMTP", listener: true, lmtp: true, configure: func(s *smtp.Server) { s.Backend = first.server.Backend }}
	second.start(h)
	a, b := first.connect(h), second.connect(h)
	long := strings.Repeat("12345678\r\n", 20)
	wantPrefix(t, a.data(long, "a@example.org"), "552 5.3.4")
	wantPrefix(t, b.data(long, "b@example.org"), "250 2.0.0 <b@example.org> OK")
	if m := h.next(); m.meta["reception_protocol"] != "LMTP" {
		t.Errorf("metadata %v", m.meta)
	}
	wantPrefix(t, a.data(plain, "a@example.org"), "250 2.0.0 OK")
	if m := h.next(); m.meta["reception_protocol"] != "ESMTP" {
		t.Errorf("metadata %v", m.meta)
	}
	if r := h.record(queue.Rejection); r.Response.Code != 552 {
		t.Errorf("record %+v", r)
	}
}
