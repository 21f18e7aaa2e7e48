package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	netsmtp "net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
)

// TestDelivers: content arrives as it was, over few connections.
func TestDelivers(t *testing.T) {
	h := startHost(t, nil)
	r := startRelay(t, testConfig(h, t.TempDir()))
	for i := range 50 {
		r.send(to(fmt.Sprintf("%d@example.com", i)), text)
	}
	r.ends(50)
	got := h.mails()
	if len(got) != 50 || got[0].text != text || got[0].from != "app@example.org" {
		t.Fatalf("%d mails, the first %+v", len(got), got[0])
	}
	if n := h.connections(); n > 8 {
		t.Errorf("%d connections for 50 messages, want 8 at most", n)
	}
	metrics := httpGet(t, "http://"+r.metricsAddr+"/metrics")
	if !strings.Contains(metrics, "deferredqueue_messages_received_total 50\n") {
		t.Error("the metrics do not say so")
	}
}

// TestVerdicts: each recipient of one message gets what the smart host says.
func TestVerdicts(t *testing.T) {
	h := startHost(t, nil)
	tries := 0
	h.set(func() {
		h.onRcpt = func(_ *session, rcpt string) error {
			switch {
			case strings.HasPrefix(rcpt, "no"):
				return reply(550, smtp.EnhancedCode{5, 1, 1}, "no such user")
			case strings.HasPrefix(rcpt, "later"):
				if tries++; tries < 3 {
					return reply(450, smtp.EnhancedCode{4, 2, 1}, "busy")
				}
			}
			return nil
		}
	})
	r := startRelay(t, testConfig(h, t.TempDir()))
	id := r.send(to("no@example.com", "yes@example.com", "later@example.com"), text)
	found := map[string]queue.RecordType{}
	for _, rec := range r.ends(4) { // and the notice
		found[rec.Recipients[0]] = rec.Type
	}
	if found["no@example.com"] != queue.Bounce || found["yes@example.com"] != queue.Delivery || found["later@example.com"] != queue.Delivery {
		t.Errorf("%v", found)
	}
	notices, copies := 0, map[string]int{}
	for _, m := range h.mails() {
		if m.from == "" {
			notices++
			if m.to[0] != "app@example.org" || !strings.Contains(m.text, "Diagnostic-Code: smtp; 550 5.1.1 no such user") || strings.Contains(m.text, "yes@") {
				t.Errorf("the notice is %+v", m)
			}
			continue
		}
		for _, rcpt := range m.to {
			copies[rcpt]++
		}
	}
	if notices != 1 || copies["yes@example.com"] != 1 || copies["later@example.com"] != 1 {
		t.Errorf("message %s: %d notices, copies %v", id, notices, copies)
	}
}

// TestRefusals: the replies at each step, and what they mean.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		step string
		err  error
		want queue.RecordType
	}{
		{"mail", reply(550, smtp.EnhancedCode{5, 7, 1}, "no"), queue.Bounce},
		{"mail", reply(451, smtp.EnhancedCode{4, 3, 0}, "later"), queue.Delivery},
		{"mail", reply(421, smtp.EnhancedCode{4, 3, 2}, "going down"), queue.Delivery},
		{"mail", reply(530, smtp.EnhancedCode{5, 7, 0}, "authenticate first"), queue.Delivery}, // blames us
		{"rcpt", reply(550, smtp.EnhancedCode{5, 1, 1}, "no"), queue.Bounce},
		{"rcpt", reply(452, smtp.EnhancedCode{4, 5, 3}, "later"), queue.Delivery},
		{"data", reply(554, smtp.EnhancedCode{5, 6, 0}, "no"), queue.Bounce},
		{"data", reply(451, smtp.EnhancedCode{4, 6, 0}, "later"), queue.Delivery},
	} {
		t.Run(fmt.Sprint(tt.step, " ", tt.err), func(t *testing.T) {
			h := startHost(t, nil)
			var once sync.Once
			fail := func(s *session) (err error) {
				if s.mail.from == "" {
					return nil
				}
				once.Do(func() { err = tt.err })
				return err
			}
			h.set(func() {
				switch tt.step {
				case "mail":
					h.onMail = fail
				case "rcpt":
					h.onRcpt = func(s *session, _ string) error { return fail(s) }
				case "data":
					h.onData = fail
				}
			})
			r := startRelay(t, testConfig(h, t.TempDir()))
			r.send(to("b@example.com"), text)
			if got := r.ends(1)[0]; got.Type != tt.want {
				t.Errorf("%s %+v, want %s", got.Type, got.Response, tt.want)
			}
		})
	}
}

