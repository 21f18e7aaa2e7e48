package smtpserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestAbstractSocket: a Unix socket without a file has no mode that says who may connect,
// so that whoever comes by it is trusted only by what else he shows.
func TestAbstractSocket(t *testing.T) {
	listen := func(name string) net.Listener {
		t.Helper()
		ln, err := net.Listen("unix", fmt.Sprintf("@%s-%d", name, os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	h := newHost(t, &Options{DeferredQueue: true, RelayHosts: []netip.Prefix{}})
	unnamed, err := net.Listen("unix", "@")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unnamed.Close() })
	for _, ln := range []net.Listener{listen("open"), unnamed} {
		if err := h.l.Serve(ln); err == nil || !strings.Contains(err.Error(), "abstract") {
			t.Errorf("Serve on %s: %v, want an error that says what an abstract socket lacks", ln.Addr(), err)
		}
	}

	check := func(context.Context, *Session, string, string, string) error { return nil }
	h = newHost(t, &Options{DeferredQueue: true, Auth: Auth{Password: check, AllowPlaintext: true}})
	ln := listen("authenticated")
	served := make(chan error, 1)
	go func() { served <- h.l.Serve(ln) }()
	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn)
	c.want("220")
	c.cmd("EHLO x", "250")
	c.cmd("MAIL FROM:<a@example.org>", "250")
	c.cmd("RCPT TO:<b@example.org>", "530")
	c.cmd("RSET", "250")
	c.cmd("AUTH PLAIN AGEAYg==", "235")
	c.cmd("MAIL FROM:<a@example.org>", "250")
	c.cmd("RCPT TO:<b@example.org>", "250")
	conn.Close()
	h.l.Close()
	<-served
}
