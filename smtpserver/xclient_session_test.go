package smtpserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
)

// mayXClient believes XCLIENT of who connects to a test.
var mayXClient = Proxy{XClient: []netip.Prefix{loopbackNet}}

// chainXClient believes such clients in turn.
var chainXClient = Proxy{XClient: prefixes("127.0.0.0/8", "192.0.2.0/24")}

// talksXClient: XCLIENT as XCLIENT_README of Postfix has it.
var talksXClient = []talk{
	{name: "offered to who may use it", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n
		C: XCLIENT ADDR=192.0.2.1
		S: 220 mx\.example\.com ESMTP
		C: EHLO other.example
		S: 250
		-: XCLIENT `},
	{name: "not lent to the client", opts: Options{DeferredQueue: true, Proxy: mayXClient, RelayHosts: prefixes("198.51.100.0/24")}, lines: `
		C: XCLIENT ADDR=192.0.2.1
		S: 220
		C: XCLIENT ADDR=198.51.100.1
		S: 550 5\.7\.1
		C: XCLIENT LOGIN=someone
		S: 550 5\.7\.1
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 550 5\.7\.1`},
	{name: "not lent to an unknown client", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: XCLIENT ADDR=[UNAVAILABLE]
		S: 220
		C: XCLIENT LOGIN=someone
		S: 550 5\.7\.1`},
	{name: "not offered to others", opts: Options{DeferredQueue: true, Proxy: Proxy{XClient: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}, lines: `
		C: EHLO client.example
		S: 250
		-: XCLIENT
		C: XCLIENT ADDR=192.0.2.1
		S: 550 5\.7\.1
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 250`},
	{name: "resets the session", opts: Options{DeferredQueue: true, Proxy: mayXClient, RelayHosts: prefixes("192.0.2.0/24")}, lines: `
		C: EHLO client.example
		S: 250
		C: XCLIENT ADDR=192.0.2.1
		S: 220
		C: MAIL FROM:<a@sender.example>
		S: 503 5\.5\.1 Say EHLO
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "before EHLO", opts: Options{DeferredQueue: true, Proxy: mayXClient, RelayHosts: prefixes("192.0.2.0/24")}, lines: `
		C: XCLIENT ADDR=192.0.2.1
		S: 220
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 250`},
	{name: "in a transaction", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: XCLIENT ADDR=192.0.2.1
		S: 503 5\.5\.1
		C: RCPT TO:<b@one.example>
		S: 250
		C: RSET
		S: 250
		C: XCLIENT ADDR=192.0.2.1
		S: 220`},
	{name: "behind AUTH", opts: Options{DeferredQueue: true, Proxy: mayXClient, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235
		C: XCLIENT ADDR=192.0.2.1
		S: 503 5\.5\.1`},
	{name: "behind AUTH of a client without LOGIN", opts: Options{DeferredQueue: true, Proxy: chainXClient, Auth: passwords}, lines: `
		C: XCLIENT ADDR=192.0.2.1 LOGIN=[UNAVAILABLE]
		S: 220
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235
		C: XCLIENT ADDR=192.0.2.2
		S: 503 5\.5\.1`},
	{name: "AUTH behind LOGIN", opts: Options{DeferredQueue: true, Proxy: mayXClient, Auth: passwords}, lines: `
		C: XCLIENT ADDR=192.0.2.1 LOGIN=someone
		S: 220
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 250`},
	{name: "relays by the address alone", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: XCLIENT ADDR=192.0.2.1
		S: 220
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 550 5\.7\.1`},
	{name: "an address that is not known does not relay", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: XCLIENT ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL]
		S: 220
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 550 5\.7\.1`},
	{name: "loopback cannot be claimed", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: XCLIENT ADDR=127.0.0.1
		S: 550 5\.7\.1
		C: XCLIENT ADDR=IPV6:::1
		S: 550 5\.7\.1
		C: XCLIENT ADDR=::ffff:127.0.0.1
		S: 550 5\.7\.1`},
	{name: "malformed", opts: Options{DeferredQueue: true, Proxy: mayXClient}, lines: `
		C: XCLIENT
		S: 501 5\.5\.4
		C: XCLIENT ADDR
		S: 501 5\.5\.4
		C: XCLIENT ADDR=one.example
		S: 501 5\.5\.4
		C: XCLIENT ADDR=192.0.2.1 COLOUR=red
		S: 501 5\.5\.4
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		S: 250
		S: 250`},
	{name: "the limits of the client", opts: Options{DeferredQueue: true, Proxy: mayXClient, Overrides: []Override{
		{Remote: netip.MustParsePrefix("192.0.2.0/24"), Limits: Limits{Errors: 1}},
	}}, lines: `
		C: XCLIENT ADDR=192.0.2.1
		S: 220
		C: NONSENSE
		S: 500
		C: NONSENSE
		S: 500
		S: 421 4\.7\.0
		.:`},
}

func TestXClientTalks(t *testing.T) {
	cert, pool := certificate(t)
	for _, row := range talksXClient {
		t.Run(row.name, func(t *testing.T) { row.run(t, cert, pool) })
	}
}

// TestXClientMessage: what XCLIENT says is what the message, its records and the log say.
func TestXClientMessage(t *testing.T) {
	const all = "XCLIENT NAME=spike.example ADDR=192.0.2.1 PORT=12345 PROTO=ESMTP HELO=spike LOGIN=some+40one DESTADDR=198.51.100.2 DESTPORT=25"
	for _, tt := range []struct {
		name     string
		commands []string
		meta     map[string]string
		received string
	}{
		{"all at once", []string{all}, map[string]string{
			"received_from": "192.0.2.1:12345", "received_via": "198.51.100.2:25", "ehlo_domain": "spike", "authn_id": "some@one", "authz_id": "some@one", "customer": "one",
		}, "Received: from spike ([192.0.2.1])\r\n\tby mx.example.com with ESMTPA id"},
		{"one after another", []string{"XCLIENT LOGIN=user", "XCLIENT HELO=spike", "XCLIENT PROTO=SMTP", "XCLIENT ADDR=IPV6:2001:db8::1 PORT=1"}, map[string]string{
			"received_from": "[2001:db8::1]:1", "ehlo_domain": "spike", "authn_id": "user", "customer": "",
		}, "Received: from spike ([IPv6:2001:db8::1])\r\n\tby mx.example.com with SMTP id"},
		{"not known", []string{"XCLIENT ADDR=[UNAVAILABLE] LOGIN=user HELO=[UNAVAILABLE] PROTO=[UNAVAILABLE]"}, map[string]string{
			"received_from": "unknown", "ehlo_domain": "client.example", "authn_id": "user",
		}, "Received: from client.example\r\n\tby mx.example.com with ESMTPA id"},
		{"taken back", []string{all, "XCLIENT LOGIN=[UNAVAILABLE] HELO=[UNAVAILABLE]"}, map[string]string{
			"received_from": "192.0.2.1:12345", "ehlo_domain": "client.example", "authn_id": "", "authz_id": "",
		}, "Received: from client.example ([192.0.2.1])\r\n\tby mx.example.com with ESMTP id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &Options{DeferredQueue: true, Proxy: chainXClient, RelayHosts: prefixes("192.0.2.0/24", "2001:db8::/32"), Overrides: []Override{
				{Remote: netip.MustParsePrefix("192.0.2.1/32"), Meta: map[string]string{"customer": "one"}},
			}})
			c := h.greeted()
			for _, command := range tt.commands {
				c.cmd(command, "220")
			}
			c.cmd("EHLO client.example", "250")
			wantPrefix(t, c.data(plain, "a@example.org"), "250")
			m := h.next()
			if m.body() != plain || !strings.Contains(m.content, tt.received) {
				t.Errorf("content %q, want %q", m.content, tt.received)
			}
			tt.meta["orig_received_from"], tt.meta["orig_received_via"] = c.conn.LocalAddr().String(), c.conn.RemoteAddr().String()
			wantMeta(t, m, tt.meta)
			c.cmd("DATA", "503")
			peer := strings.Trim(strings.Split(tt.meta["received_from"], "]")[0], "[")
			if addr, err := netip.ParseAddrPort(tt.meta["received_from"]); err == nil {
				peer = addr.Addr().String()
			}
			if r := h.record(queue.Rejection); r.PeerAddress.Addr != peer || r.PeerAddress.Name != tt.meta["ehlo_domain"] {
				t.Errorf("record %+v", r)
			}
			if !strings.Contains(h.logs.String(), "peer="+peer+" command=DATA") {
				t.Errorf("the log does not name %s:\n%s", peer, h.logs)
			}
		})
	}
}

