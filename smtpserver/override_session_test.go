package smtpserver

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func ptr[T any](v T) *T { return &v }

// together puts all recipients into one message.
func together(env spool.Envelope) [][]spool.Recipient { return [][]spool.Recipient{env.Recipients} }

// TestOverrideEffects: every field has its effect on clients that it is for, and
// none on others.
func TestOverrideEffects(t *testing.T) {
	const envelope = "C: EHLO client.example\nS: 250\nC: MAIL FROM:<a@sender.example>\nC: RCPT TO:<b@one.example>\nS: 250\nS: 250\n"
	refuse := func(context.Context, *queue.Message) error { return queue.Reject(550, "5.1.1 nobody") }
	delivered := letter{"a@sender.example", "b@one.example", "", ""}
	for name, tt := range map[string]struct {
		set          Override
		inject       queue.Handler
		with, others string // talks of who it is for, and of others
		want         []letter
	}{
		"Hostname": {set: Override{Hostname: "other.example.com"},
			with:   "C: EHLO x\nS: 250-other\\.example\\.com Hello x\nC: XCLIENT PORT=1\nS: 220 other\\.example\\.com ",
			others: "C: EHLO x\nS: 250-mx\\.example\\.com Hello x"},
		"Banner": {set: Override{Banner: "for you"},
			with:   "C: XCLIENT PORT=1\nS: 220 mx\\.example\\.com for you\r\n",
			others: "C: XCLIENT PORT=1\nS: 220 mx\\.example\\.com ESMTP service ready\r\n"},
		"RelayHosts": {set: Override{RelayHosts: []netip.Prefix{}},
			with:   "C: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 250\nC: RCPT TO:<b@one.example>\nS: 5[35]0 5\\.7",
			others: envelope},
		"DeferredQueue": {set: Override{DeferredQueue: ptr(false)}, inject: refuse,
			with:   envelope + "C: DATA\nS: 354\nC: .\nS: 550 5\\.1\\.1 nobody",
			others: envelope + "C: DATA\nS: 354\nC: .\nS: 250"},
		"Batch": {set: Override{Batch: together},
			with:   envelope + "C: RCPT TO:<c@two.example>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250 2\\.0\\.0 OK ids=[0-9a-f]{32}\r\n",
			others: envelope + "C: DATA\nS: 354\nC: .\nS: 250",
			want:   []letter{{"a@sender.example", "b@one.example c@two.example", "", ""}, delivered}},
		"InvalidLineEndings": {set: Override{InvalidLineEndings: Allow},
			with:   envelope + "C: DATA\nS: 354\nC: a{LF}b\nC: .\nS: 250",
			others: envelope + "C: DATA\nS: 354\nC: a{LF}b\nC: .\nS: 552 5\\.6\\.0",
			want:   []letter{{"a@sender.example", "b@one.example", "a\nb\r\n", ""}}},
		"RequireTLS": {set: Override{RequireTLS: ptr(true)},
			with:   "C: EHLO x\nS: 250\n-: AUTH\nC: MAIL FROM:<>\nS: 530 5\\.7\\.0\nC: STARTTLS\nS: 220\nT:\n" + envelope,
			others: envelope},
		"RequireAuth": {set: Override{RequireAuth: ptr(true)},
			with:   "C: EHLO x\nS: 250\nC: MAIL FROM:<>\nS: 530 5\\.7\\.0\nC: AUTH PLAIN AHVzZXIAc2VjcmV0\nS: 235\n" + envelope,
			others: envelope},
		"Messages": {set: Override{Limits: Limits{Messages: 1}},
			with:   "C: EHLO x\nS: 250\n+: LIMITS MAILMAX=1 \nC: MAIL FROM:<>\nC: RSET\nC: MAIL FROM:<>\nS: 250\nS: 250\nS: 421 4\\.7\\.0\n.:",
			others: "C: EHLO x\nS: 250\nC: MAIL FROM:<>\nC: RSET\nC: MAIL FROM:<>\nS: 250\nS: 250\nS: 250"},
		"Recipients": {set: Override{Limits: Limits{Recipients: 1}},
			with:   envelope + "C: RCPT TO:<c@two.example>\nS: 452 4\\.5\\.3",
			others: envelope + "C: RCPT TO:<c@two.example>\nS: 250"},
		"LineLength": {set: Override{Limits: Limits{LineLength: 10}},
			with:   envelope + "C: DATA\nS: 354\nC: {11*x}\nC: .\nS: 500 5\\.6\\.0",
			others: envelope + "C: DATA\nS: 354\nC: {11*x}\nC: .\nS: 250",
			want:   []letter{{"a@sender.example", "b@one.example", "xxxxxxxxxxx\r\n", ""}}},
		"Errors": {set: Override{Limits: Limits{Errors: 1}},
			with:   "C: WHAT\nS: 500\nC: WHAT\nS: 500\nS: 421 4\\.7\\.0\n.:",
			others: "C: WHAT\nS: 500\nC: WHAT\nS: 500\nC: NOOP\nS: 250"},
		"Hops": {set: Override{Limits: Limits{Hops: 1}},
			with:   envelope + "C: DATA\nS: 354\nC: Received: a\nC: Received: b\nC: .\nS: 554 5\\.4\\.6",
			others: envelope + "C: DATA\nS: 354\nC: Received: a\nC: Received: b\nC: .\nS: 250",
			want:   []letter{{"a@sender.example", "b@one.example", "Received: a\r\nReceived: b\r\n", ""}}},
		"MessageSize": {set: Override{Limits: Limits{MessageSize: 10}},
			with:   "C: EHLO x\nS: 250\n+: SIZE 10\r\nC: MAIL FROM:<> SIZE=11\nS: 552 5\\.3\\.4\n" + envelope + "C: DATA\nS: 354\nC: {9*x}\nC: .\nS: 552 5\\.3\\.4",
			others: "C: EHLO x\nS: 250\n+: SIZE 20971520\r\nC: MAIL FROM:<> SIZE=11\nS: 250"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, pool := certificate(t)
			// The client is at 192.0.2.1, and at 192.0.2.2 it is another.
			tt.set.Remote = netip.MustParsePrefix("192.0.2.1/32")
			opts := Options{
				DeferredQueue: true, Overrides: []Override{tt.set}, RelayHosts: prefixes("192.0.2.0/24"), Proxy: chainXClient, Auth: passwords,
				TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}},
			}
			h := serve(t, &opts)
			h.setInject(tt.inject)
			for addr, lines := range map[string]string{"192.0.2.1": tt.with, "192.0.2.2": tt.others} {
				p := &talker{t: t, h: h, client: h.dial(), tls: &tls.Config{RootCAs: pool, ServerName: "mx.example.com"}}
				p.want("220")
				p.cmd("XCLIENT ADDR="+addr, "220")
				p.play(lines)
			}
			if tt.inject == nil {
				h.injectedOnly(t, tt.want)
			}
		})
	}
}

