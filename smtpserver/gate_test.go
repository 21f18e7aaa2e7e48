package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestFull: a full disk is 4xx in every place, and ends by itself.
func TestFull(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	h.sp.SetFull(true)
	c.cmd("MAIL FROM:<>", "452 4.3.1")
	c.cmd("MAIL FROM:<>", "452 4.3.1")
	h.greeted().cmd("MAIL FROM:<>", "452 4.3.1")
	h.sp.SetFull(false)
	c.envelope("a@example.org")
	h.sp.SetFull(true)
	c.cmd("DATA", "452 4.3.1")
	h.sp.SetFull(false)
	c.cmd("DATA", "354")
	h.sp.SetFull(true)
	c.send(plain + ".\r\n")
	c.want("452 4.3.1")
	h.nothing()
	h.sp.SetFull(false)
	wantPrefix(t, c.data(plain, "a@example.org"), "250")
	h.next()
	for _, line := range []string{"smtp gate closed", "smtp gate opened"} {
		if n := strings.Count(h.logs.String(), line); n != 2 {
			t.Errorf("the log says %d times %q, want 2:\n%s", n, line, h.logs)
		}
	}
}

// TestFailed: a spool that has failed takes nothing more, and is told apart from a refusal.
func TestFailed(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	h.sp.FailSync()
	wantPrefix(t, c.data(plain, "a@example.org"), "451 4.3.0")
	c.cmd("MAIL FROM:<>", "451 4.3.0")
	h.dial().want("421 4.3.0")
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.send("NOO") // not executed
		time.Sleep(59 * time.Second)
		c.send("P\r\n")
		c.want("250")
		begin := time.Now()
		c.want("421 4.4.2")
		c.ended()
		if d := time.Since(begin); d != time.Minute {
			h.t.Errorf("timeout after %v, want 1m", d)
		}
	})
}

func TestDataTimeout(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		begin := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := io.WriteString(c.conn, "x"); err != nil {
					return
				}
				time.Sleep(50 * time.Second)
			}
		}()
		c.want("421 4.4.2")
		c.ended()
		if d := time.Since(begin); d != 30*time.Minute {
			h.t.Errorf("timeout after %v, want 30m", d)
		}
		<-done
		h.nothing()
	})
}

// TestProcessingTimeout: once the spool has a message its answer is awaited, up
// to the grace; a message that was stored too late is removed.
func TestProcessingTimeout(t *testing.T) {
	for _, tt := range []struct {
		delay, want time.Duration
		reply       string
	}{
		{4 * time.Minute, 4 * time.Minute, "250 2.0.0"},
		{5*time.Minute + 20*time.Second, 5*time.Minute + 20*time.Second, "250 2.0.0"},
		{6 * time.Minute, 5*time.Minute + 30*time.Second, "451 4.4.5"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/chunked=%v", tt.delay, chunked), func(t *testing.T) {
				inBubble(t, nil, func(h *host, ln *pipeListener) {
					c := h.pipe(ln)
					c.envelope("a@example.org")
					h.sp.SetDelay(tt.delay)
					if chunked {
						c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(plain), plain))
					} else {
						c.cmd("DATA", "354")
						c.send(plain + ".\r\n")
					}
					begin := time.Now()
					c.want(tt.reply)
					if d := time.Since(begin); d != tt.want {
						h.t.Errorf("reply after %v, want %v", d, tt.want)
					}
					h.sp.SetDelay(0)
					if tt.reply[0] == '2' {
						h.next()
						return
					}
					c.ended()
					h.l.Close() // behind the commit and the removal
					h.nothing()
				})
			})
		}
	}
}

// TestLost250: a message whose client vanished before the reply is injected.
func TestLost250(t *testing.T) {
	inBubble(t, nil, func(h *host, ln *pipeListener) {
		c := h.pipe(ln)
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		h.sp.SetDelay(time.Second)
		c.send(plain + ".\r\n")
		c.conn.Close()
		h.next()
	})
}

// TestInline is DeferredQueue false: the verdicts of the callbacks are the reply.
func TestInline(t *testing.T) {
	for _, tt := range []struct {
		name    string
		verdict map[string]error
		reply   string
	}{
		{"accepted", nil, "250 2.0.0 OK ids="},
		{"one rejected", map[string]error{"b@example.org": queue.Reject(550, "5.1.1 no such user")}, "550 5.1.1 no such user"},
		{"5xx wins", map[string]error{"a@example.org": errors.New("down at secret.example"), "b@example.org": queue.Reject(550, "5.1.1 no such user")}, "550 5.1.1"},
		{"transient", map[string]error{"a@example.org": errors.New("down at secret.example")}, "451 4.3.0 Temporary"},
		{"held", map[string]error{"a@example.org": queue.Hold("wait"), "b@example.org": queue.Drop("spam")}, "250 2.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &Options{})
			var calls atomic.Int32
			h.setInject(func(_ context.Context, m *queue.Message) error {
				calls.Add(1)
				return tt.verdict[m.Envelope.Recipients[0].Address]
			})
			wantPrefix(t, h.greeted().data(plain, "a@example.org", "b@example.org"), tt.reply)
			if calls.Load() != 2 {
				t.Errorf("%d callbacks ran before the reply, want 2", calls.Load())
			}
			if tt.reply[0] == '2' {
				return
			}
			for e := range h.sp.Scan(context.Background(), spool.Query{}) {
				t.Errorf("%s is stored", e.ID)
			}
		})
	}
}

func TestInlineLMTP(t *testing.T) {
	h := serve(t, &Options{LMTP: true})
	h.setInject(func(_ context.Context, m *queue.Message) error {
		if m.Envelope.Recipients[0].Address == "b@example.org" {
			return queue.Reject(550, "5.1.1 no such user")
		}
		return nil
	})
	c := h.dial()
	c.want("220")
	c.cmd("LHLO x", "250")
	for range 2 {
		c.envelope("a@example.org", "b@example.org")
		c.cmd("DATA", "354")
		c.send(plain + ".\r\n")
		c.want("250 2.0.0 <a@example.org> OK ids=")
		c.want("550 5.1.1 <b@example.org> no such user")
		c.envelope("b@example.org")
		c.cmd("DATA", "354")
		c.send(plain + ".\r\n")
		c.want("550 5.1.1 <b@example.org> no such user")
	}
}

// TestMain looks for goroutines that outlive their Listener.
func TestMain(m *testing.M) {
	if code := m.Run(); code != 0 {
		os.Exit(code)
	}
	for range 500 {
		if left := ours(); left == "" {
			os.Exit(0)
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Printf("goroutines are left behind:\n%s\n", ours())
	os.Exit(1)
}

// ours returns the stacks of goroutines that run code under test.
func ours() string {
	buf := make([]byte, 1<<20)
	var left []string
	for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i > 0 && (strings.Contains(g, "deferredqueue/") || strings.Contains(g, "go-smtp")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}
