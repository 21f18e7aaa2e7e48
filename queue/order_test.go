package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A lateSpool answers an Update long after all can see what it stored.
type lateSpool struct{ *spool.Memory }

func (s *lateSpool) Apply(ctx context.Context, units ...spool.Unit) []error {
	errs := s.Memory.Apply(ctx, units...)
	if units[0][0].Op == spool.Update {
		time.Sleep(5 * time.Minute)
	}
	return errs
}

// TestOrderOfRecords: what the next queue does is recorded after what has put
// the message there, however late that learns that it is stored.
func TestOrderOfRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, sp: spool.NewMemory(), done: make(chan error, 1)}
		inject := func(_ context.Context, m *Message) error { m.Meta["queue"] = "next"; return nil }
		var err error
		w.sched, err = NewScheduler(&lateSpool{w.sp}, inject, &Options{Record: w.record, Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.sched.Handle("next", func(context.Context, *Message) error { return nil }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() { w.done <- w.sched.Run(ctx) }()
		defer w.shutdown()
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Hour)
		synctest.Wait()
		w.wantTypes("Reception Delivery Delivery")
		if first, last := w.records[1].Queue, w.last().Queue; first != Deferred || last != "next" {
			t.Errorf("delivered by %s, then by %s", first, last)
		}
	})
}
