package smtpserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A hostBackend is what a host had before.
type hostBackend struct {
	t    testing.TB
	auth bool

	mu struct {
		sync.Mutex
		resets, logouts int
		panics          string           // the method that does
		answers         map[string]error // to an address
	}
}

func (b *hostBackend) NewSession(*smtp.Conn) (smtp.Session, error) {
	b.panicIn("NewSession")
	s := &hostSession{b: b}
	if b.auth {
		return &hostAuthSession{s}, nil
	}
	return s, nil
}

func (b *hostBackend) count(n *int, name string) {
	b.mu.Lock()
	*n++
	b.mu.Unlock()
	b.panicIn(name)
}

func (b *hostBackend) panicIn(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.panics == name {
		panic("host " + name)
	}
}

func (b *hostBackend) setPanics(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.panics = name
}

// answer makes err the answer to MAIL or RCPT with that address.
func (b *hostBackend) answer(addr string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.answers == nil {
		b.mu.answers = make(map[string]error)
	}
	b.mu.answers[addr] = err
}

func (b *hostBackend) answered(name, addr string) error {
	b.panicIn(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.answers[addr]
}

type hostSession struct {
	b    *hostBackend
	user string
}

func (s *hostSession) Reset()        { s.b.count(&s.b.mu.resets, "Reset") }
func (s *hostSession) Logout() error { s.b.count(&s.b.mu.logouts, "Logout"); return nil }
func (s *hostSession) Data(io.Reader) error {
	s.b.t.Error("Data of the host's session was called")
	return nil
}

func (s *hostSession) Mail(from string, _ *smtp.MailOptions) error {
	if from == "stranger@example.com" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "we do not know you"}
	}
	return s.b.answered("Mail", from)
}

func (s *hostSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to == "nobody@example.org" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody here"}
	}
	return s.b.answered("Rcpt", to)
}

func (s *hostSession) Meta() map[string]string {
	s.b.panicIn("Meta")
	return map[string]string{"tenant": "acme", "authn_id": s.user}
}

type hostAuthSession struct{ *hostSession }

func (s *hostAuthSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *hostAuthSession) Auth(string) (sasl.Server, error) {
	s.b.panicIn("Auth")
	return sasl.NewPlainServer(func(_, user, _ string) error {
		s.user = user
		return nil
	}), nil
}

// A wrapping is a way to put this package under a go-smtp server.
type wrapping struct {
	name          string
	listener      bool                            // WrapListener
	hidden        bool                            // connections that cannot be seen to be sockets
	over          func(net.Listener) net.Listener // of the host's, on top of that of WrapListener
	starttls, tls bool
	lmtp, auth    bool
	opts          Options
	configure     func(*smtp.Server)
	server        *smtp.Server
	wrapped       *WrappedListener
	backend       *hostBackend
	deferring     *wrappedBackend
	made          chan *wrapped // sessions
	addr          string
	pool          *tls.Config
	stop          func()
}

var wrappings = []wrapping{
	{name: "Wrap"},
	{name: "Wrap hidden", hidden: true},
	{name: "Wrap STARTTLS", starttls: true},
	{name: "Wrap hidden STARTTLS", hidden: true, starttls: true},
	{name: "WrapListener", listener: true},
	{name: "WrapListener STARTTLS", listener: true, starttls: true},
	{name: "WrapListener TLS", listener: true, tls: true},
	{name: "WrapListener covered", listener: true, over: hiding},
	{name: "WrapListener covered STARTTLS", listener: true, over: hiding, starttls: true},
	{name: "WrapListener covered TLS", listener: true, over: hiding, tls: true},
}

