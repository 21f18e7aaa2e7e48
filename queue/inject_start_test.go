package queue

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A slowStart is a spool of which it takes a while to learn what is suspended.
type slowStart struct{ spool.Spool }

func (s slowStart) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	sleep(ctx, time.Second)
	return s.Spool.Queues(ctx)
}

// A callback before the reply waits for a scheduler that is about to run.
func TestInjectWhileItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }},
			wrap:     func(m *spool.Memory) spool.Spool { return slowStart{m} },
		})
		tx, err := w.sched.Begin(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Abort()
		if _, err := tx.Write([]byte(mail)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it has begun, and does not know yet
		began := time.Now()
		e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
		if err := errors.Join(tx.Inject(t.Context(), false, e)...); err != nil {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		tx.HandOver()
		synctest.Wait()
	})
}
