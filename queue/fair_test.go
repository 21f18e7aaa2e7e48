package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// runs counts the handlers that were started, per class, and says when the last
// one of a class was.
type runs struct {
	begin time.Time
	takes time.Duration

	mu   sync.Mutex
	n    map[string]int
	last map[string]time.Duration
}

func newRuns(takes time.Duration) *runs {
	return &runs{takes: takes, n: map[string]int{}, last: map[string]time.Duration{}}
}

func (r *runs) handle(ctx context.Context, m *Message) error {
	r.mu.Lock()
	r.n[m.entry.Class]++
	r.last[m.entry.Class] = time.Since(r.begin)
	r.mu.Unlock()
	if !sleep(ctx, r.takes) {
		return ctx.Err()
	}
	return nil
}

// reset counts anew.
func (r *runs) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.n)
}

// of returns how many of a class were started.
func (r *runs) of(class string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[class]
}

// lastOf returns when the last one of a class was started.
func (r *runs) lastOf(class string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[class]
}

// TestFairClasses: a class with very many messages, which waits first, does not
// hold up the ten of another one, wherever these come from. Handlers take a second.
func TestFairClasses(t *testing.T) {
	const many = 2000
	retry := func(e *spool.Entry) { e.Attempts = 1 }
	for _, tt := range []struct {
		name   string
		config Config
		come   func(t *testing.T, w *world) // ten of class b
		within time.Duration                // until the last one is started
	}{
		{"stored at the same time", Config{Concurrency: 4}, func(t *testing.T, w *world) {
			put(t, w.sp, Deferred, "b", 10, time.Now())
		}, 6 * time.Second},
		{"due later, with little room", Config{Concurrency: 4, MaxReady: 40}, func(t *testing.T, w *world) {
			put(t, w.sp, Deferred, "b", 10, time.Now().Add(10*time.Second), retry)
		}, 16 * time.Second},
		{"accepted one by one", Config{Concurrency: 4, MaxReady: 40}, func(t *testing.T, w *world) {
			for range 10 {
				w.submit("x@example.com", map[string]string{"tenant": "b"}, mail)
			}
		}, 6 * time.Second},
		{"stored by another process", Config{Concurrency: 4, MaxReady: 40}, func(t *testing.T, w *world) {
			pass(10500 * time.Millisecond)
			other := w.sp.Attach()
			defer other.Close()
			put(t, other, Deferred, "b", 10, time.Now())
		}, 17 * time.Second},
		{"with a weight", Config{Concurrency: 4, MaxReady: 40, Weights: map[string]int{"b": 9}}, func(t *testing.T, w *world) {
			pass(500 * time.Millisecond)
			put(t, w.sp, Deferred, "b", 10, time.Now())
		}, 4 * time.Second},
		{"one slot", Config{Concurrency: 1, MaxReady: 4}, func(t *testing.T, w *world) {
			pass(500 * time.Millisecond)
			put(t, w.sp, Deferred, "b", 10, time.Now())
		}, 22 * time.Second},
		{"with a rate", Config{Concurrency: 64, Rate: Rate{N: 2, Per: time.Second, Burst: 1}}, func(t *testing.T, w *world) {
			pass(500 * time.Millisecond)
			put(t, w.sp, Deferred, "b", 10, time.Now())
		}, 11 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRuns(time.Second)
				w := start(t, r.handle, configured(func(string) Config { return tt.config }, nil))
				pass(time.Second)
				r.begin = time.Now()
				put(t, w.sp, Deferred, "a", many, time.Now())
				tt.come(t, w)
				pass(30 * time.Second)
				if r.of("b") != 10 || r.lastOf("b") > tt.within {
					t.Errorf("%d of ten were started, the last one after %v, want within %v", r.of("b"), r.lastOf("b"), tt.within)
				}
				if r.of("a") == 0 || r.of("a") > many/2 {
					t.Errorf("%d of the others were started", r.of("a"))
				}
			})
		})
	}
}

// Two classes without end get their shares of the slots and of the room, though one
// of them stood there first.
func TestFairShares(t *testing.T) {
	for _, tt := range []struct {
		weight int // of b
		room   int
	}{{1, 100}, {3, 100}, {1, 8}, {7, 8}, {1000, 64}} {
		t.Run(fmt.Sprintf("weight %d, room %d", tt.weight, tt.room), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRuns(time.Second)
				w := start(t, r.handle, configured(func(string) Config {
					return Config{Concurrency: 8, MaxReady: tt.room, Weights: map[string]int{"b": tt.weight}}
				}, nil))
				pass(time.Second)
				put(t, w.sp, Deferred, "a", 2000, time.Now())
				pass(10500 * time.Millisecond)
				put(t, w.sp, Deferred, "b", 2000, time.Now())
				pass(time.Second)
				r.reset()
				pass(100 * time.Second)
				want := 800 * tt.weight / (tt.weight + 1)
				if d := r.of("b") - want; d < -want/20-8 || d > want/20+8 || r.of("a")+r.of("b") != 800 {
					t.Errorf("%d of a and %d of b were started, want %d of b and 800 in all", r.of("a"), r.of("b"), want)
				}
				if n := w.inMemory(Deferred); n > tt.room {
					t.Errorf("%d are in memory, with room for %d", n, tt.room)
				}
			})
		})
	}
}

