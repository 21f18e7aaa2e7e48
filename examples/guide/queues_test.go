package guide

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
)

// route names the next queue.
func route(_ context.Context, m *deferred.Message) error {
	if m.Envelope.Sender == "billing@example.com" {
		m.Meta["queue"] = "billing" // the whole name
		return nil
	}
	m.Meta["tenant"], m.Meta["campaign"] = "shop", "summer" // parts of it
	return nil
}

// handle says who works on which queue; call it before Run.
func handle(sched *queue.Scheduler, deliver, print queue.Handler) error {
	if err := sched.Handle("billing", print); err != nil {
		return err
	}
	if err := sched.Handle("shop@*", deliver); err != nil {
		return err
	}
	return sched.Handle("*", deliver)
}

func TestQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, route, nil, nil)
		for _, from := range []string{"billing@example.com", "app@example.com"} {
			if err := srv.Send(from, []string{"ada@example.net"}, "Subject: x\n\nx\n"); err != nil {
				t.Fatal(err)
			}
		}
		srv.Advance(time.Second)
		got := make(map[string]int)
		for _, r := range srv.Records(queue.Delivery) {
			got[r.Queue]++
		}
		if got["billing"] != 1 || got["summer:shop@example.net"] != 1 || got[queue.Deferred] != 2 {
			t.Errorf("deliveries by queue: %v", got)
		}
		sched, err := queue.NewScheduler(srv.Spool, route, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := func(context.Context, *deferred.Message) error { return nil }
		if err := handle(sched, done, done); err != nil {
			t.Error(err)
		}
	})
}
