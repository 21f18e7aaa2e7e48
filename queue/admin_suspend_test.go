package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Suspensions are no messages: nobody counts, lists, or changes them.
func TestSuspensionsAreHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil })
		a := adminWorld{world: w, admin: w.sched.Admin()}
		a.suspend("q", 0)
		if st := w.sched.Stats(); st.Held != 0 || len(st.Queues) != 0 || st.Unrouted != 0 {
			t.Errorf("counted: %+v", st)
		}
		if infos, err := a.admin.List(t.Context(), Filter{}, spool.ID{}, 0); err != nil || len(infos) != 0 {
			t.Errorf("listed: %+v, %v", infos, err)
		}
		id := suspensionID("q")
		if infos, err := a.admin.List(t.Context(), Filter{IDs: []spool.ID{id}, Queue: Suspensions}, spool.ID{}, 0); err != nil || len(infos) != 0 {
			t.Errorf("listed: %+v, %v", infos, err)
		}
		if _, err := a.admin.Inspect(t.Context(), id); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("inspected: %v", err)
		}
		if _, err := a.admin.Open(t.Context(), id); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("opened: %v", err)
		}
		all := []spool.State{spool.Queued, spool.Held}
		for _, f := range []Filter{{All: true, States: all}, {Queue: Suspensions, States: all}, {IDs: []spool.ID{id}, States: all}} {
			for name, action := range map[string]func(context.Context, Filter, string) (Result, error){"Release": a.admin.Release, "Drop": a.admin.Drop} {
				if r, err := action(t.Context(), f, "why"); err != nil || r.Done+r.Failed+r.OwnedElsewhere != 0 {
					t.Errorf("%s: %+v, %v", name, r, err)
				}
			}
		}
		if _, err := a.admin.Rebind(t.Context(), Filter{All: true}, Suspensions, "why", nil); err == nil {
			t.Error("rebinding to it is not refused")
		}
		if busy := idleAdmin(t, w.sp, Options{}); busy.handler(Suspensions) != nil {
			t.Error("it has a handler")
		}
		// The callback is still the end of the road: there is no other queue.
		w.submit("a@x.example", nil, mail)
		w.wantTypes("Reception Delivery")
		if got := w.entries(); len(got) != 1 || got[0].ID != id || got[0].State != spool.Held || got[0].Size != 0 {
			t.Errorf("left %+v", got)
		}
		s, _ := NewScheduler(spool.NewMemory(), func(context.Context, *Message) error { return nil }, nil)
		if err := s.Handle(Suspensions, s.inject); err == nil {
			t.Error("a handler for it is not refused")
		}
	})
	synctest.Test(t, func(t *testing.T) { // nor is mail bound for it
		w := startAdmin(t, setup{})
		id := w.submit("a@x.example", map[string]string{"queue": Suspensions}, mail)
		if e := w.entry(id); e == nil || e.Queue != Deferred || !strings.Contains(e.LastError, "holds no messages") {
			t.Errorf("left %+v", e)
		}
	})
}

// Suspending and resuming from many sides ends as it was last, once.
func TestSuspendConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		other := startAdmin(t, setup{sp: w.sp.Attach()})
		done := make(chan struct{})
		for i := range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				a := []*Admin{w.admin, other.admin}[i%2]
				for k := range 20 {
					var err error
					if (i+k)%3 == 0 {
						err = a.Resume(context.Background(), fmt.Sprint("q", k%2))
					} else {
						err = a.Suspend(context.Background(), fmt.Sprint("q", k%2), SuspendOptions{Reason: "x"})
					}
					if err != nil && !errors.Is(err, spool.ErrNotFound) && !errors.Is(err, spool.ErrBusy) {
						t.Error(err)
					}
				}
			}()
		}
		for range 8 {
			<-done
		}
		w.suspend("q0", 0)
		w.suspend("q1", 0)
		if n := len(w.entries()); n != 2 {
			t.Errorf("%d suspensions are stored, want 2", n)
		}
		w.resume("q0")
		w.resume("q1")
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