// TestXClientConnects: the client is asked in anew, by its own rules.
func TestXClientConnects(t *testing.T) {
	seen := make(chan string, 10)
	h := serve(t, &Options{DeferredQueue: true, Proxy: chainXClient,
		Limits: Limits{ConnectionsPerAddr: 2},
		Hooks: Hooks{Connect: func(_ context.Context, s *Session) error {
			seen <- fmt.Sprint(s.Remote.Addr(), " ", s.Hello == "", " ", s.Meta["hook"] == "")
			s.Meta["hook"] = "ran"
			if s.Remote.Addr() == netip.MustParseAddr("192.0.2.66") {
				return queue.Reject(554, "5.7.1 not you")
			}
			return nil
		}},
		Overrides: []Override{
			{Remote: netip.MustParsePrefix("192.0.2.0/24"), Hostname: "other.example.com", Banner: "for you"},
			{Local: netip.MustParsePrefix("198.51.100.2/32"), Limits: Limits{ConnectionsPerAddr: 1}},
		}})
	c := h.greeted()
	c.cmd("XCLIENT ADDR=192.0.2.1", "220 other.example.com for you\r\n")
	c.cmd("EHLO client.example", "250-other.example.com Hello client.example")
	c.cmd("XCLIENT ADDR=192.0.2.66", "554 5.7.1 not you")
	c.ended()
	for _, want := range []string{"127.0.0.1 true true", "192.0.2.1 true true", "192.0.2.66 true true"} {
		if got := <-seen; got != want {
			t.Errorf("Hooks.Connect saw %s, want %s", got, want)
		}
	}
	second, third := h.greeted(), h.greeted()
	second.cmd("XCLIENT ADDR=192.0.2.1", "220")
	third.cmd("XCLIENT ADDR=192.0.2.1 DESTADDR=198.51.100.2", "421 4.3.2")
	third.ended()
	second.cmd("XCLIENT ADDR=192.0.2.3 DESTADDR=198.51.100.2", "220")
}

