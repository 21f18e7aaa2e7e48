package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// proxiedClient is a client behind a proxy that says header first.
func (w *wrapping) proxiedClient(h *host, header string) *client {
	h.t.Helper()
	raw, err := net.Dial("tcp", w.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(raw, header); err != nil {
		h.t.Fatal(err)
	}
	if w.tls {
		raw = tls.Client(raw, w.pool)
	}
	return newClient(h.t, raw)
}

// TestWrapProxy: PROXY and the limits on connections hold, under implicit TLS too.
func TestWrapProxy(t *testing.T) {
	const header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n"
	opts := Options{
		Proxy:  Proxy{From: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Require: true},
		Limits: Limits{ConnectionsPerAddr: 1, Connections: 3},
	}
	for _, w := range wrappings {
		if !w.listener || w.starttls {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			w.opts = opts
			h := newHost(t, nil)
			w.start(h)
			first := w.proxiedClient(h, header)
			first.want("220")
			first.cmd("EHLO client.example", "250")
			wantPrefix(t, first.data(plain, "a@example.org"), "250")
			if m := h.next(); m.meta["received_from"] != "192.0.2.7:4711" || m.meta["orig_received_from"] == "" {
				t.Errorf("metadata %v", m.meta)
			}
			for _, tt := range []struct{ name, header string }{
				{"second of an address", header},
				{"no header", "EHLO client.example\r\n"},
				{"loopback", "PROXY TCP4 127.0.0.1 127.0.0.1 4711 25\r\n"},
			} {
				c := w.proxiedClient(h, tt.header)
				if reply, err := c.reply(); err == nil && reply[:3] != "421" {
					t.Errorf("%s: %q", tt.name, reply)
				}
				c.conn.Close()
			}
		})
	}
}

// TestWrapConnections: who is over the limit is told, if TLS does not forbid it.
func TestWrapConnections(t *testing.T) {
	for _, w := range wrappings {
		if !w.listener {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			w.opts = Options{Limits: Limits{Connections: 1}}
			h := newHost(t, nil)
			w.start(h)
			w.connect(h)
			c := w.dial(h)
			if reply, err := c.reply(); w.tls != (err != nil) || err == nil && reply[:3] != "421" {
				t.Errorf("second connection: %q, %v", reply, err)
			}
		})
	}
}

// TestWrapListenerEnds: Shutdown and Close may come twice, at once, and before Accept.
func TestWrapListenerEnds(t *testing.T) {
	for _, end := range []func(*WrappedListener) error{
		func(l *WrappedListener) error { return l.Shutdown(context.Background()) },
		(*WrappedListener).Close,
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := WrapListener(ln, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := end(l); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v, want net.ErrClosed", err)
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := l.Shutdown(context.Background()); err != nil {
					t.Errorf("Shutdown again: %v", err)
				}
			})
		}
		both.Wait()
	}
}
