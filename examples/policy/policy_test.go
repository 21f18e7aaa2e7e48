package main

// How to test a policy. Each test shows one thing; all of them speak real SMTP, in
// memory, and time is virtual: an hour of retries takes milliseconds.

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/smtp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

const news = "From: <news@acme.example>\nTo: <you@example.net>\nSubject: News\nX-Tenant: Acme\nX-Campaign: Spring\n\nHello.\n"

var to = []string{"you@example.net"}

// newKey makes a key of a domain for tests.
func newKey(t testing.TB, domain string) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{domain: domain, selector: "s1", private: private}
}

func acme(t testing.TB) *tenant {
	return &tenant{name: "acme", domains: []string{"acme.example"}, key: newKey(t, "acme.example")}
}

// Lesson 1: a callback is a function. What it returns and what it leaves in the
// message can be seen without any server.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		from    string
		content string
		change  func(*tenant)
		want    queue.RecordType // what the result means
		text    string           // in the error
	}{
		{"passes", "news@acme.example", news, nil, queue.Delivery, ""},
		{"without a tenant", "news@acme.example", "Subject: x\n\nx\n", nil, queue.Bounce, "X-Tenant is missing"},
		{"from nobody, without one", "", "Subject: x\n\nx\n", nil, queue.Bounce, "X-Tenant is missing"},
		{"with an unknown one", "news@acme.example", "X-Tenant: nobody\n\nx\n", nil, queue.Bounce, "no tenant"},
		{"as the service", "", "X-Tenant: Service\nFrom: <x@mail.example>\n\nx\n", nil, queue.Bounce, "no tenant"},
		{"from another's domain", "boss@bank.example", news, nil, queue.Bounce, "not of a domain of tenant acme"},
		{"from one in quotes", `"x@acme.example"@bank.example`, news, nil, queue.Bounce, "not of a domain of tenant acme"},
		{"under review", "news@acme.example", news, func(t *tenant) { t.review = true }, queue.TransientFailure, "hold: "},
		{"of a closed account", "news@acme.example", news, func(t *tenant) { t.closed = true }, queue.AdminBounce, "closed"},
		{"over quota", "news@acme.example", news, func(t *tenant) { t.pausedUntil = time.Now().Add(time.Hour) }, queue.TransientFailure, "quota"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := acme(t)
			if tt.change != nil {
				tt.change(a)
			}
			p := &policy{tenants: static{"acme": a}}
			m := deferredtest.NewMessage(t, spool.Envelope{Sender: tt.from, Recipients: []spool.Recipient{{Address: to[0]}}}, tt.content)
			err := p.inject(t.Context(), m)
			if got, _ := queue.ResultOf(err); got != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: %v, want %s with %q", got, err, tt.want, tt.text)
			}
		})
	}
}

// Lesson 2: from the 250 to the next queue. The queue is made of what the policy put
// into the metadata, and the fields that it read are gone.
func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := acme(t)
		a.ownRoute = "fast.example"
		srv, sent := serve(t, static{"acme": a}, nil)
		if err := srv.Send("news@acme.example", to, news); err != nil {
			t.Fatal(err)
		}
		if got := sent.all(); len(got) != 1 || got[0].queue != "spring:acme@example.net!fast.example" {
			t.Fatalf("%+v was sent", got)
		}
		if text := sent.all()[0].text; strings.Contains(text, "X-Tenant") || strings.Contains(text, "X-Campaign") {
			t.Errorf("what is for us alone went out:\n%s", text)
		}
	})
}

// Lesson 3: an outage costs time and no mail. The clients get their 250 meanwhile,
// and what was accepted goes out when the directory is back.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := &failing{directory: static{"acme": acme(t)}, err: errors.New("connection refused")}
		srv, sent := serve(t, dir, nil)
		if err := srv.Send("news@acme.example", to, news); err != nil {
			t.Fatal(err) // the directory is down, and the answer is 250
		}
		srv.Advance(time.Hour)
		if n := len(srv.Records(queue.TransientFailure)); n != 6 { // after 0, 1, 3, 7, 15 and 31 minutes
			t.Errorf("%d attempts failed, want 6", n)
		}
		dir.err = nil
		srv.Advance(time.Hour)
		if got := sent.all(); len(got) != 1 {
			t.Errorf("%d messages were sent, want 1", len(got))
		}
	})
}

