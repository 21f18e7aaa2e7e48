package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func (w adminWorld) suspend(queue string, d time.Duration) {
	w.t.Helper()
	opts := SuspendOptions{Reason: "broken"}
	if d > 0 {
		opts.Until = time.Now().Add(d)
	}
	if err := w.admin.Suspend(w.t.Context(), queue, opts); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w adminWorld) resume(queue string) {
	w.t.Helper()
	if err := w.admin.Resume(w.t.Context(), queue); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// wantCalls compares which handlers were called, in whatever order.
func (w adminWorld) wantCalls(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := slices.Sorted(slices.Values(w.calls())); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		w.t.Errorf("called %q, want %q", got, want)
	}
}

// While a queue is suspended nothing of it starts, what runs ends, no attempts are
// counted, and no due time moves.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		failed := w.put("fail@x.example")
		due := w.entry(failed).Due
		w.put("block@x.example")
		time.Sleep(1)
		waiting := w.put("ready@x.example")
		time.Sleep(1)
		w.put("stored@x.example")
		w.suspend("q", 0)
		if infos, err := w.admin.List(t.Context(), Filter{IDs: []spool.ID{waiting}}, spool.ID{}, 0); err != nil || infos[0].Place != PlaceSpool || !infos[0].Suspended {
			t.Errorf("what waited is not given back: %+v, %v", infos, err)
		}
		w.letGo()
		w.put("new@x.example")
		w.submit("other@y.example", map[string]string{"queue": "r"}, mail)
		w.wantCalls("q fail@x.example", "q block@x.example", "r other@y.example")
		if got := w.last().Type; got != Delivery {
			t.Errorf("the last record is %s", got)
		}
		if w.sched.mu.bytes != 0 {
			t.Errorf("%d bytes of entries are in memory", w.sched.mu.bytes)
		}
		time.Sleep(5 * time.Hour)
		w.wantCalls("q fail@x.example", "q block@x.example", "r other@y.example")
		if e := w.entry(failed); e.Attempts != 1 || !e.Due.Equal(due) {
			t.Errorf("%d attempts, due %v, want 1 and %v", e.Attempts, e.Due, due)
		}
		w.resume("q")
		w.wantCalls("q fail@x.example", "q block@x.example", "r other@y.example",
			"q ready@x.example", "q stored@x.example", "q new@x.example", "q fail@x.example")
		if err := w.admin.Resume(t.Context(), "q"); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("resuming what is not suspended: %v", err)
		}
		if list, err := w.admin.Suspensions(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("suspended: %+v, %v", list, err)
		}
	})
}

// A suspension with an end is over at that time and not later, and leaves nothing.
func TestSuspendUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		begin := time.Now()
		w.suspend("q", 0)
		time.Sleep(time.Minute)
		w.suspend("q", time.Hour) // replaces the first
		want := Suspension{"q", "broken", begin.Add(time.Minute).Round(0), begin.Add(61 * time.Minute).Round(0)}
		if list, err := w.admin.Suspensions(t.Context()); err != nil || len(list) != 1 || !list[0].Since.Equal(want.Since) || !list[0].Until.Equal(want.Until) || list[0].Reason != "broken" {
			t.Errorf("suspended: %+v, %v, want %+v", list, err, want)
		}
		w.put("a@x.example")
		time.Sleep(time.Hour - 1)
		w.wantCalls()
		time.Sleep(1)
		w.wantCalls("q a@x.example")
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
		for _, opts := range []SuspendOptions{{}, {Reason: " "}, {Reason: "x", Until: time.Now()}} {
			if err := w.admin.Suspend(t.Context(), "q", opts); err == nil {
				t.Errorf("Suspend(%+v) is not refused", opts)
			}
		}
		for _, queue := range []string{"", Suspensions} {
			if err := w.admin.Suspend(t.Context(), queue, SuspendOptions{Reason: "x"}); err == nil {
				t.Errorf("Suspend(%q) is not refused", queue)
			}
		}
	})
}

// A restart starts nothing of a suspended queue, not even once, and knows the end.
func TestSuspendSurvivesRestart(t *testing.T) {
	for _, how := range []string{"stop", "crash", "suspended before Run"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := startAdmin(t, setup{})
				w.put("block@x.example")
				w.put("a@x.example")
				sp := w.sp
				if how != "suspended before Run" {
					w.suspend("q", time.Hour)
				}
				if how == "crash" {
					sp = w.sp.Crash()
				} else {
					w.shutdown()
				}
				w.letGo()
				w.shutdown()
				if how == "suspended before Run" {
					sp = w.sp.Reopen()
					s, err := NewScheduler(sp, func(context.Context, *Message) error { return nil }, &Options{Logger: testLogger(t)})
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Admin().Suspend(t.Context(), "q", SuspendOptions{Reason: "x", Until: time.Now().Add(time.Hour)}); err != nil {
						t.Fatal(err)
					}
				} else {
					sp = sp.Reopen()
				}
				next := startAdmin(t, setup{sp: sp})
				next.letGo()
				time.Sleep(59 * time.Minute)
				next.wantCalls()
				next.resumeOrWait(how)
				if got := len(next.calls()); got == 0 {
					t.Error("nothing was called after the end")
				}
			})
		})
	}
}

