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
		time.Sleep(time.Nanosecond)
		waiting := w.put("ready@x.example")
		time.Sleep(time.Nanosecond)
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
		time.Sleep(time.Nanosecond)
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

// The end needs nothing of the spool.
func TestSuspendUntilWithoutSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var blind *blindSpool
		w := startAdmin(t, setup{wrap: func(m *spool.Memory) spool.Spool {
			blind = &blindSpool{Memory: m}
			return blind
		}})
		w.suspend("q", 90*time.Second)
		w.put("a@x.example")
		blind.set(spool.ErrBusy)
		time.Sleep(90 * time.Second)
		w.wantCalls("q a@x.example")
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
	if n := len(next.recordTypes()); n != 0 {
		t.Errorf("%d records while nothing is worked on", n)
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
