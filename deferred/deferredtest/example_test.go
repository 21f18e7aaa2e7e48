package deferredtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

const msg = "From: a@example.com\nTo: b@example.net\nSubject: hello\n\nA line.\n"

// A look-up that is broken for the first hour costs the message time, not its
// life. The hour takes milliseconds.
func TestPolicySurvivesAnHourWithoutDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		srv := deferredtest.Start(t, func(ctx context.Context, m *deferred.Message) error {
			if time.Since(start) < time.Hour {
				return errors.New("looking up the key: timeout")
			}
			return nil
		}, nil)
		if err := srv.Send("a@example.com", []string{"b@example.net"}, msg); err != nil {
			t.Fatal(err)
		}
		srv.Advance(2 * time.Hour)
		failed, delivered := srv.Records(queue.TransientFailure), srv.Records(queue.Delivery)
		if len(failed) != 6 || len(delivered) != 1 { // after 0, 1, 3, 7, 15, 31 and 63 minutes
			t.Errorf("%d failures, %d deliveries", len(failed), len(delivered))
		}
	})
}

// A callback is a function: it can be called without a server.
func TestPolicyByItself(t *testing.T) {
	env := spool.Envelope{Sender: "a@example.com", Recipients: []spool.Recipient{{Address: "b@example.net"}}}
	m := deferredtest.NewMessage(t, env, msg)
	if err := stamp(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	h, err := m.Header()
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Get("X-Stamp"); got != "hello" {
		t.Errorf("X-Stamp: %q", got)
	}
}

// stamp is the policy of the example.
func stamp(_ context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	h.Prepend("X-Stamp", h.Get("Subject"))
	return nil
}

// What follows the policy is tested with it: Serve takes a Scheduler with its
// handlers.
func TestPolicyAndRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sched, err := queue.NewScheduler(spool.NewMemory(), stamp, nil)
		if err != nil {
			t.Fatal(err)
		}
		var relayed string
		err = sched.Handle("*", func(_ context.Context, m *deferred.Message) error {
			body, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(body)
			relayed = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		srv := deferredtest.Serve(t, sched, nil)
		if err := srv.Send("a@example.com", []string{"b@example.net"}, msg); err != nil {
			t.Fatal(err)
		}
		if want := "X-Stamp: hello\r\n"; len(relayed) < len(want) || relayed[:len(want)] != want {
			t.Errorf("relayed %q", relayed)
		}
		var queues []string
		for _, r := range srv.Records(queue.Delivery) {
			queues = append(queues, r.Queue)
		}
		if got := fmt.Sprint(queues); got != "["+deferred.Queue+" example.net]" {
			t.Errorf("delivered in %s", got)
		}
	})
}