// start makes a go-smtp server whose content goes to h.
func (w *wrapping) start(h *host) {
	h.t.Helper()
	w.opts.DeferredQueue, w.opts.Logger = true, slog.New(slog.NewTextHandler(h.logs, nil))
	w.backend = &hostBackend{t: h.t, auth: w.auth}
	be, err := Wrap(w.backend, h.sched, &w.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	w.deferring, w.made = be.(*wrappedBackend), make(chan *wrapped, 100)
	w.server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s, err := be.NewSession(c)
		switch s := s.(type) {
		case *wrapped:
			w.made <- s
		case *wrappedAuth:
			w.made <- s.wrapped
		}
		return s, err
	}))
	w.server.Domain, w.server.LMTP, w.server.AllowInsecureAuth = "host.example", w.lmtp, true
	w.server.ErrorLog = errorLog{discardLogger()}
	cert, pool := certificate(h.t)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	w.pool = &tls.Config{RootCAs: pool, ServerName: "mx.example.com"}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	if w.hidden {
		ln = hidingListener{ln}
	}
	if w.listener {
		if w.wrapped, err = WrapListener(ln, &w.opts); err != nil {
			h.t.Fatal(err)
		}
		ln = w.wrapped
	}
	if w.over != nil {
		ln = w.over(ln)
	}
	if w.tls {
		ln = tls.NewListener(ln, cfg)
	}
	if w.starttls {
		w.server.TLSConfig = cfg
	}
	if w.configure != nil {
		w.configure(w.server)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		w.server.Serve(ln)
	}()
	w.stop = sync.OnceFunc(func() {
		w.server.Close()
		<-served
		w.server.Shutdown(context.Background()) // joins the connections
	})
	h.t.Cleanup(w.stop)
}

// A hidingListener stands for one of a host's, whose connections are wrapped.
type hidingListener struct{ net.Listener }

func hiding(ln net.Listener) net.Listener { return hidingListener{ln} }

func (l hidingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

// dial returns a client that has heard nothing yet, under TLS if it is implicit.
func (w *wrapping) dial(h *host) *client {
	h.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	if w.tls {
		conn = tls.Client(conn, w.pool)
	}
	return newClient(h.t, conn)
}

// connect returns a client that has said EHLO, under TLS if there is any.
func (w *wrapping) connect(h *host) *client {
	h.t.Helper()
	hello := "EHLO client.example"
	if w.lmtp {
		hello = "LHLO client.example"
	}
	c := w.dial(h)
	c.want("220 host.example")
	c.cmd(hello, "250")
	if w.starttls {
		c = c.startTLS(w.pool)
		c.cmd(hello, "250")
	}
	return c
}

// eachWrapping runs f for every way.
func eachWrapping(t *testing.T, with wrapping, f func(t *testing.T, h *host, w *wrapping)) {
	memory := func() (spool.Spool, *spool.Memory) {
		sp := spool.NewMemory()
		return sp, sp
	}
	eachWrappingOn(t, memory, with, f)
}

// eachWrappingOn is eachWrapping with spools that end up in memory.
func eachWrappingOn(t *testing.T, newSpool func() (spool.Spool, *spool.Memory), with wrapping, f func(t *testing.T, h *host, w *wrapping)) {
	for _, w := range wrappings {
		t.Run(w.name, func(t *testing.T) {
			w.lmtp, w.auth, w.opts, w.configure = with.lmtp, with.auth, with.opts, with.configure
			sp, memory := newSpool()
			h := newHostOn(t, sp, nil)
			h.sp = memory
			w.start(h)
			f(t, h, &w)
		})
	}
}

func TestWrap(t *testing.T) {
	eachWrapping(t, wrapping{auth: true}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.cmd("AUTH PLAIN AHVzZXIAeA==", "235")
		c.cmd("MAIL FROM:<stranger@example.com>", "550 5.7.1 we do not know you")
		c.envelope("a@example.org", "b@example.org")
		c.cmd("RCPT TO:<nobody@example.org>", "550 5.1.1 nobody here")
		c.cmd("DATA", "354")
		c.send("..dots\r\n" + plain + ".\r\n")
		reply := c.want("250 2.0.0 OK ids=")
		for range 2 {
			m := h.next()
			if m.body() != ".dots\r\n"+plain || !strings.Contains(reply, m.id.String()) {
				t.Errorf("reply %q, message %q", reply, m.content)
			}
			if m.meta["tenant"] != "acme" || m.meta["authn_id"] != "user" || m.meta["ehlo_domain"] != "client.example" ||
				m.meta["hostname"] != "host.example" || (w.tls || w.starttls) != (m.meta["tls_cipher"] != "") {
				t.Errorf("metadata %v", m.meta)
			}
			if m.env.Sender != "sender@example.com" || len(m.env.Recipients) != 1 {
				t.Errorf("envelope %+v", m.env)
			}
		}
		c.envelope("c@example.org")
		c.send("BDAT 4\r\nab\r\nBDAT 0\r\nBDAT 4 LAST\r\ncd\r\n")
		c.want("250")
		c.want("250")
		c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != "ab\r\ncd\r\n" {
			t.Errorf("message %q", m.content)
		}
		c.cmd("NOOP", "250")
		c.cmd("QUIT", "221")
		c.ended()
	})
}

