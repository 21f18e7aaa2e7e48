package smtpserver

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestNewListenerErrors(t *testing.T) {
	somebody := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	cert, pool := certificate(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	checked := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	for _, tt := range []struct {
		name string
		opts Options
		want string // part of the error; empty: none
	}{
		{"zero", Options{}, ""},
		{"bad address", Options{Addr: "nonsense"}, "want host:port"},
		{"everywhere", Options{Addr: ":2525"}, "listen on loopback"},
		{"another address", Options{Addr: "192.0.2.1:25"}, "listen on loopback"},
		{"another address, nobody", Options{Addr: "192.0.2.1:25", RelayHosts: []netip.Prefix{}}, "listen on loopback"},
		{"another address, relay hosts", Options{Addr: "192.0.2.1:25", RelayHosts: somebody}, ""},
		{"another address, client certificates", Options{Addr: ":25", TLS: TLS{Config: checked}}, ""},
		{"another address, AUTH", Options{Addr: ":25", TLS: TLS{Config: cfg}, Auth: Auth{Password: acceptAll}}, ""},
		{"another address, TLS alone", Options{Addr: ":25", TLS: TLS{Config: cfg}}, "listen on loopback"},
		{"IPv6 loopback", Options{Addr: "[::1]:2525"}, ""},
		{"Unix socket", Options{Addr: "/run/mail.sock"}, ""},
		{"Unix socket without a path", Options{Addr: "unix:"}, "want the path"},
		{"abstract Unix socket", Options{Addr: "unix:@mail"}, "want the path"},
		{"listener and address", Options{Addr: "127.0.0.1:1", Listener: newPipeListener()}, "choose one"},
		{"listener", Options{Listener: newPipeListener()}, ""},
		{"implicit without TLS", Options{TLS: TLS{Implicit: true}}, "need Options.TLS.Config"},
		{"TLS without certificate", Options{TLS: TLS{Config: &tls.Config{}}}, "no certificate"},
		{"client certificates of everybody", Options{TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven}}}, "set ClientCAs"},
		{"client certificates that are looked at", Options{TLS: TLS{Config: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert,
			VerifyConnection: func(tls.ConnectionState) error { return nil }}}}, ""},
		{"AUTH without TLS", Options{Auth: Auth{Password: acceptAll}}, "never offered"},
		{"AUTH required without password", Options{Auth: Auth{Require: true}}, "need Options.Auth.Password"},
		{"host name", Options{Hostname: "a b"}, "Options.Hostname"},
		{"banner", Options{Banner: "a\r\nb"}, "Options.Banner"},
		{"header name", Options{Trace: Trace{HeaderName: "X Ref"}}, "Options.Trace.HeaderName"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewListener(newHost(t, nil).sched, &tt.opts)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "smtpserver: ")):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := NewListener(nil, nil); err == nil {
		t.Error("a nil Scheduler is no error")
	}
}