// TestOverrideTimeouts: the connection itself keeps to them.
func TestOverrideTimeouts(t *testing.T) {
	local := netip.MustParsePrefix("127.0.0.1/32")
	for name, tt := range map[string]struct {
		limits Limits
		begin  []string // alternating: command, reply
		want   time.Duration
	}{
		"ClientTimeout":          {Limits{ClientTimeout: 7 * time.Second}, nil, 7 * time.Second},
		"ClientTimeout, content": {Limits{ClientTimeout: 7 * time.Second}, []string{"MAIL FROM:<>", "250", "RCPT TO:<a@b.example>", "250", "DATA", "354"}, 7 * time.Second},
		"DataTimeout":            {Limits{DataTimeout: 7 * time.Second}, []string{"MAIL FROM:<>", "250", "RCPT TO:<a@b.example>", "250", "DATA", "354"}, 7 * time.Second},
		"others":                 {Limits{Hops: 3}, nil, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &Options{DeferredQueue: true, Overrides: []Override{{Local: local, Limits: tt.limits}}}, func(h *host, ln *pipeListener) {
				c := ln.dialTCP(h.t)
				c.want("220")
				c.cmd("EHLO x", "250")
				for i := 0; i < len(tt.begin); i += 2 {
					c.cmd(tt.begin[i], tt.begin[i+1])
				}
				begin := time.Now()
				c.want("421 4.4.2")
				if d := time.Since(begin); d != tt.want {
					h.t.Errorf("timeout after %v, want %v", d, tt.want)
				}
			})
		})
	}
	inBubble(t, &Options{DeferredQueue: true, Overrides: []Override{{Local: local, Limits: Limits{ProcessingTimeout: time.Second}}}}, func(h *host, ln *pipeListener) {
		c := ln.dialTCP(h.t)
		c.want("220")
		c.cmd("EHLO x", "250")
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		h.sp.SetDelay(time.Hour)
		begin := time.Now()
		c.cmd(".", "451 4.4.5")
		if d := time.Since(begin); d != time.Second+defaultGrace {
			h.t.Errorf("answered after %v, want %v", d, time.Second+defaultGrace)
		}
	})
}

