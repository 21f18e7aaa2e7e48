package main

// How to test a policy. Each test shows one thing; all of them speak real SMTP, in
// memory, and time is virtual: an hour of retries takes milliseconds.

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

const news = "From: <news@acme.example>\nTo: <you@example.net>\nSubject: News\nX-Tenant: Acme\nX-Campaign: Spring\n\nHello.\n"

var to = []string{"you@example.net"}

// newKey makes a key for tests.
func newKey(t testing.TB) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{domain: "acme.example", selector: "s1", private: private}
}

func acme(t testing.TB) *tenant {
	return &tenant{name: "acme", domains: []string{"acme.example"}, key: newKey(t)}
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
		{"from another's domain", "boss@bank.example", news, nil, queue.Bounce, "no domain of tenant acme"},
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
	for name, private := range map[string]crypto.Signer{"Ed25519": newKey(t).private, "RSA": newRSA(t)} {
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
		own := &tenant{name: ownTenant, key: newKey(t)}
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

// serve runs the policy, and a handler that keeps what would be sent. after, if not
// nil, is a step behind it.
func serve(t *testing.T, dir directory, after deferred.Handler) (*deferredtest.Server, *outbox) {
	t.Helper()
	p, sent, rec := &policy{tenants: dir}, &outbox{}, &deferredtest.Recorder{}
	sched, err := queue.NewScheduler(spool.NewMemory(), func(ctx context.Context, m *deferred.Message) error {
		if err := p.inject(ctx, m); err != nil || after == nil {
			return err
		}
		return after(ctx, m)
	}, &queue.Options{Record: rec.Record, Notices: &queue.NoticeOptions{ReportingMTA: "mail.example", DelayAfter: -1}, Configure: func(string) queue.Config {
		return queue.Config{Backoff: queue.Backoff{Jitter: -1}} // so that times are exact
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.Handle("*", sent.deliver); err != nil {
		t.Fatal(err)
	}
	return deferredtest.Serve(t, sched, &deferred.Options{DeferredQueue: true}), sent
}

// An outbox keeps what was sent.
type outbox struct{ sent []sentMessage }

type sentMessage struct{ queue, text string }

func (o *outbox) deliver(_ context.Context, m *deferred.Message) error {
	content, err := m.Open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	o.sent = append(o.sent, sentMessage{m.Queue, string(text)})
	return nil
}

func (o *outbox) all() []sentMessage { return slices.Clone(o.sent) }

// failing is a directory that can be down.
type failing struct {
	directory
	err error
}

func (f *failing) find(ctx context.Context, name string) (*tenant, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.directory.find(ctx, name)
}

// verify checks the signature, with the key from a DNS that is a function.
func verify(t *testing.T, text string, k key) {
	t.Helper()
	name, value, err := k.record()
	if err != nil {
		t.Fatal(err)
	}
	got, err := dkim.VerifyWithOptions(bytes.NewReader([]byte(text)), &dkim.VerifyOptions{LookupTXT: func(domain string) ([]string, error) {
		if domain != name {
			return nil, errors.New("no such name: " + domain)
		}
		return []string{value}, nil
	}})
	if err != nil || len(got) != 1 || got[0].Err != nil || got[0].Domain != k.domain {
		t.Errorf("verified as %+v, %v:\n%s", got, err, text)
	}
}

func newRSA(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
