package smtpserver

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// TestRefusedInPart: under LMTP the 250 to one recipient is heard, whatever was
// said of another before.
func TestRefusedInPart(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		reply string
		limit int // of errors
		end   string
	}{
		"too many errors": {queue.Reject(504, "5.5.4 not here"), "504 5.5.4", 1, "421 4.7.0"},
		"421":             {queue.Reject(421, "4.3.2 later"), "421 4.3.2", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, &Options{LMTP: true, Limits: Limits{Errors: tt.limit}})
			h.setInject(func(_ context.Context, m *queue.Message) error {
				if m.Envelope.Recipients[0].Address == "a@example.org" {
					return tt.err
				}
				return nil
			})
			c := h.dial()
			c.want("220")
			c.cmd("LHLO client.example", "250")
			c.cmd("NONSENSE", "500")
			c.envelope("a@example.org", "b@example.org", "c@example.org")
			c.cmd("DATA", "354")
			c.send(plain + ".\r\nNOOP\r\n")
			c.want(tt.reply)
			c.want("250 2.0.0 <b@example.org>")
			c.want("250 2.0.0 <c@example.org>")
			if tt.end != "" {
				c.want(tt.end)
			}
			c.ended()
			h.next()
			h.next()
		})
	}
}

// TestLongReplyToRecipient: a reply line is bounded whatever it is made of.
func TestLongReplyToRecipient(t *testing.T) {
	h := serve(t, &Options{LMTP: true})
	h.setInject(func(context.Context, *queue.Message) error {
		return queue.Reject(550, "5.1.1 %s", strings.Repeat("x", 600))
	})
	c := h.dial()
	c.want("220")
	c.cmd("LHLO client.example", "250")
	label := strings.Repeat("d", 60)
	got := c.data(plain, "a@"+label+"."+label+"."+label+".example")
	if !strings.HasPrefix(got, "550 5.1.1 <a@"+label) || !strings.HasSuffix(got, "xxx\r\n") || len(got) > maxReply {
		t.Errorf("%d octets: %q, want at most %d", len(got), got, maxReply)
	}
	c.cmd("NOOP", "250")
}

// A stalledSpool stores nothing, and says that its context was cancelled.
type stalledSpool struct{ *spool.Memory }

func (stalledSpool) Apply(ctx context.Context, units ...spool.Unit) []error {
	<-ctx.Done()
	return slices.Repeat([]error{context.Canceled}, len(units))
}

// TestInlineProcessingTimeout: the watchdog is no shutdown, whoever is first to
// see that time is up.
func TestInlineProcessingTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ln := newHostOn(t, stalledSpool{spool.NewMemory()}, &Options{}), newPipeListener()
		h.setInject(func(context.Context, *queue.Message) error { return queue.Hold("wait") })
		h.serveOn(ln)
		synctest.Wait() // the Scheduler runs
		c := h.pipe(ln)
		wantPrefix(t, c.data(plain, "a@example.org"), "451 4.4.5")
		c.cmd("NOOP", "250")
	})
}

// A hookedLog calls a function for each line.
type hookedLog struct {
	slog.Handler
	f func(msg string)
}

func (l hookedLog) Handle(ctx context.Context, r slog.Record) error {
	l.f(r.Message)
	return l.Handler.Handle(ctx, r)
}

func (l hookedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return hookedLog{l.Handler.WithAttrs(attrs), l.f}
}

// TestOverdueAnswersOnce: what is said of a message that took too long is not said
// of the next one.
func TestOverdueAnswersOnce(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		h.l.opts.Logger = slog.New(hookedLog{h.l.opts.Logger.Handler(), func(msg string) {
			if strings.Contains(msg, "too long to store") {
				time.Sleep(time.Minute)
			}
		}})
		c := h.pipe(ln)
		c.envelope("a@example.org")
		h.sp.SetDelay(5*time.Minute + 31*time.Second)
		c.cmd("DATA", "354")
		c.send(plain + ".\r\n")
		begin := time.Now()
		c.want("451 4.4.5")
		if d := time.Since(begin); d != 5*time.Minute+30*time.Second {
			t.Errorf("answered after %v, want 5m30s", d)
		}
		h.sp.SetDelay(0) // for the removal
		c.ended()
		h.l.Close()
		h.nothing()
	})
}

