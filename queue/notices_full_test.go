package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// TestNoticeOnFullSpool: a spool that is full takes outcomes with their notices.
func TestNoticeOnFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		c := noticeSetup(NoticeOptions{})
		c.sp = spool.NewMemory()
		w := start(t, bag.policy(func(context.Context, *Message) error {
			c.sp.SetFull(true)
			return Reject(550, "5.1.1 no such user")
		}), c)
		w.submit("b@example.com", nil, mail)
		time.Sleep(30 * time.Second)
		c.sp.SetFull(false)
		time.Sleep(time.Minute)
		if n := len(bag.all()); n != 1 || !strings.Contains(w.types(), string(Bounce)) {
			t.Errorf("%d notices, records %s", n, w.types())
		}
	})
}

// A crampedSpool stages everything, and finds room for nothing that is new: a disk on
// which only what is set aside for the ends of messages is left.
type crampedSpool struct {
	*spool.Memory
	cramped *atomic.Bool
}

func (s crampedSpool) Apply(ctx context.Context, units ...spool.Unit) []error {
	if s.cramped.Load() && slices.ContainsFunc(units, inserts) {
		return slices.Repeat([]error{spool.ErrFull}, len(units))
	}
	return s.Memory.Apply(ctx, units...)
}

// TestNoticeWithoutRoom: an outcome whose notice can be staged and not stored waits for
// room, and then goes without it: its end is what makes room.
func TestNoticeWithoutRoom(t *testing.T) {
	tests := []struct {
		cramped time.Duration
		notices int
	}{{noticePatience / 2, 1}, {2 * noticePatience, 0}}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			var bag mailbag
			var cramped atomic.Bool
			c := noticeSetup(NoticeOptions{})
			c.wrap = func(sp *spool.Memory) spool.Spool { return crampedSpool{sp, &cramped} }
			w := start(t, bag.policy(func(context.Context, *Message) error {
				cramped.Store(true)
				return Reject(550, "5.1.1 no such user")
			}), c)
			w.submit("b@example.com", nil, mail)
			time.Sleep(test.cramped)
			if over := test.cramped > noticePatience; strings.Contains(w.types(), string(Bounce)) != over {
				t.Errorf("records after %v without room: %s", test.cramped, w.types())
			}
			cramped.Store(false)
			time.Sleep(time.Minute)
			received := strings.Count(w.types(), string(Reception)) - 1
			if n := len(bag.all()); n != test.notices || received != n || !strings.Contains(w.types(), string(Bounce)) {
				t.Errorf("after %v without room: %d notices, records %s", test.cramped, n, w.types())
			}
			if left := w.entries(); len(left) > 0 {
				t.Errorf("%d entries are left", len(left))
			}
		})
	}
}

// TestNoticeOfOperatorOnFullSpool: a message whose sender cannot be told stays, and the
// operator may do it again.
func TestNoticeOfOperatorOnFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		w := start(t, bag.policy(func(context.Context, *Message) error { return errors.New("down") }), noticeSetup(NoticeOptions{DelayAfter: -1}))
		id := w.submit("1@example.com", nil, mail)
		w.sp.SetFull(true)
		begin := time.Now()
		res, err := w.sched.Admin().Bounce(t.Context(), Filter{All: true}, "the account is closed")
		if err != nil || res.Failed != 1 || res.Done != 0 || !errors.Is(res.Errors[id], spool.ErrFull) {
			t.Errorf("%+v, %v", res, err)
		}
		if time.Since(begin) > 0 {
			t.Errorf("the operator waited %v", time.Since(begin))
		}
		w.sp.SetFull(false)
		if res, err = w.sched.Admin().Bounce(t.Context(), Filter{All: true}, "the account is closed"); err != nil || res.Done != 1 {
			t.Errorf("again: %+v, %v", res, err)
		}
		synctest.Wait()
		if n := len(bag.all()); n != 1 {
			t.Errorf("%d notices, want 1", n)
		}
	})
}

// TestDelayWithoutNotice: a delay of which no notice could be made, or which the host
// did not want told of now, is not recorded as told, and is told of later.
func TestDelayWithoutNotice(t *testing.T) {
	tests := map[string]func(w *world, silent, cramped *atomic.Bool, on bool){
		"nothing can be staged": func(w *world, _, _ *atomic.Bool, on bool) { w.sp.SetFull(on) },
		"nothing can be stored": func(_ *world, _, cramped *atomic.Bool, on bool) { cramped.Store(on) },
		"Edit says no":          func(_ *world, silent, _ *atomic.Bool, on bool) { silent.Store(on) },
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bag mailbag
				var silent, cramped atomic.Bool
				c := noticeSetup(NoticeOptions{DelayAfter: time.Hour, Edit: func(*dsn.Report) bool { return !silent.Load() }})
				c.wrap = func(sp *spool.Memory) spool.Spool { return crampedSpool{sp, &cramped} }
				w := start(t, bag.policy(func(context.Context, *Message) error { return errors.New("down") }), c)
				w.submit("b@example.com", nil, mail)
				time.Sleep(50 * time.Minute)
				set(w, &silent, &cramped, true)
				time.Sleep(4 * time.Hour)
				synctest.Wait()
				if n, types := len(bag.all()), w.types(); n != 0 || strings.Contains(types, string(Delayed)) {
					t.Errorf("while that holds: %d notices, records %s", n, types)
				}
				for _, e := range w.entries() {
					if at := e.Meta[MetaDelayNotice]; at != "" {
						t.Errorf("the message says that its sender was told at %s", at)
					}
				}
				set(w, &silent, &cramped, false)
				time.Sleep(48 * time.Hour)
				synctest.Wait()
				if n, said := len(bag.all()), strings.Count(w.types(), string(Delayed)); n != 1 || said != 1 {
					t.Errorf("later: %d notices, %d Delayed records, want 1 and 1", n, said)
				}
			})
		})
	}
}

// TestOperatorWithoutRoom: what an operator asks for, and for which there is no room,
// fails at once, and holds up nothing else.
func TestOperatorWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cramped atomic.Bool
		c := noticeSetup(NoticeOptions{})
		c.wrap = func(sp *spool.Memory) spool.Spool { return crampedSpool{sp, &cramped} }
		w := start(t, func(context.Context, *Message) error { return Hold("look") }, c)
		id := w.submit("b@example.com", nil, mail)
		time.Sleep(time.Minute)
		admin := w.sched.Admin()
		if err := admin.Suspend(t.Context(), "one", SuspendOptions{Reason: "because"}); err != nil {
			t.Fatal(err)
		}
		cramped.Store(true)
		begin := time.Now()
		if err := admin.Suspend(t.Context(), "two", SuspendOptions{Reason: "because"}); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Suspend: %v, want ErrFull", err)
		}
		if err := admin.Resume(t.Context(), "one"); err != nil {
			t.Errorf("Resume of another queue: %v", err)
		}
		res, err := admin.Bounce(t.Context(), Filter{All: true}, "closed")
		if err != nil || res.Done != 0 || res.Failed != 1 || !errors.Is(res.Errors[id], spool.ErrFull) {
			t.Errorf("Bounce: %+v, %v, want it to fail for want of room", res, err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("that took %v", took)
		}
		if res, err := admin.Drop(t.Context(), Filter{All: true}, "closed"); err != nil || res.Done != 1 {
			t.Errorf("Drop: %+v, %v", res, err)
		}
	})
}
