package guide

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
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
func handle(sched *queue.Scheduler, deliver, bill queue.Handler) error {
	if err := sched.Handle("billing", bill); err != nil {
		return err
	}
	if err := sched.Handle("shop@*", deliver); err != nil {
		return err
	}
	return sched.Handle("*", deliver)
}

func TestQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		defer sp.Close()
		sched, err := queue.NewScheduler(sp, route, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		worked := make(chan string, 2)
		by := func(name string) queue.Handler {
			return func(_ context.Context, m *deferred.Message) error {
				worked <- m.Queue + " by " + name
				return nil
			}
		}
		if err := handle(sched, by("deliver"), by("bill")); err != nil {
			t.Fatal(err)
		}
		srv := deferredtest.Serve(t, sched, nil)
		for from, want := range map[string]string{
			"billing@example.com": "billing by bill",
			"app@example.com":     "summer:shop@example.net by deliver",
		} {
			if err := srv.Send(from, []string{"ada@example.net"}, "Subject: x\n\nx\n"); err != nil {
				t.Fatal(err)
			}
			srv.Advance(time.Second)
			if got := <-worked; got != want {
				t.Errorf("%s: %s, want %s", from, got, want)
			}
		}
	})
}
