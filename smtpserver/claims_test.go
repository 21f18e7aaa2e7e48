package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

var loopbackNet = netip.MustParsePrefix("127.0.0.0/8")

const v1Header = "PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\r\n"

// An addrConn is an in-memory connection with the addresses of a TCP one.
type addrConn struct{ net.Conn }

func (addrConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (addrConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000} }

// dialTCP is dial with such addresses.
func (l *pipeListener) dialTCP(t testing.TB) *client {
	server, conn := net.Pipe()
	l.conns <- addrConn{server}
	c := newClient(t, conn)
	conn.SetDeadline(time.Now().Add(24 * time.Hour))
	return c
}

// TestProxiedAddress: the claimed address is the client's wherever an address counts.
func TestProxiedAddress(t *testing.T) {
	for name, header := range map[string]string{
		"version 1": v1Header,
		"version 2": v2Header(0x21, 0x11, tcp4),
		"checksum":  withChecksum(v2Header(0x21, 0x11, tcp4, "\x02\x00\x02mx"), 0),
	} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in pieces %v", name, pieces), func(t *testing.T) {
				var connected netip.AddrPort
				h := serve(t, &Options{
					DeferredQueue: true, RelayHosts: prefixes("192.0.2.0/24"),
					Proxy: Proxy{From: []netip.Prefix{loopbackNet}, Require: true},
					Hooks: Hooks{Connect: func(_ context.Context, s *Session) error { connected = s.Remote; return nil }},
					Overrides: []Override{
						{Remote: loopbackNet, Banner: "for the proxy"},
						{Remote: netip.MustParsePrefix("192.0.2.1/32"), Meta: map[string]string{"customer": "one"}},
						{Local: netip.MustParsePrefix("198.51.100.2/32"), Banner: "for what is behind it"},
					},
				})
				var class string
				h.setInject(func(context.Context, *queue.Message) error {
					class = h.onlyEntry().Class
					return nil
				})
				c := h.dial()
				sendPieces(c, header, pieces)
				c.want("220 mx.example.com for what is behind it\r\n")
				if connected.String() != "192.0.2.1:12345" {
					t.Errorf("Hooks.Connect saw %s", connected)
				}
				c.cmd("EHLO client.example", "250")
				wantPrefix(t, c.data(plain, "a@example.org"), "250")
				m := h.next()
				if class != "192.0.2.0/24" || m.body() != plain || !strings.Contains(m.content, "Received: from client.example ([192.0.2.1])\r\n") {
					t.Errorf("class %q, content %q", class, m.content)
				}
				wantMeta(t, m, map[string]string{
					"received_from": "192.0.2.1:12345", "received_via": "198.51.100.2:25", "customer": "one",
					"orig_received_from": c.conn.LocalAddr().String(), "orig_received_via": c.conn.RemoteAddr().String(),
				})
				c.cmd("RCPT TO:<a@example.org>", "503")
				if r := h.record(queue.Rejection); r.PeerAddress.Addr != "192.0.2.1" || r.Meta["received_from"] != "192.0.2.1:12345" {
					t.Errorf("record %+v", r)
				}
				if !strings.Contains(h.logs.String(), `peer=192.0.2.1 command="RCPT TO:<a@example.org>"`) {
					t.Errorf("the log does not name the client:\n%s", h.logs)
				}
			})
		}
	}
}

func sendPieces(c *client, s string, pieces bool) {
	c.t.Helper()
	if !pieces {
		c.send(s)
		return
	}
	for i := range len(s) {
		c.send(s[i : i+1])
	}
}

func wantMeta(t *testing.T, m *injected, want map[string]string) {
	t.Helper()
	for name, v := range want {
		if got, ok := m.meta[name]; got != v || !ok && v != "" {
			t.Errorf("metadata %s is %q, want %q", name, got, v)
		}
	}
}

