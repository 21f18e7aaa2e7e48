package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestNothingStaged: a callback that ends the message before the reply leaves
// nothing of its body in the spool.
func TestNothingStaged(t *testing.T) {
	for name, inject := range map[string]queue.Handler{
		"accepted": nil,
		"dropped":  func(context.Context, *queue.Message) error { return queue.Drop("unwanted") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			sp, err := boltspool.Open(dir, &boltspool.Options{StageMemory: -1, Logger: discardLogger()})
			if err != nil {
				t.Fatal(err)
			}
			h := newHostOn(t, sp, &Options{})
			h.setInject(inject)
			c := h.serve().greeted()
			wantPrefix(t, c.data(plain, "a@b.example"), "250")
			c.cmd("NOOP", "250") // the transaction has ended
			files, err := filepath.Glob(filepath.Join(dir, "big", "stage-*"))
			if err != nil || len(files) > 0 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

// TestDefectsOnlyVerdictsArePermanent: an error that wraps something permanent is not
// permanent itself.
func TestDefectsOnlyVerdictsArePermanent(t *testing.T) {
	refused := queue.Reject(550, "5.1.1 refused by a peer")
	for name, tt := range map[string]struct {
		err          error
		inline, hook string
	}{
		"reject":          {refused, "550 5.1.1", "550 5.1.1"},
		"wrapped reject":  {fmt.Errorf("policy: %w", refused), "550 5.1.1", "550 5.1.1"},
		"nil reject":      {(*queue.RejectError)(nil), "451 4.3.0", "451 4.3.0"},
		"reject inside":   {queue.RetryAfter(time.Minute, refused), "451 4.3.0", ""},
		"4xx inside":      {queue.RetryAfter(time.Minute, queue.Reject(452, "4.2.2 later")), "452 4.2.2", "452 4.2.2"},
		"split":           {queue.Split([]error{queue.RetryAfter(time.Minute, refused)}), "451 4.3.0", ""},
		"split reject":    {queue.Split([]error{refused}), "550 5.1.1", ""},
		"another's limit": {fmt.Errorf("secret cache: %w", spool.ErrTooLarge), "451 4.3.0", "451 4.3.0"},
		"no space":        {fmt.Errorf("secret cache: %w", spool.ErrFull), "452 4.3.1", "451 4.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			var fromHook error
			h := serve(t, &Options{Hooks: Hooks{Mail: func(context.Context, *Session, *spool.Envelope) error { return fromHook }}})
			h.setInject(func(context.Context, *queue.Message) error { return tt.err })
			reply := h.greeted().data(plain, "a@b.example")
			wantPrefix(t, reply, tt.inline)
			if strings.Contains(reply, "secret") {
				t.Errorf("the reply gives the error away: %q", reply)
			}
			h.nothing()
			if tt.hook != "" {
				fromHook = tt.err
				h.greeted().cmd("MAIL FROM:<>", tt.hook)
			}
		})
	}
}

// TestClassWithoutAddress: a client without IP has a class too.
func TestClassWithoutAddress(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, nil)
	h.setInject(func(context.Context, *queue.Message) error { return errors.New("later") })
	h.serveOn(ln)
	wantPrefix(t, h.greeted().data(plain, "a@b.example"), "250")
	n := 0
	for e, err := range h.sp.Scan(context.Background(), spool.Query{}) {
		if n++; err != nil || e.Class != "-" {
			t.Errorf("class %q, %v; want -", e.Class, err)
		}
	}
	if n != 1 {
		t.Errorf("%d messages are stored, want 1", n)
	}
}

// TestStorageFailureIsLogged: what the client is not told, the operator is.
func TestStorageFailureIsLogged(t *testing.T) {
	for _, rcpts := range [][]string{{"a@b.example"}, {"a@b.example", "c@b.example"}} {
		h := serve(t, nil)
		c := h.greeted()
		h.sp.FailSync()
		wantPrefix(t, c.data(plain, rcpts...), "451 4.3.0")
		if n := strings.Count(h.logs.String(), "smtp transaction failed"); n != 1 {
			t.Errorf("%d recipients: the failure is logged %d times, want once:\n%s", len(rcpts), n, h.logs)
		}
	}
}

func TestRequireTLSForPasswords(t *testing.T) {
	cert, pool := certificate(t)
	h := serve(t, &Options{DeferredQueue: true, Auth: Auth{Password: acceptAll, AllowPlaintext: true},
		TLS: TLS{Require: true, Config: &tls.Config{Certificates: []tls.Certificate{cert}}}})
	c := h.dial()
	c.want("220")
	if caps := c.cmd("EHLO x", "250"); strings.Contains(caps, "AUTH") {
		t.Errorf("AUTH is offered in clear: %q", caps)
	}
	c.cmd("AUTH PLAIN AHgAeA==", "530 5.7.0")
	c = c.startTLS(&tls.Config{RootCAs: pool, ServerName: "mx.example.com"})
	c.cmd("EHLO x", "250")
	c.cmd("AUTH PLAIN AHgAeA==", "235")
}

// TestErrorsPerCommand: a command of LMTP that is answered for each recipient is one.
func TestErrorsPerCommand(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, LMTP: true, Limits: Limits{Errors: 1}})
	c := h.dial()
	c.want("220")
	c.cmd("LHLO x", "250")
	c.envelope("a@b.example", "b@b.example", "c@b.example")
	c.cmd("DATA", "354")
	c.send(strings.Repeat("x", 1200) + "\r\n.\r\n")
	for range 3 {
		c.want("500 5.6.0")
	}
	c.cmd("NOOP", "250")
	c.cmd("NONSENSE", "500")
	c.want("421")
	c.ended()
}

// TestPanicInTLS: a panic of the host's certificate function ends one
// connection, not the process.
func TestPanicInTLS(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		cfg := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("no certificate") }}
		h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: cfg, Implicit: implicit}})
		c := h.dial()
		if !implicit {
			c.want("220")
			c.cmd("EHLO x", "250")
			c.cmd("STARTTLS", "220")
		}
		if err := tls.Client(c.conn, &tls.Config{ServerName: "mx.example.com"}).Handshake(); err == nil {
			t.Error("the handshake succeeded")
		}
		if err := h.l.Close(); err != nil { // joins the connection
			t.Error(err)
		}
		if !strings.Contains(h.logs.String(), "no certificate") {
			t.Errorf("implicit %v: the panic is not logged:\n%s", implicit, h.logs)
		}
	}
}

// TestTooManyUnderTLS: a connection over the limit is not worth a handshake.
func TestTooManyUnderTLS(t *testing.T) {
	cert, _ := certificate(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	h := serve(t, &Options{DeferredQueue: true, TLS: TLS{Config: cfg, Implicit: true}, Limits: Limits{Connections: 1}})
	first := newClient(t, tls.Client(h.dial().conn, &tls.Config{InsecureSkipVerify: true}))
	first.want("220")
	second := h.dial()
	if b, err := second.r.ReadByte(); !errors.Is(err, io.EOF) { // without a word of the client
		t.Errorf("read %q, %v; want the end of the connection", b, err)
	}
}

// TestLongHello: the reply to a greeting stays a line of 512 octets.
func TestLongHello(t *testing.T) {
	c := serve(t, nil).dial()
	c.want("220")
	for _, verb := range []string{"EHLO ", "HELO "} {
		if got := c.cmd(verb+strings.Repeat("a", 5000), "501 5.5.4"); len(got) > maxReply {
			t.Errorf("%s is answered with %d octets", verb, len(got))
		}
		c.cmd(verb+strings.Repeat("a", maxDomain), "250")
	}
}