// TestWrapFalseReply is TestFalseReply where go-smtp has the BDAT.
func TestWrapFalseReply(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		for range 20 {
			c.envelope("first@example.org")
			c.send("BDAT 0\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<second@example.org>\r\nBDAT 3\r\na\r\nBDAT 0\r\nBDAT 3 LAST\r\nb\r\n")
			for range 6 {
				c.want("250 2.")
			}
			got := c.want("250 2.0.0 OK ids=")
			if m := h.next(); m.body() != "a\r\nb\r\n" || !strings.Contains(got, m.id.String()) {
				t.Fatalf("reply %q, message %+v", got, m)
			}
			c.envelope("first@example.org")
			c.cmd("BDAT 5\r\none", "250")
			c.cmd("RSET", "250")
			c.envelope("second@example.org")
			c.send("BDAT 9 LAST\r\nbare\nLF\r\n")
			c.want("552 5.6.0")
		}
		c.cmd("NOOP", "250")
		h.stopScheduler()
		h.nothing()
	})
}

// TestWrapIncomplete: content that is cut off is no message, however it is.
func TestWrapIncomplete(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		for _, begin := range []string{"DATA\r\n", "BDAT 1000\r\n", "BDAT 1000 LAST\r\n"} {
			c := w.connect(h)
			c.envelope("a@example.org")
			c.send(begin + "Subject: half\r\n")
			if err := c.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if replies, _ := io.ReadAll(c.r); strings.Contains(string(replies), "ids=") {
				t.Errorf("%q: half of a message was accepted: %q", begin, replies)
			}
		}
		w.stop()
		h.stopScheduler()
		h.nothing()
	})
}

// TestWrapPipelined: what comes behind a BDAT LAST at once does no harm.
func TestWrapPipelined(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.envelope("a@example.org")
		c.send("BDAT 9000 LAST\r\n" + strings.Repeat("12345678\r\n", 900) + "QUIT\r\n")
		c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != strings.Repeat("12345678\r\n", 900) {
			t.Errorf("content of %d octets", len(m.content))
		}
	})
}

func TestWrapRefuses(t *testing.T) {
	eachWrapping(t, wrapping{opts: Options{Limits: Limits{MessageSize: 100}}}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		wantPrefix(t, c.data(strings.Repeat("12345678\r\n", 11), "a@example.org"), "552 5.3.4")
		wantPrefix(t, c.data("bare\nLF\r\n", "a@example.org"), "552 5.6.0")
		wantPrefix(t, c.data(strings.Repeat("x", 99)+"\r\n", "a@example.org"), "552 5.3.4")
		wantPrefix(t, c.data(strings.Repeat("12345678\r\n", 10), "a@example.org"), "250")
		h.next()
		h.sp.SetFull(true)
		c.cmd("MAIL FROM:<a@example.com>", "452 4.3.1")
		h.sp.SetFull(false)
		c.envelope("a@example.org")
		h.sp.SetFull(true)
		c.send("DATA\r\n")
		if reply, _ := c.reply(); strings.HasPrefix(reply, "354") {
			c.send("x\r\n.\r\n")
			c.want("452 4.3.1")
		} else {
			wantPrefix(t, reply, "452 4.3.1")
		}
		h.sp.SetFull(false)
		c.cmd("NOOP", "250")
		h.stopScheduler()
		h.nothing()
	})
}