// Lesson 4: a failed attempt leaves nothing behind. However often the last step
// fails, there is one signature in the end, and it is valid.
func TestSignedOnce(t *testing.T) {
	for name, private := range map[string]crypto.Signer{"Ed25519": newKey(t, "acme.example").private, "RSA": newRSA(t)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := acme(t)
				a.key.private = private
				attempts := 0
				after := func(context.Context, *deferred.Message) error { // a step behind the signature
					if attempts++; attempts < 4 {
						return errors.New("not yet")
					}
					return nil
				}
				srv, sent := serve(t, static{"acme": a}, after)
				if err := srv.Send("news@acme.example", to, news); err != nil {
					t.Fatal(err)
				}
				srv.Advance(time.Hour)
				got := sent.all()
				if len(got) != 1 || strings.Count(got[0].text, "DKIM-Signature:") != 1 {
					t.Fatalf("%d attempts, sent: %+v", attempts, got)
				}
				verify(t, got[0].text, a.key)
			})
		})
	}
}

// Lesson 5: held messages wait for somebody, and go on from where they were.
func TestHoldAndRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := acme(t)
		a.review = true
		srv, sent := serve(t, static{"acme": a}, nil)
		if err := srv.Send("news@acme.example", to, news); err != nil {
			t.Fatal(err)
		}
		srv.Advance(30 * 24 * time.Hour)
		if len(sent.all()) != 0 || srv.Scheduler().Stats().Held != 1 {
			t.Fatal("it is not held")
		}
		a.review = false
		if _, err := srv.Scheduler().Admin().Release(t.Context(), queue.Filter{All: true}, "looked at"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Minute)
		if len(sent.all()) != 1 {
			t.Error("it was not sent after its release")
		}
	})
}

// Lesson 6: a bug does not let mail pass. A panic is a failed attempt like others.
func TestFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, sent := serve(t, static{"acme": acme(t)}, func(context.Context, *deferred.Message) error { panic("a bug") })
		if err := srv.Send("news@acme.example", to, news); err != nil {
			t.Fatal(err)
		}
		srv.Advance(8 * 24 * time.Hour)
		r := srv.Records(queue.Expiration)
		if len(sent.all()) != 0 || len(r) != 1 || !strings.Contains(r[0].Response.Content, "a bug") {
			t.Errorf("sent %d, records %v", len(sent.all()), r)
		}
	})
}

// Lesson 7: what can be said before the 250 is said in a hook, and the client hears it.
func TestRefusedAtRcpt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := &deferred.Options{DeferredQueue: true}
		opts.Hooks.Rcpt = func(_ context.Context, _ *deferred.Session, rcpt *spool.Recipient) error {
			if strings.HasSuffix(rcpt.Address, "@blocked.example") {
				return deferred.Reject(550, "5.7.1 not there")
			}
			return nil
		}
		srv := deferredtest.Start(t, func(context.Context, *deferred.Message) error { return nil }, opts)
		err := srv.Send("news@acme.example", []string{"you@blocked.example"}, news)
		if err == nil || !strings.Contains(err.Error(), "not there") {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}

// Lesson 8: the end of a message's life, a week later.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := serve(t, &failing{err: errors.New("gone for good")}, nil)
		if err := srv.Send("news@acme.example", to, news); err != nil {
			t.Fatal(err)
		}
		srv.Advance(8 * 24 * time.Hour)
		r := srv.Records(queue.Expiration)
		if len(r) != 1 || !strings.Contains(r[0].Response.Content, "gone for good") {
			t.Errorf("%v", r)
		}
	})
}

// Lesson 9: the notice to a sender passes the policy like other mail, and is signed by
// the service itself.
func TestNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &tenant{name: ownTenant, domains: []string{"mail.example"}, key: newKey(t, "mail.example")}
		srv, sent := serve(t, static{ownTenant: own}, nil)
		if err := srv.Send("news@acme.example", to, news); err != nil { // of a tenant that is not there
			t.Fatal(err)
		}
		got := sent.all()
		if len(got) != 1 || got[0].queue != "service@acme.example" || !strings.Contains(got[0].text, "report-type=delivery-status") {
			t.Fatalf("%+v was sent", got)
		}
		verify(t, got[0].text, own.key)
	})
}