// TestDropped: connections that end at any point cost time, and no mail; behind the
// last dot a message may arrive twice, and else never.
func TestDropped(t *testing.T) {
	for _, step := range []string{"mail", "rcpt", "data", "end"} {
		t.Run(step, func(t *testing.T) {
			h := startHost(t, nil)
			left := 5
			drop := func(s *session) error {
				if rand.IntN(2) == 0 && left > 0 {
					left--
					return s.drop()
				}
				return nil
			}
			var mu sync.Mutex
			guarded := func(s *session) error {
				mu.Lock()
				defer mu.Unlock()
				return drop(s)
			}
			h.set(func() {
				switch step {
				case "mail":
					h.onMail = guarded
				case "rcpt":
					h.onRcpt = func(s *session, _ string) error { return guarded(s) }
				case "data":
					h.onData = guarded
				case "end":
					h.onEnd = guarded
				}
			})
			r := startRelay(t, testConfig(h, t.TempDir()))
			const n = 20
			for i := range n {
				r.send(to(fmt.Sprintf("%d@example.com", i)), text)
			}
			for _, rec := range r.ends(n) {
				if rec.Type != queue.Delivery {
					t.Errorf("%s %v: %+v", rec.Type, rec.Recipients, rec.Response)
				}
			}
			copies := map[string]int{}
			for _, m := range h.mails() {
				copies[m.to[0]]++
			}
			more := 0
			for _, c := range copies {
				more += c - 1
			}
			if len(copies) != n || step != "end" && more > 0 || more > 5 {
				t.Errorf("%d of %d arrived, %d of them again", len(copies), n, more)
			}
		})
	}
}

// TestIdleConnection: one that the smart host has closed meanwhile costs no attempt.
func TestIdleConnection(t *testing.T) {
	h := startHost(t, nil)
	r := startRelay(t, testConfig(h, t.TempDir()))
	r.send(to("1@example.com"), text)
	r.ends(1)
	var once atomic.Bool
	h.set(func() {
		h.onMail = func(s *session) error {
			if once.Swap(true) {
				return nil
			}
			return s.drop()
		}
	})
	r.send(to("2@example.com"), text)
	r.ends(2)
	if n := r.sched.Stats().Outcomes[queue.TransientFailure]; n != 0 || h.connections() != 2 {
		t.Errorf("%d attempts failed, %d connections", n, h.connections())
	}
}

func TestMaxUses(t *testing.T) {
	h := startHost(t, nil)
	c := testConfig(h, t.TempDir())
	c.maxUses = 2
	r := startRelay(t, c)
	for i := range 6 {
		r.send(to(fmt.Sprintf("%d@example.com", i)), text)
		r.ends(i + 1)
	}
	if n := h.connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// TestTLSAndAuth: in clear nothing is said to a host that should speak TLS.
func TestTLSAndAuth(t *testing.T) {
	cert, roots := newCertificate(t)
	h := startHost(t, func(s *smtp.Server) { s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}} })
	h.user, h.password = "relay", "secret"
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testConfig(h, filepath.Join(dir, "fine"))
	c.noTLS, c.roots, c.user, c.passwordFile = false, roots, "relay", file
	r := startRelay(t, c)
	r.send(to("b@example.com"), text)
	r.ends(1)
	if got := h.mails(); len(got) != 1 || !got[0].tls || !got[0].auth {
		t.Errorf("%+v", got)
	}
	plain := startHost(t, nil)
	d := *c
	d.host, d.dir = plain.addr, filepath.Join(dir, "no TLS")
	stranger := *c
	stranger.roots, stranger.dir = nil, filepath.Join(dir, "a stranger")
	for _, c := range []*config{&d, &stranger} {
		r := startRelay(t, c)
		r.send(to("b@example.com"), text)
		for end := time.Now().Add(20 * time.Second); r.sched.Stats().Outcomes[queue.TransientFailure] == 0; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no attempt failed")
			}
		}
		r.stop()
	}
	if len(plain.mails()) != 0 || len(h.mails()) != 1 {
		t.Error("mail was sent in clear, or to a stranger")
	}
}

