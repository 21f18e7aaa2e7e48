package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host is a smart host that does what a test says.
type host struct {
	t    *testing.T
	addr string
	srv  *smtp.Server

	mu       sync.Mutex
	conns    int
	got      []mail
	onMail   func(s *session) error
	onRcpt   func(s *session, to string) error
	onData   func(s *session) error // before the content
	onEnd    func(s *session) error // behind it, when it was taken
	user     string
	password string
}

// A mail is what the host has taken.
type mail struct {
	from, text string
	to         []string
	mailOpts   smtp.MailOptions
	rcptOpts   []smtp.RcptOptions
	tls, auth  bool
}

type session struct {
	h    *host
	conn *smtp.Conn
	mail mail
	auth bool
}

// startHost starts a smart host.
func startHost(t *testing.T, change func(*smtp.Server)) *host {
	t.Helper()
	h := &host{t: t}
	h.srv = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{h: h, conn: c}, nil
	}))
	h.srv.Domain, h.srv.ErrorLog = "smarthost.example", discard{}
	if change != nil {
		change(h.srv)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	done := make(chan struct{})
	go func() { h.srv.Serve(&countingListener{ln, h}); close(done) }()
	t.Cleanup(func() {
		h.srv.Close()
		<-done
	})
	return h
}

// A countingListener counts connections.
type countingListener struct {
	net.Listener
	h *host
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.h.mu.Lock()
		l.h.conns++
		l.h.mu.Unlock()
	}
	return c, err
}

func (h *host) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *host) mails() []mail {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]mail(nil), h.got...)
}

func (h *host) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

func (s *session) Reset()        { s.mail = mail{} }
func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.h.user || password != s.h.password {
			return errors.New("no")
		}
		s.auth = true
		return nil
	}), nil
}

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	_, isTLS := s.conn.TLSConnectionState()
	s.mail = mail{from: from, mailOpts: *o, tls: isTLS, auth: s.auth}
	s.h.mu.Lock()
	f := s.h.onMail
	s.h.mu.Unlock()
	if f != nil {
		return f(s)
	}
	return nil
}

func (s *session) Rcpt(to string, o *smtp.RcptOptions) error {
	s.h.mu.Lock()
	f := s.h.onRcpt
	s.h.mu.Unlock()
	if f != nil {
		if err := f(s, to); err != nil {
			return err
		}
	}
	s.mail.to, s.mail.rcptOpts = append(s.mail.to, to), append(s.mail.rcptOpts, *o)
	return nil
}

func (s *session) Data(r io.Reader) error {
	s.h.mu.Lock()
	before, behind := s.h.onData, s.h.onEnd
	s.h.mu.Unlock()
	if before != nil {
		if err := before(s); err != nil {
			return err
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mail.text = string(text)
	s.h.set(func() { s.h.got = append(s.h.got, s.mail) })
	if behind != nil {
		return behind(s)
	}
	return nil
}

// drop ends the connection.
func (s *session) drop() error {
	s.conn.Conn().Close()
	return errors.New("dropped")
}

// A running relay is one in a directory.
type running struct {
	*relay
	t    *testing.T
	dir  string
	stop func()
}

func testConfig(h *host, dir string) *config {
	return &config{
		host: h.addr, noTLS: true, listen: "127.0.0.1:0", metrics: "127.0.0.1:0", dir: dir, hostname: "relay.example",
		maxUses: 100, conns: 20, idle: time.Minute, dial: new(net.Dialer).DialContext, backoff: queue.Backoff{Base: 30 * time.Millisecond, Max: 200 * time.Millisecond},
		logger: slog.New(slog.DiscardHandler),
	}
}

func startRelay(t *testing.T, c *config) *running {
	t.Helper()
	r, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.serve(ctx) }()
	run := &running{relay: r, t: t, dir: c.dir}
	run.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-served, r.close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(run.stop)
	return run
}

// send hands in one message with all of its recipients.
func (r *running) send(env spool.Envelope, text string) spool.ID {
	r.t.Helper()
	tr, err := r.sched.Begin(r.t.Context(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer tr.Abort()
	if _, err := io.WriteString(tr, text); err != nil {
		r.t.Fatal(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Envelope: env}
	if err := tr.Commit(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
	tr.HandOver()
	return e.ID
}

// ends follows the records until n messages have ended, and returns these records.
func (r *running) ends(n int) (ends []queue.Record) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	for it, err := range recordlog.Follow(ctx, r.dir+"/records", nil) {
		if err != nil {
			r.t.Fatal(err)
		}
		if isEnd(&it.Record) {
			if ends = append(ends, it.Record); len(ends) == n {
				return ends
			}
		}
	}
	r.t.Fatalf("only %d of %d messages have ended: %+v", len(ends), n, r.sched.Stats().Queues)
	return nil
}

// isEnd reports whether a record is that of a message's end here.
func isEnd(r *queue.Record) bool {
	switch r.Type {
	case queue.Bounce, queue.Expiration, queue.AdminBounce:
		return true
	case queue.Delivery:
		return r.Queue != queue.Deferred
	}
	return false
}

func to(addrs ...string) (env spool.Envelope) {
	env.Sender = "app@example.org"
	for _, a := range addrs {
		env.Recipients = append(env.Recipients, spool.Recipient{Address: a})
	}
	return env
}

const text = "From: <app@example.org>\r\nSubject: Hello\r\n\r\nHello.\r\n.dot\r\n"

func reply(code int, enhanced smtp.EnhancedCode, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// newCertificate returns one for 127.0.0.1, and who vouches for it.
func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func httpGet(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