// What is in memory alone and waits there is stored when its queue is suspended.
func TestSuspendKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id := places["kept"](t)
		w.suspend(Deferred, time.Hour)
		if e := w.entry(id); e == nil || len(w.calls()) != 0 {
			t.Fatalf("stored %+v, called %q", e, w.calls())
		}
		w.wantUnowned()
		time.Sleep(time.Hour)
		w.wantCalls(Deferred+" target@x.example", "x.example target@x.example")
	})
}

// A spool that refuses a change of a suspension leaves it as it was, and free for the
// next one; one that cannot remove it does not prolong it.
func TestSuspendRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		refusal := errors.New("no")
		refuse := func([]spool.Unit, func() []error) []error { return []error{refusal} }
		opts := SuspendOptions{Reason: "x", Until: time.Now().Add(time.Hour)}
		sly.set(refuse, nil)
		if err := w.admin.Suspend(t.Context(), "q", opts); !errors.Is(err, refusal) || len(w.sched.mu.suspended) != 0 {
			t.Errorf("suspended %v, %v", w.sched.mu.suspended, err)
		}
		sly.set(nil, nil)
		w.suspend("q", 0)
		refuseOnce := func(units []spool.Unit, do func() []error) []error {
			if units[0][0].Op == spool.Release {
				return do()
			}
			return []error{refusal}
		}
		sly.set(refuseOnce, nil)
		if err := w.admin.Suspend(t.Context(), "q", opts); !errors.Is(err, refusal) {
			t.Error(err)
		}
		if err := w.admin.Resume(t.Context(), "q"); !errors.Is(err, refusal) {
			t.Error(err)
		}
		sly.set(nil, nil)
		if err := w.admin.Suspend(t.Context(), "q", opts); err != nil {
			t.Error(err)
		}
		if err := w.sched.expireSuspension(t.Context(), "q"); err != nil || len(w.entries()) != 1 {
			t.Errorf("a suspension that was prolonged is removed: %v", err)
		}
		w.put("a@x.example")
		sly.set(func(units []spool.Unit, do func() []error) []error {
			if units[0][0].Entry.Queue == Suspensions && units[0][0].Op == spool.Remove {
				return []error{refusal}
			}
			return do()
		}, nil)
		time.Sleep(time.Hour)
		w.wantCalls("q a@x.example")
		sly.set(nil, nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

// Two processes that suspend one queue at the same time do not do so twice.
func TestSuspendTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		other := startAdmin(t, setup{sp: w.sp.Attach()})
		sly.set(nil, func(req spool.ClaimRequest) {
			if req.IDs != nil {
				other.suspend("q", 0)
			}
		})
		if err := w.admin.Suspend(t.Context(), "q", SuspendOptions{Reason: "x"}); !errors.Is(err, spool.ErrBusy) {
			t.Errorf("error %v, want that it is busy", err)
		}
		other.resume("q")
		sly.set(func(units []spool.Unit, do func() []error) []error {
			if units[0][0].Op == spool.Insert {
				other.suspend("q", 0)
			}
			return do()
		}, nil)
		if err := w.admin.Suspend(t.Context(), "q", SuspendOptions{Reason: "x"}); !errors.Is(err, spool.ErrBusy) {
			t.Errorf("error %v, want that it is busy", err)
		}
		sly.set(nil, nil)
		entries, _, err := other.sp.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{suspensionID("q")}})
		if err != nil || len(entries) != 1 {
			t.Fatalf("claimed %d, %v", len(entries), err)
		}
		if err := w.admin.Resume(t.Context(), "q"); !errors.Is(err, spool.ErrBusy) {
			t.Errorf("error %v, want that it is busy", err)
		}
	})
}

// A spool that fails while the suspensions are read ends Run.
func TestSuspendSpoolFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{wrap: func(m *spool.Memory) spool.Spool { return &blindSpool{Memory: m, err: spool.ErrFailed} }})
		synctest.Wait()
		if err := <-w.done; !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Run returned %v", err)
		}
		close(w.done)
	})
}