// TestHangs: a smart host that says nothing holds nobody up for longer than the
// deadline.
func TestHangs(t *testing.T) {
	h := startHost(t, nil)
	reached, release := make(chan struct{}), make(chan struct{})
	h.set(func() {
		h.onData = func(*session) error {
			close(reached)
			<-release
			return nil
		}
	})
	c := testConfig(h, t.TempDir())
	r, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	d := &delivery{pool: r.pool, hostname: "relay.example", logger: c.logger}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := deferredtest.NewMessage(t, to("b@example.com"), text)
	delivered := make(chan error, 1)
	go func() { delivered <- d.deliver(ctx, m) }()
	<-reached // it has the content, and says nothing
	cancel()
	if err := <-delivered; err == nil {
		t.Error("delivered")
	}
	close(release)
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

// TestRestart: what is queued when the relay stops goes out when it starts again.
func TestRestart(t *testing.T) {
	h := startHost(t, nil)
	h.set(func() { h.onMail = func(*session) error { return reply(451, smtp.EnhancedCode{4, 0, 0}, "not yet") } })
	dir := t.TempDir()
	r := startRelay(t, testConfig(h, dir))
	for i := range 10 {
		r.send(to(fmt.Sprintf("%d@example.com", i)), text)
	}
	r.stop()
	h.set(func() { h.onMail = nil })
	again := startRelay(t, testConfig(h, dir))
	again.ends(10)
	if n := len(h.mails()); n != 10 {
		t.Errorf("%d mails arrived, want 10", n)
	}
}

func TestOnce(t *testing.T) {
	var out bytes.Buffer
	c, err := parse([]string{"-once"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Bounce           example.net", "TransientFailure example.net", "Delivery         example.org"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestConfig(t *testing.T) {
	for _, args := range []string{"", "-host nowhere", "-host x:25 -user me -no-tls", "-host x:25 more", "-host x:25 -conns 0", "-host x:25 -relay-hosts 10.0.0.1", "-frob"} {
		if _, err := parse(strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	if c, err := parse([]string{"-host", "mail.example:25"}, &bytes.Buffer{}); err != nil || c.clientTLS().ServerName != "mail.example" || c.dir != "relay-data" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestRelayHosts: beyond this machine mail is taken only from whom the operator named.
func TestRelayHosts(t *testing.T) {
	h := startHost(t, nil)
	relayOf := func(args ...string) *config {
		c, err := parse(append(args, "-host", h.addr, "-listen", "0.0.0.0:0"), &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		test := testConfig(h, t.TempDir())
		test.listen, test.relayHosts = c.listen, c.relayHosts
		return test
	}
	if r, err := open(relayOf()); err == nil {
		r.close()
		t.Error("it listens to everybody, and nobody said who may send")
	}
	for hosts, want := range map[string]string{"192.0.2.0/24, 127.0.0.0/8": "", "192.0.2.0/24": "5.7.1"} {
		r := startRelay(t, relayOf("-relay-hosts", hosts))
		_, port, _ := net.SplitHostPort(r.addr)
		err := netsmtp.SendMail("127.0.0.1:"+port, nil, "app@example.org", []string{"b@example.com"}, []byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("-relay-hosts %s: %v, want %q", hosts, err, want)
		}
	}
}

// TestIdleAfterReset: what the smart host offers is known of a connection whose last
// transaction was given up, and which has been closed since.
func TestIdleAfterReset(t *testing.T) {
	h := startHost(t, func(s *smtp.Server) { s.EnableSMTPUTF8 = true })
	conns := make(chan *smtp.Conn, 1)
	h.set(func() {
		h.onRcpt = func(s *session, to string) error {
			if to != "nobody@example.com" {
				return nil
			}
			conns <- s.conn
			return reply(550, smtp.EnhancedCode{5, 1, 1}, "no such user")
		}
	})
	r := startRelay(t, testConfig(h, t.TempDir()))
	quiet := to("nobody@example.com")
	quiet.Recipients[0].Notify = []string{"NEVER"}
	r.send(quiet, text)
	r.ends(1)
	for r.sched.Stats().Running > 0 {
		time.Sleep(time.Millisecond)
	}
	(<-conns).Conn().Close()
	env := to("ä@example.com")
	env.SMTPUTF8 = true
	id := r.send(env, text)
	for _, rec := range r.ends(2) {
		if rec.ID == id && rec.Type != queue.Delivery {
			t.Errorf("%s %d %s", rec.Type, rec.Response.Code, rec.Response.Content)
		}
	}
}

// TestSenderOfNoQueue: a notice of success that can go nowhere does not have the message
// sent again.
func TestSenderOfNoQueue(t *testing.T) {
	h := startHost(t, nil)
	r := startRelay(t, testConfig(h, t.TempDir()))
	env := to("b@example.com")
	env.Sender = "a@" + queue.Deferred
	env.Recipients[0].Notify = []string{"SUCCESS"}
	r.send(env, text)
	r.ends(1)
	if n, failed := len(h.mails()), r.sched.Stats().Outcomes[queue.TransientFailure]; n != 1 || failed != 0 {
		t.Errorf("taken %d times, %d attempts failed", n, failed)
	}
}