// TestXClientUnderTLS: TLS stays, but what it says of the other end does not hold
// for the client.
func TestXClientUnderTLS(t *testing.T) {
	cert, pool := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, Proxy: mayXClient, RelayHosts: prefixes("192.0.2.0/24"), TLS: TLS{Require: true, Config: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}}})
	secure := func() *client {
		c := h.greeted().startTLS(clientConfig(pool, cert))
		c.cmd("EHLO client.example", "250")
		return c
	}
	wantPrefix(t, secure().data(plain, "a@example.org"), "250") // by its certificate
	h.next()

	c := secure()
	c.cmd("XCLIENT ADDR=192.0.2.1", "220")
	c.cmd("EHLO client.example", "250")
	wantPrefix(t, c.data(plain, "a@example.org"), "250")
	if m := h.next(); m.meta["tls_cipher"] == "" || !strings.Contains(m.content, "with ESMTPS id") {
		t.Errorf("metadata %v, content %q", m.meta, m.content)
	}
	c = secure()
	c.cmd("XCLIENT ADDR=198.51.100.1", "220")
	c.cmd("EHLO client.example", "250")
	c.cmd("MAIL FROM:<>", "250")
	c.cmd("RCPT TO:<a@example.org>", "550 5.7.1")
}

func clientConfig(pool *x509.CertPool, cert tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: pool, ServerName: "mx.example.com", Certificates: []tls.Certificate{cert}}
}

// TestXClientBehindProxy: the header says who may use it.
func TestXClientBehindProxy(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, RelayHosts: prefixes("203.0.113.0/24"),
		Proxy: Proxy{From: []netip.Prefix{loopbackNet}, XClient: prefixes("192.0.2.1/32"), Require: true}})
	for header, reply := range map[string]string{v1Header: "220", v2Header(0x20, 0): "550 5.7.1", "PROXY UNKNOWN\r\n": "550 5.7.1"} {
		c := h.dial()
		c.send(header)
		c.want("220")
		c.cmd("XCLIENT ADDR=203.0.113.9 PORT=1", reply)
		if reply != "220" {
			continue
		}
		c.cmd("EHLO client.example", "250")
		wantPrefix(t, c.data(plain, "a@example.org"), "250")
		wantMeta(t, h.next(), map[string]string{"received_from": "203.0.113.9:1", "orig_received_from": c.conn.LocalAddr().String()})
	}
}