// TestOverrideOrder: the later one wins, field by field; Trace and metadata are in
// the message.
func TestOverrideOrder(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Hooks: Hooks{Connect: func(_ context.Context, s *Session) error {
		s.Meta["c"] += " hook"
		return nil
	}}, Overrides: []Override{
		{Meta: map[string]string{"a": "1", "b": "1", "c": "1"}, Trace: &Trace{OmitReceived: true}, Banner: "first"},
		{Local: loopbackNet, Meta: map[string]string{"b": "2"}, Trace: &Trace{HeaderName: "X-Two", IncludeMetaNames: []string{"b"}}},
		{Remote: netip.MustParsePrefix("192.0.2.0/24"), Meta: map[string]string{"a": "3"}, Banner: "third"},
	}})
	c := h.dial()
	c.want("220 mx.example.com first\r\n")
	c.cmd("EHLO client.example", "250")
	wantPrefix(t, c.data(plain, "a@example.org"), "250")
	m := h.next()
	wantMeta(t, m, map[string]string{"a": "1", "b": "2", "c": "1 hook"})
	if !strings.HasPrefix(m.content, "X-Two: ") || !strings.Contains(m.content, "\r\nReceived: from") {
		t.Errorf("content %q", m.content)
	}
}

// TestOverrideDeferredSpoolEffect: what is for one client is in memory, what is for
// another in the spool, while the callback runs.
func TestOverrideDeferredSpoolEffect(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Proxy: mayXClient, RelayHosts: prefixes("192.0.2.0/24"), Overrides: []Override{
		{Remote: netip.MustParsePrefix("192.0.2.1/32"), DeferredSpool: ptr(true)},
	}})
	stored := make(chan int, 2)
	h.setInject(func(context.Context, *queue.Message) error {
		stored <- h.entries()
		return nil
	})
	for addr, want := range map[string]int{"192.0.2.1": 0, "192.0.2.2": 1} {
		c := h.dial()
		c.want("220")
		c.cmd("XCLIENT ADDR="+addr, "220")
		c.cmd("EHLO x", "250")
		wantPrefix(t, c.data(plain, "a@example.org"), "250")
		if got := <-stored; got != want {
			t.Errorf("%s: %d messages in the spool, want %d", addr, got, want)
		}
		h.next()
		h.record(queue.Delivery)
	}
}

// entries is how many messages are in the spool.
func (h *host) entries() (n int) {
	for _, err := range h.sp.Scan(context.Background(), spool.Query{}) {
		if n++; err != nil {
			h.t.Error(err)
		}
	}
	return n
}