// TestCompleteErrors checks options that resolve would refuse as not supported.
func TestCompleteErrors(t *testing.T) {
	somebody := prefixes("192.0.2.0/24")
	invalid := []netip.Prefix{somebody[0], {}}
	for _, tt := range []struct {
		name string
		opts Options
		want string // part of the error; empty: none
	}{
		{"DeferredSpool", Options{DeferredQueue: true, DeferredSpool: true}, ""},
		{"DeferredSpool alone", Options{DeferredSpool: true}, "Options.DeferredSpool without DeferredQueue"},
		{"Proxy", Options{Proxy: Proxy{From: somebody, XClient: somebody, Require: true}}, ""},
		{"Proxy.Require alone", Options{Proxy: Proxy{Require: true}}, "Options.Proxy.Require without From"},
		{"Proxy.Require, nobody", Options{Proxy: Proxy{Require: true, From: []netip.Prefix{}, XClient: somebody}}, "Options.Proxy.Require without From"},
		{"Proxy.From", Options{Proxy: Proxy{From: invalid}}, "Options.Proxy.From[1] is not a valid prefix"},
		{"Proxy.XClient", Options{Proxy: Proxy{XClient: invalid}}, "Options.Proxy.XClient[1] is not a valid prefix"},
		{"RelayHosts", Options{RelayHosts: invalid}, "Options.RelayHosts[1] is not a valid prefix"},
		{"host name", Options{Hostname: "mx_1.example"}, ""},
		{"host name, address literal", Options{Hostname: "[IPv6:2001:db8::1]"}, ""},
		{"host name with a port", Options{Hostname: "mx.example:25"}, "Options.Hostname"},
		{"host name with two dots", Options{Hostname: "mx..example"}, "Options.Hostname"},
		{"line endings, too many", Options{InvalidLineEndings: Fix + 1}, "Options.InvalidLineEndings is 4"},
		{"line endings, negative", Options{InvalidLineEndings: -1}, "Options.InvalidLineEndings is -1"},
		{"everywhere, behind a proxy", Options{Addr: ":25", Proxy: Proxy{From: somebody, Require: true}}, "listen on loopback"},
		{"everywhere, XCLIENT", Options{Addr: ":25", Proxy: Proxy{XClient: somebody}}, "listen on loopback"},
		{"everywhere, override", Options{Addr: ":25", Overrides: []Override{{RelayHosts: somebody}}}, ""},
		{"everywhere, override for nobody", Options{Addr: ":25", Overrides: []Override{{RelayHosts: []netip.Prefix{}}}}, "listen on loopback"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.opts.complete()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "smtpserver: ")):
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestResolveNetworks: networks are masked, IPv4 in IPv6 is IPv4, and the caller's
// slices stay as they are.
func TestResolveNetworks(t *testing.T) {
	given := prefixes("192.0.2.7/24", "::ffff:198.51.100.7/120", "2001:db8::7/32", "::/0", "::ffff:0.0.0.0/96")
	o := completed(t, Options{RelayHosts: given})
	for i, want := range prefixes("192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32", "::/0", "0.0.0.0/0") {
		if o.RelayHosts[i] != want {
			t.Errorf("%s became %s, want %s", given[i], o.RelayHosts[i], want)
		}
	}
	if given[0] != netip.MustParsePrefix("192.0.2.7/24") {
		t.Error("the caller's slice was changed")
	}
	if o := completed(t, Options{}); o.RelayHosts != nil || o.Proxy.From != nil {
		t.Error("nil did not stay nil")
	}
	if o := completed(t, Options{RelayHosts: []netip.Prefix{}}); o.RelayHosts == nil {
		t.Error("nobody became the default")
	}
}

func TestResolveLineEndings(t *testing.T) {
	for given, want := range map[LineEndings]LineEndings{0: Deny, Deny: Deny, Allow: Allow, Fix: Fix} {
		if o := completed(t, Options{InvalidLineEndings: given}); o.InvalidLineEndings != want {
			t.Errorf("%d became %d, want %d", given, o.InvalidLineEndings, want)
		}
	}
}

func TestLimitsResolve(t *testing.T) {
	d := Limits{}.resolve()
	if d.Connections != 32768 || d.Recipients != 1024 || d.Messages != 10000 || d.MessageSize != 20<<20 || d.LineLength != 998 || d.Hops != 100 {
		t.Errorf("defaults %+v", d)
	}
	if d.Memory != 0 || d.QueuedMessages != 0 || d.QueuedBytes != 0 || d.QueuedAge != 0 {
		t.Errorf("defaults of the gates %+v", d)
	}
	none := Limits{Connections: -1, MessageSize: -1, ClientTimeout: -1, QueuedMessages: -1, QueuedBytes: -1, QueuedAge: -1, Memory: -1}.resolve()
	if none.Connections != 0 || none.MessageSize != 0 || none.ClientTimeout != 0 || none.QueuedMessages != 0 || none.QueuedBytes != 0 || none.QueuedAge != 0 {
		t.Errorf("none is %+v", none)
	}
	if none.Memory != -1 { // zero would be its default
		t.Errorf("no limit of memory is %d", none.Memory)
	}
	set := Limits{Memory: 1, QueuedMessages: 2, QueuedBytes: 3, QueuedAge: 4}.resolve()
	if set.Memory != 1 || set.QueuedMessages != 2 || set.QueuedBytes != 3 || set.QueuedAge != 4 {
		t.Errorf("set %+v", set)
	}
}

// TestServeRefuses: Serve looks at the address that it is given.
func TestServeRefuses(t *testing.T) {
	h := newHost(t, nil)
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.l.Serve(ln); err == nil || !strings.Contains(err.Error(), "listen on loopback") {
		t.Errorf("Serve on %v: %v", ln.Addr(), err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestListenAndServe(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "unix:" + t.TempDir() + "/s"} {
		h := newHost(t, &Options{Addr: addr, DeferredQueue: true})
		served := make(chan error, 1)
		go func() { served <- h.l.ListenAndServe() }()
		for h.l.Addr() == nil {
			select {
			case err := <-served:
				t.Fatal(err)
			default:
			}
		}
		wantPrefix(t, h.greeted().data(plain, "a@example.org"), "250")
		h.next()
		h.l.Close()
		if err := <-served; err != ErrServerClosed {
			t.Errorf("ListenAndServe: %v", err)
		}
		if err := h.l.ListenAndServe(); err != ErrServerClosed {
			t.Errorf("ListenAndServe after Close: %v", err)
		}
	}
}