// TestProxiedRelay: what may be relayed behind a header, from a proxy that may relay
// itself.
func TestProxiedRelay(t *testing.T) {
	for _, tt := range []struct {
		name, header, reply, from string // from: what the record says of the client
	}{
		{"none", "", "250", ""},
		{"version 1", v1Header, "550 5.7.1", "192.0.2.1"},
		{"version 2, IPv6", v2Header(0x21, 0x21, tcp6), "550 5.7.1", "2001:db8::1"},
		{"LOCAL", v2Header(0x20, 0x00), "250", ""},
		{"UNKNOWN", "PROXY UNKNOWN\r\n", "550 5.7.1", "unknown"},
		{"UNSPEC", v2Header(0x21, 0x00), "550 5.7.1", "unknown"},
		{"UDP", v2Header(0x21, 0x12, tcp4), "550 5.7.1", "unknown"},
		{"Unix", v2Header(0x21, 0x31, strings.Repeat("\x00", 216)), "550 5.7.1", "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &Options{DeferredQueue: true, Proxy: Proxy{From: []netip.Prefix{loopbackNet}}})
			c := h.dial()
			c.send(tt.header + "EHLO client.example\r\n")
			c.want("220")
			c.want("250")
			c.cmd("MAIL FROM:<>", "250")
			c.cmd("RCPT TO:<a@example.org>", tt.reply)
			if tt.reply == "250" {
				c.cmd("DATA", "354")
				c.cmd(".", "250")
				if m := h.next(); m.meta["received_from"] != c.conn.LocalAddr().String() || m.meta["orig_received_from"] != "" {
					t.Errorf("metadata %v", m.meta)
				}
				return
			}
			if r := h.record(queue.Rejection); r.PeerAddress.Addr != tt.from || r.Meta["orig_received_from"] != c.conn.LocalAddr().String() ||
				!strings.HasPrefix(r.Meta["received_from"], tt.from) && !strings.HasPrefix(r.Meta["received_from"], "["+tt.from) {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// TestProxyRefused: such connections end without a word.
func TestProxyRefused(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		require      bool
	}{
		{"loopback", "PROXY TCP4 127.0.0.1 198.51.100.2 12345 25\r\n", false},
		{"loopback, version 2", v2Header(0x21, 0x11, loopback), true},
		{"loopback in IPv6, version 2", v2Header(0x21, 0x21, mappedLoopback), false},
		{"malformed", "PROXY TCP4 192.0.2.1\r\n", false},
		{"wrong checksum", withChecksum(v2Header(0x21, 0x11, tcp4), 1), false},
		{"none, but required", "EHLO client.example\r\n", true},
		{"none but TLS", "\x16\x03\x01\x02\x00", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &Options{DeferredQueue: true, Proxy: Proxy{From: []netip.Prefix{loopbackNet}, Require: tt.require}})
			c := h.dial()
			c.send(tt.header)
			if got, err := io.ReadAll(c.r); len(got) > 0 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("answered %q, %v; want the end of the connection", got, err)
			}
			if !strings.Contains(h.logs.String(), "PROXY header") {
				t.Errorf("the log says nothing of it:\n%s", h.logs)
			}
		})
	}
}

// TestProxyUntrusted: to who is not in From, PROXY is no command.
func TestProxyUntrusted(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Proxy: Proxy{From: prefixes("192.0.2.0/24"), Require: true}})
	c := h.dial()
	c.want("220")
	c.cmd(strings.TrimSuffix(v1Header, "\r\n"), "500 5.5.1")
	c.cmd("EHLO client.example", "250")
	wantPrefix(t, c.data(plain, "a@example.org"), "250")
	wantMeta(t, h.next(), map[string]string{"received_from": c.conn.LocalAddr().String(), "orig_received_from": ""})
}

