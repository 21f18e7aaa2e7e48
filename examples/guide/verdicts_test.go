package guide

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
)

// judge has a verdict for each kind of mail.
func judge(_ context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err // whatever is no verdict is temporary
	}
	switch h.Get("Subject") {
	case "virus":
		return queue.Reject(554, "5.7.1 no viruses") // ends, with a bounce
	case "test":
		return queue.Drop("tests go nowhere") // ends, without one
	case "doubtful":
		return queue.Hold("ask the postmaster") // waits for an operator
	case "tomorrow":
		if m.Attempt == 1 {
			return queue.RetryAfter(24*time.Hour, errors.New("too early"))
		}
	}
	h.Prepend("X-Judged", "yes") // kept with the nil alone
	return nil
}

func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, judge, nil, nil)
		for _, subject := range []string{"virus", "test", "doubtful", "tomorrow", "hello"} {
			msg := "Subject: " + subject + "\n\nx\n"
			if err := srv.Send("app@example.com", []string{"ada@example.net"}, msg); err != nil {
				t.Fatal(err)
			}
		}
		srv.Advance(23 * time.Hour)
		want := func(typ queue.RecordType, n int) {
			t.Helper()
			if got := len(srv.Records(typ)); got != n {
				t.Errorf("%d records of type %s, want %d", got, typ, n)
			}
		}
		want(queue.Bounce, 1)
		want(queue.AdminBounce, 1)
		want(queue.TransientFailure, 2)
		want(queue.Delivery, 2) // "hello", in the deferred queue and in the next
		if held := srv.Scheduler().Stats().Held; held != 1 {
			t.Errorf("%d are held, want 1", held)
		}
		srv.Advance(2 * time.Hour)
		want(queue.Delivery, 4)
	})
}

// some has a verdict for each recipient.
func some(_ context.Context, m *deferred.Message) error {
	verdicts := make([]error, len(m.Envelope.Recipients))
	for i, r := range m.Envelope.Recipients {
		if strings.HasPrefix(r.Address, "unknown@") {
			verdicts[i] = queue.Reject(550, "5.1.1 no such user")
		}
	}
	return queue.Split(verdicts)
}

func TestSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, some, nil, &deferred.Options{DeferredQueue: true, Batch: queue.PerDomain})
		if err := srv.Send("app@example.com", []string{"ada@example.net", "unknown@example.net"}, "Subject: x\n\nx\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Second)
		if r := srv.Records(queue.Bounce); len(r) != 1 || len(r[0].Recipients) != 1 || r[0].Recipients[0] != "unknown@example.net" {
			t.Errorf("bounces: %+v", r)
		}
		if r := srv.Records(queue.Delivery); len(r) != 2 || r[0].Recipients[0] != "ada@example.net" {
			t.Errorf("deliveries: %+v", r)
		}
	})
}
