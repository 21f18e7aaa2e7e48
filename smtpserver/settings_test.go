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
		{"DeferredSpool", Options{DeferredSpool: true}, "Options.DeferredSpool is not supported"},
		{"Proxy", Options{Proxy: Proxy{Require: true}}, "Options.Proxy is not supported"},
		{"Overrides", Options{Overrides: []Override{{}}}, "Options.Overrides is not supported"},
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
		{"listener and address", Options{Addr: "127.0.0.1:1", Listener: newPipeListener()}, "choose one"},
		{"listener", Options{Listener: newPipeListener()}, ""},
		{"implicit without TLS", Options{TLS: TLS{Implicit: true}}, "need Options.TLS.Config"},
		{"TLS without certificate", Options{TLS: TLS{Config: &tls.Config{}}}, "no certificate"},
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

func TestLimitsResolve(t *testing.T) {
	d := Limits{}.resolve()
	if d.Connections != 32768 || d.Recipients != 1024 || d.Messages != 10000 || d.MessageSize != 20<<20 || d.LineLength != 998 || d.Hops != 100 {
		t.Errorf("defaults %+v", d)
	}
	if none := (Limits{Connections: -1, MessageSize: -1, ClientTimeout: -1}).resolve(); none.Connections != 0 || none.MessageSize != 0 || none.ClientTimeout != 0 {
		t.Errorf("none is %+v", none)
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