// TestCredentialsAsCommands: what a client sends behind a command that was
// refused, not knowing that, is neither logged nor recorded.
func TestCredentialsAsCommands(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("secret password"))
	for name, lines := range map[string][]string{
		"AUTH": {"AUTH LOGIN", secret, secret},
		"tab":  {"AUTH\tPLAIN\t" + secret, " AUTH PLAIN " + secret},
		"DATA": {"DATA", secret, "Mail " + secret, "Rcpt " + secret, "Help " + secret, "Data " + secret},
	} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, nil)
			c := h.greeted()
			c.send(strings.Join(lines, "\r\n") + "\r\n")
			for range lines {
				c.want("50")
				if r := h.record(queue.Rejection); strings.Contains(r.Response.Command, secret) {
					t.Errorf("recorded: %q", r.Response.Command)
				}
			}
			if strings.Contains(h.logs.String(), secret) {
				t.Errorf("logged:\n%s", h.logs)
			}
		})
	}
}

// TestMalformedChunkCommand: no chunk is read as commands, however its command is
// spoiled.
func TestMalformedChunkCommand(t *testing.T) {
	for _, cmd := range []string{"BDAT 6\x01 LAST", "BDAT\t6 LAST", "bdat\r6 LAST", " BDAT 6 LAST", "BDAT6 LAST", "BDAT 6 FIRST", "BDAT -6"} {
		t.Run(fmt.Sprintf("%q", cmd), func(t *testing.T) {
			h := serve(t, nil)
			c := h.greeted()
			c.envelope("a@example.org")
			c.send(cmd + "\r\nNOOP\r\n")
			c.want("501 5.5.4 Malformed BDAT, closing connection")
			c.ended()
			h.nothing()
		})
	}
}

// TestLongParameters: what is kept of an envelope is bounded.
func TestLongParameters(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	long := strings.Repeat("x", maxParameter+1)
	c.cmd("MAIL FROM:<a@example.com> ENVID="+long, "501 5.5.4 ENVID is too long")
	c.cmd("MAIL FROM:<a@example.com> ENVID="+long[1:], "250")
	c.cmd("RCPT TO:<b@example.org> ORCPT=rfc822;"+long, "501 5.5.4 Malformed ORCPT")
	c.cmd("RCPT TO:<b@example.org> ORCPT=rfc822;"+long[len("rfc822;")+1:], "250")
}

// A panickingSpool does not stand being written to.
type panickingSpool struct {
	*spool.Memory
	aborted chan struct{}
}

type panickingWriter struct {
	spool.Writer
	aborted chan struct{}
}

func (s panickingSpool) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := s.Memory.Create(ctx, size)
	return panickingWriter{w, s.aborted}, err
}

func (panickingWriter) Write([]byte) (int, error) { panic("written to") }

func (w panickingWriter) Abort() error {
	close(w.aborted)
	return w.Writer.Abort()
}

// TestPanicInContent: what was staged is discarded, once.
func TestPanicInContent(t *testing.T) {
	for _, cmd := range []string{"DATA\r\n" + plain + ".\r\n", fmt.Sprintf("BDAT %d\r\n%s", len(plain), plain)} {
		t.Run(cmd[:4], func(t *testing.T) {
			aborted := make(chan struct{})
			c := newHostOn(t, panickingSpool{spool.NewMemory(), aborted}, nil).serve().greeted()
			c.envelope("a@example.org")
			c.send(cmd)
			if cmd[0] == 'D' {
				c.want("354")
			}
			c.want("421 4.3.0")
			select {
			case <-aborted:
			case <-time.After(patience):
				t.Error("the content was not discarded")
			}
		})
	}
}

// TestDrainedBeforeHandshake: a handshake that has not begun when Shutdown comes
// is not waited for.
func TestDrainedBeforeHandshake(t *testing.T) {
	cert, _ := certificate(t)
	opts := &Options{DeferredQueue: true, TLS: TLS{Implicit: true, Config: &tls.Config{Certificates: []tls.Certificate{cert}}}}
	inBubble(t, opts, func(h *host, _ *pipeListener) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := newConn(h.l.tracker, ours, &h.l.opts.Limits)
		d := &dialogue{c: c}
		c.speaker = d
		d.s = newSession(h.l, c, d)
		begin := time.Now()
		c.drain()
		if err := d.handshake(); err == nil {
			t.Error("the handshake succeeded")
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("the handshake was waited for: %v", d)
		}
		c.Close()
	})
}