func TestWrapLMTP(t *testing.T) {
	eachWrapping(t, wrapping{lmtp: true, opts: Options{}}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		for _, send := range []string{"DATA\r\n" + plain + ".\r\n", fmt.Sprintf("BDAT %d LAST\r\n%s", len(plain), plain)} {
			c.envelope("a@example.org", "b@example.org", "a@example.org")
			c.send(send)
			if send[0] == 'D' {
				c.want("354")
			}
			for _, rcpt := range []string{"a@example.org", "b@example.org", "a@example.org"} {
				reply := c.want("250 2.0.0 <" + rcpt + "> OK ids=")
				if m := h.next(); m.meta["reception_protocol"] != "LMTP" || m.body() != plain {
					t.Errorf("message %+v for %q", m, reply)
				}
			}
		}
	})
}

// TestWrapClose: go-smtp's Close may come while content is being stored; what is
// stored then is injected, once.
func TestWrapClose(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		h.sp.SetDelay(50 * time.Millisecond)
		c.send(plain + ".\r\n")
		time.Sleep(10 * time.Millisecond) // any moment is good
		w.stop()
		reply, _ := c.reply()
		h.stopScheduler()
		injected := len(h.got)
		stored := 0
		for range h.sp.Scan(context.Background(), spool.Query{}) {
			stored++
		}
		if strings.HasPrefix(reply, "250") && injected+stored != 1 || injected+stored > 1 {
			t.Errorf("reply %q, %d messages were injected and %d are stored", reply, injected, stored)
		}
	})
}

// TestWrapShutdown: idle connections end, transactions are awaited.
func TestWrapShutdown(t *testing.T) {
	for _, w := range wrappings {
		if !w.listener {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			h := newHost(t, nil)
			w.start(h)
			idle, busy := w.connect(h), w.connect(h)
			busy.envelope("a@example.org")
			done := make(chan error, 1)
			go func() { done <- w.wrapped.Shutdown(context.Background()) }()
			if reply, err := idle.reply(); err == nil {
				wantPrefix(t, reply, "421")
			}
			idle.ended()
			busy.cmd("DATA", "354")
			busy.send(plain + ".\r\n")
			busy.want("250 2.0.0 OK ids=")
			h.next()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if conn, err := net.Dial("tcp", w.addr); err == nil {
				conn.Close()
				t.Error("the listener is open behind Shutdown")
			}
		})
	}
}

func TestWrapErrors(t *testing.T) {
	h := newHost(t, nil)
	backend := &hostBackend{t: t}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, tt := range []struct {
		opts Options
		want string
	}{
		{Options{Addr: ":25"}, "Options.Addr"},
		{Options{Auth: Auth{Require: true}}, "Options.Auth"},
		{Options{LMTP: true}, "Options.LMTP"},
		{Options{Limits: Limits{Recipients: 5}}, "Options.Limits.Recipients"},
		{Options{Hostname: "not a name"}, "Hostname"},
	} {
		if _, err := Wrap(backend, h.sched, &tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Wrap: %v; want %s", err, tt.want)
		}
		if _, err := WrapListener(ln, &tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("WrapListener: %v; want %s", err, tt.want)
		}
	}
	if _, err := Wrap(nil, h.sched, nil); err == nil {
		t.Error("Wrap takes no backend")
	}
	if _, err := Wrap(backend, (*queue.Scheduler)(nil), nil); err == nil {
		t.Error("Wrap takes no Scheduler")
	}
	if _, err := WrapListener(nil, nil); err == nil {
		t.Error("WrapListener takes no listener")
	}
}
