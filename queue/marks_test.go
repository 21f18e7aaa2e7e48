package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A lingering spool answers the first Apply of a unit only when hold is closed,
// though all can see what it stored.
type lingering struct {
	*spool.Memory
	hold chan struct{}
}

func (s *lingering) Apply(ctx context.Context, units ...spool.Unit) []error {
	errs := s.Memory.Apply(ctx, units...)
	if len(units) == 1 && units[0][0].Op == spool.Update && units[0][0].Entry.Queue == "next" {
		<-s.hold
	}
	return errs
}

// TestMarkOfNextQueue: the handler of the next queue runs before the one that
// has put the message there is done with. A death then is one of the former.
func TestMarkOfNextQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := spool.NewMemory()
		sp := &lingering{mem, make(chan struct{})}
		inject := func(_ context.Context, m *Message) error { m.Meta["queue"] = "next"; return nil }
		entered, hang := make(chan struct{}), make(chan struct{})
		s, err := NewScheduler(sp, inject, &Options{Logger: testLogger(t), StopTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s.Handle("next", func(context.Context, *Message) error { close(entered); <-hang; return nil })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		w := &world{t: t, sp: mem, sched: s}
		id := w.submit("b@example.com", nil, mail)
		<-entered // by the claim of the next minute
		close(sp.hold)
		synctest.Wait()

		e, _, err := mem.Crash().Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
		if err != nil || len(e) != 1 || e[0].Queue != "next" || e[0].Interrupted != 1 {
			t.Errorf("got %+v and error %v, want the message in queue next, interrupted once", e, err)
		}
		close(hang)
		cancel()
		<-done
	})
}
