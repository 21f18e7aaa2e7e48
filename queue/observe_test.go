package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An observer sees each record once, when it was taken.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := 3
		sched, err := NewScheduler(spool.NewMemory(), func(context.Context, *Message) error { return nil },
			&Options{Logger: testLogger(t), Record: func(context.Context, Record) error {
				if refuse--; refuse >= 0 {
					return errors.New("no room")
				}
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		var seen []RecordType
		if err := sched.Observe(func(r Record) { seen = append(seen, r.Type) }); err != nil {
			t.Fatal(err)
		}
		if sched.Observe(nil) == nil {
			t.Error("a nil observer was accepted")
		}
		w := &world{t: t, sched: sched, done: make(chan error, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() { w.done <- sched.Run(ctx) }()
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Minute)
		synctest.Wait()
		if sched.Observe(func(Record) {}) == nil {
			t.Error("an observer was accepted after Run")
		}
		w.shutdown()
		if len(seen) != 2 || seen[0] != Reception || seen[1] != Delivery {
			t.Errorf("observed %v, want Reception and Delivery once", seen)
		}
	})
}