func (w adminWorld) resumeOrWait(how string) {
	if how == "stop" {
		w.resume("q")
		return
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
}

// Reading the suspensions fails for a while: nothing is started meanwhile.
func TestSuspendUnreadable(t *testing.T) {
	for _, how := range []string{"read later", "stopped"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSuspendUnreadable(t, how) })
		})
	}
}

func testSuspendUnreadable(t *testing.T, how string) {
	w := startAdmin(t, setup{})
	w.put("fail@x.example")
	w.suspend("q", 0)
	w.shutdown()
	blind := &blindSpool{}
	next := startAdmin(t, setup{sp: w.sp.Reopen(), wrap: func(m *spool.Memory) spool.Spool {
		blind.Memory = m
		blind.err = spool.ErrBusy
		return blind
	}})
	next.put("a@x.example")
	time.Sleep(time.Minute)
	next.wantCalls()
	if n := len(next.recordTypes()); n != 1 {
		t.Errorf("%d records, want the one of the reception", n)
	}
	if how == "stopped" {
		next.shutdown()
		next.wantCalls()
		return
	}
	blind.set(nil)
	time.Sleep(time.Hour)
	next.wantCalls()
	next.resume("q")
	next.wantCalls("q fail@x.example", "q a@x.example")
}

// What was on its way into memory when its queue was suspended is given back, and what
// came to be there all the same does not start.
func TestSuspendInPassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		id := w.put("fail@x.example")
		hang := make(chan struct{})
		var hung atomic.Bool
		sly.set(nil, func(req spool.ClaimRequest) {
			if req.IDs == nil && !req.Due.Before(w.entry(id).Due) && !hung.Swap(true) {
				<-hang
			}
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		w.suspend("q", 0)
		close(hang)
		synctest.Wait()
		if w.sched.mu.bytes != 0 || !hung.Load() {
			t.Errorf("%d bytes of entries are in memory", w.sched.mu.bytes)
		}
		entries, _, err := w.sp.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
		if err != nil || len(entries) != 1 {
			t.Fatalf("claimed %d, %v", len(entries), err)
		}
		s := w.sched
		s.mu.Lock()
		s.enqueue(s.queue("q", s.handler("q")), entries[0], time.Now().Add(time.Minute)) // as putOff does
		s.mu.Unlock()
		time.Sleep(5 * time.Minute)
		w.wantCalls("q fail@x.example")
		w.resume("q")
		w.wantCalls("q fail@x.example", "q fail@x.example")
	})
}

func (w adminWorld) recordTypes() []string { return strings.Fields(w.types()) }

// The others on a shared store see a suspension within a minute, and its end.
func TestSuspendSeenElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		other := startAdmin(t, setup{sp: w.sp.Attach()})
		w.suspend("q", 0)
		w.suspend("r", 30*time.Minute)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, queue := range []string{"q", "r"} {
			other.submit("a@x.example", map[string]string{"queue": queue}, mail)
		}
		other.wantCalls()
		if list, err := other.admin.Suspensions(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("suspended: %+v, %v", list, err)
		}
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if got := len(w.calls()) + len(other.calls()); got != 1 {
			t.Errorf("%d calls, want that of r", got)
		}
		other.resume("q")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(w.calls()) + len(other.calls()); got != 2 {
			t.Errorf("%d calls, want two", got)
		}
		for _, s := range []*Scheduler{w.sched, other.sched} {
			s.mu.Lock()
			if len(s.mu.suspended) != 0 {
				t.Errorf("still suspended: %+v", s.mu.suspended)
			}
			s.mu.Unlock()
		}
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

// The deferred queue is suspended as any other; mail is accepted and stored.
func TestSuspendDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *ledger
		w := startAdmin(t, setup{wrap: func(m *spool.Memory) spool.Spool { l = newLedger(m); return l }})
		w.suspend(Deferred, 0)
		kw := keptWorld{world: w.world}
		tx, kept := kw.keep("kept@x.example")
		if !l.stored(kept[0].ID) {
			t.Error("a message was accepted in memory alone, where nothing works on it")
		}
		tx.HandOver()
		w.submit("a@x.example", nil, mail)
		time.Sleep(time.Hour)
		w.wantCalls()
		if w.sched.mu.bytes != 0 {
			t.Errorf("%d bytes of entries are in memory", w.sched.mu.bytes)
		}
		if err := w.sched.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		w.resume(Deferred)
		w.wantCalls(Deferred+" kept@x.example", Deferred+" a@x.example", "x.example kept@x.example", "x.example a@x.example")
	})
}

// What has ended is recorded and removed, suspended or not.
func TestSuspendFinals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		w.put("block@x.example")
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		id := w.submit("reject@x.example", nil, mail)
		w.suspend(Deferred, 0)
		sp := w.sp.Crash()
		w.letGo()
		w.shutdown()
		next := startAdmin(t, setup{sp: sp})
		if next.entry(id) != nil {
			t.Error("what had ended is still there")
		}
		if types, _ := next.recordsOf(id); !slices.Equal(types, []string{"Bounce"}) {
			t.Errorf("records %s", types)
		}
	})
}

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