// TestProxyPatience: a client without a header is served after a while, and it is
// too late for one then; where it is required it is awaited longer, but not for ever.
func TestProxyPatience(t *testing.T) {
	proxies := Proxy{From: []netip.Prefix{loopbackNet}}
	inBubble(t, &Options{DeferredQueue: true, Proxy: proxies}, func(h *host, ln *pipeListener) {
		c, begin := ln.dialTCP(h.t), time.Now()
		c.want("220")
		if d := time.Since(begin); d != proxyPatience {
			h.t.Errorf("greeted after %v, want %v", d, proxyPatience)
		}
		c.cmd("NOOP", "250")
		c.cmd(strings.TrimSuffix(v1Header, "\r\n"), "500 5.5.1 PROXY came too late")
		c.ended()
	})
	proxies.Require = true
	for _, begun := range []string{"", "PROXY TCP4 192"} {
		inBubble(t, &Options{DeferredQueue: true, Proxy: proxies}, func(h *host, ln *pipeListener) {
			c, begin := ln.dialTCP(h.t), time.Now()
			c.send(begun)
			c.ended()
			if d := time.Since(begin); d != time.Minute {
				h.t.Errorf("%q: ended after %v, want 1m", begun, d)
			}
		})
	}
}

// TestProxyConnectionsPerAddr: connections count for who is behind the proxy.
func TestProxyConnectionsPerAddr(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Proxy: Proxy{From: []netip.Prefix{loopbackNet}}, Limits: Limits{ConnectionsPerAddr: 1}})
	connect := func(ip, reply string) *client {
		c := h.dial()
		c.send("PROXY TCP4 " + ip + " 198.51.100.2 12345 25\r\n")
		c.want(reply)
		return c
	}
	first := connect("192.0.2.1", "220")
	connect("192.0.2.2", "220")
	connect("192.0.2.1", "421 4.3.2").ended()
	if r := h.record(queue.Rejection); r.PeerAddress.Addr != "192.0.2.1" {
		t.Errorf("record %+v", r)
	}
	first.cmd("QUIT", "221")
}

// TestProxyTLS: the header comes in clear before implicit TLS, and before STARTTLS.
func TestProxyTLS(t *testing.T) {
	cert, pool := certificate(t)
	cfg := &tls.Config{RootCAs: pool, ServerName: "mx.example.com"}
	for _, implicit := range []bool{false, true} {
		h := serve(t, &Options{
			DeferredQueue: true, RelayHosts: prefixes("192.0.2.0/24"), Proxy: Proxy{From: []netip.Prefix{loopbackNet}, Require: true},
			TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, Implicit: implicit, Require: true},
		})
		c := h.dial()
		c.send(v2Header(0x21, 0x11, tcp4))
		if implicit {
			c = newClient(t, tls.Client(c.conn, cfg))
			c.want("220")
		} else {
			c.want("220")
			c.cmd("EHLO client.example", "250")
			c = c.startTLS(cfg)
		}
		c.cmd("EHLO client.example", "250")
		wantPrefix(t, c.data(plain, "a@example.org"), "250")
		m := h.next()
		wantMeta(t, m, map[string]string{"received_from": "192.0.2.1:12345", "tls_protocol_version": "TLS 1.3"})
		if m.body() != plain || !strings.Contains(m.content, "with ESMTPS id") {
			t.Errorf("content %q", m.content)
		}
	}
}

// onlyEntry is what is stored, if it is one message.
func (h *host) onlyEntry() (e *spool.Entry) {
	n := 0
	for found, err := range h.sp.Scan(context.Background(), spool.Query{}) {
		if n++; err != nil || n > 1 {
			h.t.Errorf("entry %d: %v", n, err)
		}
		e = found
	}
	return e
}

// TestProxyTLSDrained: before implicit TLS nothing is said, not even goodbye.
func TestProxyTLSDrained(t *testing.T) {
	cert, _ := certificate(t)
	for _, implicit := range []bool{false, true} {
		h := newHost(t, &Options{DeferredQueue: true, Proxy: Proxy{From: []netip.Prefix{loopbackNet}},
			TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}}, Implicit: implicit}})
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := newConn(h.l.tracker, addrConn{ours}, &h.l.opts.Limits)
		d := &dialogue{c: c}
		c.speaker, d.s = d, newSession(h.l, c, d)
		c.drain()
		if err := d.open(); errors.Is(err, errSilent) != implicit || errors.Is(err, errDraining) == implicit {
			t.Errorf("implicit TLS %v: %v", implicit, err)
		}
		theirs.Close()
		c.Close()
	}
}
