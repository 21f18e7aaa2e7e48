package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A suspended queue starts nothing but what has ended, and keeps nothing in
// memory; due times and attempts stay, and the others go on.
func TestSuspended(t *testing.T) {
	for _, ends := range []string{"by an operator", "by itself"} {
		t.Run(ends, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, other := &starts{begin: time.Now().Add(time.Second), takes: time.Second}, &starts{begin: time.Now().Add(time.Second)}
				w := start(t, func(_ context.Context, m *Message) error { return nil }, configured(
					func(string) Config { return Config{Concurrency: 2} }, map[string]Handler{"q": s.handle, "other": other.handle}))
				pass(time.Second)
				put(t, w.sp, "q", "a", 100, time.Now())
				pass(500 * time.Millisecond)
				due := map[spool.ID]time.Time{}
				for _, e := range w.entries() {
					due[e.ID] = e.Due
				}
				var until time.Time
				if ends == "by itself" {
					until = s.begin.Add(time.Hour)
				}
				suspend(t, w, "q", until)
				suspend(t, w, "no such queue", s.begin.Add(time.Minute))
				if n := w.inMemory("q"); n != 0 {
					t.Errorf("%d messages of it are in memory, want none", n)
				}
				put(t, w.sp, "q", "a", 1, time.Now(), func(e *spool.Entry) { e.State, e.Outcome = spool.Final, []byte(`{"type":"AdminBounce"}`) })
				put(t, w.sp, "other", "a", 1, time.Now())
				accepted := w.submit("b@example.com", map[string]string{"queue": "q", "tenant": "a"}, mail)
				if n := w.inMemory("q"); n != 0 {
					t.Errorf("%d messages of it are in memory that came in meanwhile, want none", n)
				}
				pass(30 * time.Minute)
				s.want(t, "suspended", 0, 0)
				other.want(t, "the other one", 500*time.Millisecond)
				if types := w.types(); strings.Count(types, "AdminBounce") != 1 || strings.Count(types, "Delivery") != 4 {
					t.Errorf("records %s, want that of what had ended, and four of Delivery", types)
				}
				for _, e := range w.entries() {
					if e.Queue == Suspensions {
						continue
					}
					if was, ok := due[e.ID]; ok && !e.Due.Equal(was) || e.Attempts != 0 || e.State != spool.Queued {
						t.Fatalf("%s is due at %v after %d attempts, was at %v", e.ID, e.Due, e.Attempts, was)
					}
				}
				pass(time.Until(s.begin.Add(time.Hour)))
				if ends != "by itself" {
					resume(t, w, "q")
				}
				late := w.submit("b@example.com", map[string]string{"queue": "q", "tenant": "a"}, mail)
				s.want(t, "resumed", 0, 0, time.Hour, time.Hour)
				pass(time.Hour)
				if n := len(s.ids); n != 102 || !slices.Contains(s.ids[100:], accepted) || !slices.Contains(s.ids[100:], late) {
					t.Errorf("%d were started, want 102, and at the end what came in meanwhile and afterwards", n)
				}
				w.atRest()
			})
		})
	}
}

// The deferred queue may be suspended, too. What is accepted meanwhile is stored.
func TestSuspendedDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now()}
		w := startKept(t, s.handle, setup{})
		suspend(t, w.world, Deferred, time.Now().Add(37*time.Second))
		before := w.ledger.insertions()
		for range 3 {
			w.accept("b@example.com")
		}
		if n := w.ledger.insertions() - before; n != 3 {
			t.Errorf("%d messages were stored, want 3", n)
		}
		if n := w.inMemory(Deferred); n != 0 {
			t.Errorf("%d are in memory, want none", n)
		}
		pass(time.Hour)
		s.want(t, "resumed", every(37*time.Second, 0, 3)...)
		w.atRest()
	})
}

// What came in while a queue was suspended stands before what comes in afterwards.
func TestResumeKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{}
		c := &countingSpool{takes: 100 * time.Millisecond}
		w := start(t, s.handle, setup{wrap: c.wrap, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}})
		pass(time.Second)
		s.begin = time.Now()
		w.sched.setSuspended(map[string]suspension{Deferred: {}})
		first := put(t, w.sp, Deferred, "-", 1, time.Now())
		pass(time.Second)
		w.sched.setSuspended(nil)
		second := w.submit("b@example.com", nil, mail)
		pass(time.Second)
		if want := append(first, second); !slices.Equal(s.ids, want) {
			t.Errorf("started %v, want %v", s.ids, want)
		}
	})
}