// Lesson 10: a signature vouches for the domain in From, so that is what is checked, and
// not only the sender of the envelope, of which the reader sees nothing. A bounce or an
// automatic reply of a tenant's has none, and passes.
func TestFrom(t *testing.T) {
	for _, tt := range []struct{ name, header, refused string }{
		{"its own", "From: Acme <news@acme.example>\n", ""},
		{"in another case, of several lines", "From: =?windows-1252?Q?Caf=E9?=\n <news@ACME.example>, x@acme.example\n", ""},
		{"another's", "From: <ceo@bank.example>\n", "From: ceo@bank.example is not of a domain of tenant acme"},
		{"another's too", "From: x@acme.example, ceo@bank.example\n", "From: ceo@bank.example"},
		{"another's, in quotes", "From: \"x@acme.example\"@bank.example\n", "@bank.example is not"},
		{"another's behind a name", "From: \"x@acme.example\" <ceo@bank.example>\n", "From: ceo@bank.example"},
		{"two fields", "From: x@acme.example\nFrom: ceo@bank.example\n", "2 fields From"},
		{"none", "", "0 fields From"},
		{"no address", "From: Acme\n", "no address in From"},
	} {
		for _, sender := range []string{"news@acme.example", ""} {
			a := acme(t)
			p := &policy{tenants: static{"acme": a}}
			env := spool.Envelope{Sender: sender, Recipients: []spool.Recipient{{Address: to[0]}}}
			m := deferredtest.NewMessage(t, env, tt.header+"X-Tenant: acme\n\nHello.\n")
			err := p.inject(t.Context(), m)
			if tt.refused != "" {
				if typ, _ := queue.ResultOf(err); typ != queue.Bounce || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%s, sender <%s>: %v", tt.name, sender, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, sender <%s>: %v", tt.name, sender, err)
				continue
			}
			var signed outbox
			signed.deliver(t.Context(), m)
			verify(t, signed.sent[0].text, a.key)
		}
	}
}

// Lesson 11: what the program is set up with can be tested, too. No tenant signs with
// the key of another, and each for a domain that it owns.
func TestKeys(t *testing.T) {
	p, err := newPolicy("")
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{}
	for name, tenant := range p.tenants.(static) {
		_, public, err := tenant.key.record()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := records[public]; ok || !tenant.owns("x@"+tenant.key.domain) {
			t.Errorf("%s signs for %s, and with the key of %q", name, tenant.key.domain, other)
		}
		records[public] = name
	}
}

// Lesson 12: whoever has logged in is who they are, whatever the message says.
func TestAuthenticated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := &deferred.Options{DeferredQueue: true}
		opts.Auth.AllowPlaintext = true
		opts.Auth.Password = func(_ context.Context, s *deferred.Session, _, user, _ string) error {
			s.Meta["tenant"] = user
			return nil
		}
		rival := &tenant{name: "rival", domains: []string{"rival.example"}, key: newKey(t, "rival.example")}
		srv, sent := serveWith(t, static{"acme": acme(t), "rival": rival}, nil, opts)
		for _, from := range []string{"news@acme.example", "news@rival.example"} { // both say X-Tenant: acme
			conn, err := srv.Dial()
			if err != nil {
				t.Fatal(err)
			}
			c, err := smtp.NewClient(conn, "localhost")
			if err != nil {
				t.Fatal(err)
			}
			msg := strings.Replace(news, "news@acme.example", from, 1)
			if err := sendAs(c, "rival", from, msg); err != nil {
				t.Fatal(err)
			}
		}
		srv.Advance(time.Second)
		got := sent.all()
		if len(got) != 1 || got[0].queue != "spring:rival@example.net" || strings.Contains(got[0].text, "X-Tenant") {
			t.Fatalf("%+v was sent", got)
		}
		verify(t, got[0].text, rival.key)
	})
}

// sendAs logs in and sends.
func sendAs(c *smtp.Client, user, from, msg string) error {
	defer c.Close()
	if err := c.Auth(smtp.PlainAuth("", user, "secret", "localhost")); err != nil {
		return err
	}
	if err := errors.Join(c.Mail(from), c.Rcpt(to[0])); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, msg)
	return errors.Join(err, w.Close(), c.Quit())
}
