package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// serve runs the policy, and a handler that keeps what would be sent. after, if not
// nil, is a step behind it.
func serve(t *testing.T, dir directory, after deferred.Handler) (*deferredtest.Server, *outbox) {
	t.Helper()
	return serveWith(t, dir, after, &deferred.Options{DeferredQueue: true})
}

func serveWith(t *testing.T, dir directory, after deferred.Handler, opts *deferred.Options) (*deferredtest.Server, *outbox) {
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
	return deferredtest.Serve(t, sched, opts), sent
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
