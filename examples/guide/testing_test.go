package guide

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// tag is the policy under test.
func tag(_ context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	if h.Get("Subject") == "" {
		return deferred.Reject(554, "5.6.0 no subject")
	}
	h.Prepend("X-Tag", "seen")
	return nil
}

func TestTag(t *testing.T) {
	env := spool.Envelope{Sender: "app@example.com", Recipients: []spool.Recipient{{Address: "ada@example.net"}}}
	m := deferredtest.NewMessage(t, env, "Subject: hello\n\nHello.\n")
	if err := tag(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	h, err := m.Header()
	if err != nil || h.Get("X-Tag") != "seen" {
		t.Errorf("X-Tag: %q, %v", h.Get("X-Tag"), err)
	}
	m = deferredtest.NewMessage(t, env, "\nHello.\n")
	if typ, r := queue.ResultOf(tag(t.Context(), m)); typ != queue.Bounce || r.Code != 554 {
		t.Errorf("without a subject: %s %+v", typ, r)
	}
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, tag, nil)
		srv.Spool.SetFull(true)
		err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: hello\n\nHello.\n")
		if err == nil || !strings.Contains(err.Error(), "452") {
			t.Errorf("a full disk: %v", err)
		}
		srv.Spool.SetFull(false)
		srv.Advance(time.Minute)
		if err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: hello\n\nHello.\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Second)
		if n := len(srv.Records(queue.Delivery)); n != 1 {
			t.Errorf("%d deliveries, want 1", n)
		}
	})
}