// With more classes than there is room for, all have their turns, and planning
// does not take in again and again what it must give back.
func TestFairManyClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const classes, room = 300, 10
		r := newRuns(time.Second)
		counting := &countingSpool{}
		w := start(t, r.handle, setup{
			opts: Options{Configure: func(string) Config { return Config{Concurrency: 10, MaxReady: room} }},
			wrap: counting.wrap,
		})
		counting.watch(w.sched)
		pass(time.Second)
		for i := range classes {
			put(t, w.sp, Deferred, fmt.Sprint(i), 3, time.Now())
		}
		put(t, w.sp, Deferred, "many", 1000, time.Now().Add(-100*time.Millisecond))
		pass(time.Second * (classes*3/10 + 100 + 20))
		for i := range classes {
			if n := r.of(fmt.Sprint(i)); n != 3 {
				t.Fatalf("%d messages of class %d were started, want 3", n, i)
			}
		}
		if n := counting.claimed(); n > 50*(classes*3+1000) {
			t.Errorf("%d entries were claimed for %d messages", n, classes*3+1000)
		}
	})
}

// Planning is not paid for in the ordinary case.
func TestNoPlanWithoutNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counting := &countingSpool{}
		w := start(t, func(_ context.Context, m *Message) error {
			if m.Attempt == 1 {
				return errors.New("not yet")
			}
			return nil
		}, setup{
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }},
			wrap:     counting.wrap,
		})
		counting.watch(w.sched)
		for i := range 200 {
			put(t, w.sp, fmt.Sprintf("idle%d", i), "a", 3, time.Now().Add(100*time.Hour))
		}
		for i := range 100 {
			w.submit(fmt.Sprintf("b@%d.example.com", i), nil, mail)
			pass(time.Second)
		}
		pass(time.Hour)
		if counting.looks != 0 {
			t.Errorf("the queues were looked at %d times, want never", counting.looks)
		}
		if left := len(w.entries()); left != 600 {
			t.Errorf("%d entries are left, want 600", left)
		}
	})
}

// A failure of Queues holds up nobody but who depends on it, and passes.
func TestPlanFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRuns(time.Second)
		counting := &countingSpool{fail: errors.New("a database error")}
		w := start(t, r.handle, setup{
			opts:     Options{Configure: func(string) Config { return Config{Concurrency: 2, MaxReady: 10} }},
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }},
			wrap:     counting.wrap,
		})
		counting.watch(w.sched)
		pass(time.Second)
		put(t, w.sp, Deferred, "a", 1000, time.Now())
		put(t, w.sp, Deferred, "b", 10, time.Now())
		pass(20 * time.Second)
		counting.mu.Lock()
		if a, b := r.of("a"), r.of("b"); a < 40 || b != 0 || counting.looks > 25 {
			t.Errorf("%d of a and %d of b were started, the queues were looked at %d times; want 40, none, and a look in a second", a, b, counting.looks)
		}
		counting.fail = nil
		counting.mu.Unlock()
		pass(12 * time.Second)
		if r.of("b") != 10 {
			t.Errorf("%d of b were started after that had passed, want 10", r.of("b"))
		}
	})
}

// What of a class waits in the spool is not overtaken by what comes in, and what is
// accepted of another class does not wait for that.
func TestOrderWithinAClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{takes: time.Second}
		w := start(t, s.handle, configured(func(string) Config { return Config{Concurrency: 1, MaxReady: 5} },
			map[string]Handler{"*": func(context.Context, *Message) error { return nil }}))
		pass(time.Second)
		s.begin = time.Now()
		var a, b []spool.ID
		for range 20 {
			a = append(a, w.submit("x@example.com", map[string]string{"tenant": "a"}, mail))
			pass(10 * time.Millisecond)
		}
		for range 3 {
			b = append(b, w.submit("x@example.com", map[string]string{"tenant": "b"}, mail))
			pass(10 * time.Millisecond)
		}
		if n := w.inMemory(Deferred); n != 5 {
			t.Errorf("%d wait in memory, want 5", n)
		}
		for i := range 10 { // there is room again, but others of their class wait in the spool
			put(t, w.sp, "other", "a", 1, time.Now().Add(300*time.Millisecond), func(e *spool.Entry) { e.Attempts = 1 })
			pass(time.Second)
			if i%3 == 0 {
				a = append(a, w.submit("x@example.com", map[string]string{"tenant": "a"}, mail))
			}
		}
		pass(time.Minute)
		want := []spool.ID{a[0], a[1], b[0], a[2], b[1], a[3], b[2]} // a1 was the next when b0 came
		want = append(want, a[4:]...)
		if len(s.ids) != len(want) {
			t.Fatalf("%d were started, want %d", len(s.ids), len(want))
		}
		names := map[spool.ID]string{}
		for i, id := range a {
			names[id] = fmt.Sprint("a", i)
		}
		for i, id := range b {
			names[id] = fmt.Sprint("b", i)
		}
		var got, order string
		for i, id := range s.ids {
			got, order = got+names[id]+" ", order+names[want[i]]+" "
		}
		if got != order {
			t.Errorf("started in the order\n%s, want\n%s", got, order)
		}
		w.atRest()
	})
}