// What is suspended when a message fails stays where it is.
func TestSuspendedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var w *world
		w = start(t, func(context.Context, *Message) error {
			calls++
			suspend(t, w, Deferred, time.Time{})
			return errors.New("down")
		})
		w.submit("b@example.com", nil, mail)
		pass(24 * time.Hour)
		i := slices.IndexFunc(w.entries(), func(e *spool.Entry) bool { return e.Queue == Deferred })
		if e := w.entries()[i]; calls != 1 || e.Attempts != 1 || e.Due.Sub(e.Received) > 2*time.Minute {
			t.Errorf("%d calls, %d attempts, due after %v; want one and a minute", calls, e.Attempts, e.Due.Sub(e.Received))
		}
		resume(t, w, Deferred)
		if calls != 2 {
			t.Errorf("%d calls, want one at once after the suspension", calls)
		}
	})
}

// A slowStarter takes its time to note that a handler may run.
type slowStarter struct{ *spool.Memory }

func (s slowStarter) Started(ids ...spool.ID) {
	time.Sleep(time.Minute)
	s.Memory.Started(ids...)
}

// TestSuspendedBeforeItRuns: a message that was about to be started, stored or in memory
// alone, is not once its queue is suspended, and is when that ends.
func TestSuspendedBeforeItRuns(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			w := start(t, func(_ context.Context, m *Message) error {
				if calls++; m.Attempt != 1 {
					t.Errorf("attempt %d", m.Attempt)
				}
				return nil
			}, setup{wrap: func(sp *spool.Memory) spool.Spool { return slowStarter{sp} }})
			tx, err := w.sched.Begin(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Abort()
			tx.Write([]byte(mail))
			e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
			store := tx.Commit
			if keep {
				store = tx.Keep
			}
			if err := store(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			tx.HandOver()
			pass(time.Second)
			suspend(t, w, Deferred, time.Time{})
			pass(time.Hour)
			stored := slices.DeleteFunc(w.entries(), func(e *spool.Entry) bool { return e.Queue == Suspensions })
			if calls != 0 || len(stored) != 1 || stored[0].Attempts != 0 || w.inMemory(Deferred) != 0 {
				t.Errorf("kept: %v: %d calls while it is suspended, in the spool %v", keep, calls, stored)
			}
			resume(t, w, Deferred)
			pass(2 * time.Minute)
			if n := len(w.entries()); calls != 1 || n != 0 {
				t.Errorf("kept: %v: %d calls later, %d left in the spool", keep, calls, n)
			}
		})
	}
}

// What is taken out of memory is owned by who did so, and claimed no more.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now(), takes: time.Second}
		w := start(t, func(context.Context, *Message) error { return nil }, configured(
			func(string) Config { return Config{Concurrency: 1, MaxReady: 100} }, map[string]Handler{"q": s.handle}))
		old := put(t, w.sp, "q", "a", 10, time.Now().Add(-time.Hour)) // spread over a minute
		pass(time.Second)
		put(t, w.sp, "q", "a", 20, time.Now())
		put(t, w.sp, "q", "b", 20, time.Now())
		pass(100 * time.Millisecond)
		w.sched.mu.Lock()
		q := w.sched.mu.queues["q"]
		before := q.ready.total()
		var out []*spool.Entry
		for _, j := range w.sched.take("q", func(j *job) bool { return j.entry.Class == "b" || slices.Contains(old, j.entry.ID) }) {
			out = append(out, j.entry)
		}
		after := q.ready.total()
		w.sched.mu.Unlock()
		if len(out) < 25 || before-after != len(out) {
			t.Fatalf("%d were taken of %d, %d are left", len(out), before, after)
		}
		pass(2 * time.Minute)
		if n := s.count() + len(out); n != 50 {
			t.Errorf("%d were started or taken, want 50", n)
		}
		w.sched.mu.Lock()
		bytes := w.sched.mu.bytes
		w.sched.mu.Unlock()
		if bytes != 0 {
			t.Errorf("%d bytes in memory, want none", bytes)
		}
		w.sched.mu.Lock()
		q = w.sched.queue("q", s.handle)
		tick := w.sched.mu.tick
		w.sched.mu.Unlock()
		w.sched.release(out)
		w.sched.mu.Lock()
		claimed := w.sched.mu.tick != tick // again, which ends the backlog
		if !q.backlog.has("b") && !claimed || q.backlog.has("c") {
			t.Errorf("what was released is no backlog: %+v", q.backlog)
		}
		w.sched.mu.Unlock()
		pass(2 * time.Minute)
		if n := s.count(); n != 50 {
			t.Errorf("%d were started when they were released, want all 50", n)
		}
		w.atRest()
	})
}

// suspend has nothing of a queue started until then, or, at zero, until resume.
func suspend(t *testing.T, w *world, queue string, until time.Time) {
	t.Helper()
	if err := w.sched.Admin().Suspend(t.Context(), queue, SuspendOptions{Reason: "it asks us to", Until: until}); err != nil {
		t.Error(err)
	}
}

func resume(t *testing.T, w *world, queue string) {
	t.Helper()
	if err := w.sched.Admin().Resume(t.Context(), queue); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}
