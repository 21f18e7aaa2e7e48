package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// hang is a handler that does not return before its context ends.
func hang(ctx context.Context, _ *Message) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestIsolation: whatever happens in other queues, a message that is accepted is
// run at once, also when it is rebound, and one that falls due at its time.
func TestIsolation(t *testing.T) {
	const many = 4000
	ok := func(context.Context, *Message) error { return nil }
	slow := func(ctx context.Context, _ *Message) error { sleep(ctx, time.Minute); return nil }
	for _, tt := range []struct {
		name     string
		opts     Options
		config   Config // of all queues whose names begin with bad
		handler  Handler
		unrouted bool
		before   func(t *testing.T, sp *spool.Memory)
		during   func(t *testing.T, w *world)
	}{
		{name: "nothing"},
		{name: "stuck, with very many", handler: hang, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "very many that fall due at the same time", handler: hang, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now().Add(10*time.Second))
		}},
		{name: "slow", handler: slow, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "a rate", handler: ok, config: Config{Rate: Rate{N: 1, Per: time.Hour}}, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "many with a rate", handler: ok, config: Config{Rate: Rate{N: 3, Per: time.Second}}, during: func(t *testing.T, w *world) {
			for i := range 100 {
				put(t, w.sp, fmt.Sprint("bad", i), "a", 50, time.Now())
			}
		}},
		{name: "suspended", handler: ok, during: func(t *testing.T, w *world) {
			suspend(t, w, "bad", time.Time{})
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "many suspended", handler: ok, during: func(t *testing.T, w *world) {
			for i := range 100 {
				suspend(t, w, fmt.Sprint("bad", i), time.Time{})
				put(t, w.sp, fmt.Sprint("bad", i), "a", 50, time.Now())
			}
		}},
		{name: "without a handler", unrouted: true, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "many without a handler", unrouted: true, during: func(t *testing.T, w *world) {
			for i := range 300 {
				put(t, w.sp, fmt.Sprint("bad", i), "a", 10, time.Now())
			}
		}},
		{name: "many that are stuck", handler: hang, config: Config{MaxReady: 40}, during: func(t *testing.T, w *world) {
			for i := range 100 {
				put(t, w.sp, fmt.Sprint("bad", i), "a", 100, time.Now())
			}
		}},
		{name: "memory used up by one", opts: Options{MemoryLimit: 200 << 10}, handler: hang, config: Config{MaxReady: 5000}, during: func(t *testing.T, w *world) {
			put(t, w.sp, "bad", "a", many, time.Now())
		}},
		{name: "memory used up by many", opts: Options{MemoryLimit: 400 << 10}, handler: hang, config: Config{Concurrency: 1}, during: func(t *testing.T, w *world) {
			for i := range 150 {
				put(t, w.sp, fmt.Sprint("bad", i), "a", 50, time.Now())
			}
		}},
		{name: "what fell due before the start", handler: ok, before: func(t *testing.T, sp *spool.Memory) {
			put(t, sp, "bad", "a", many, time.Now().Add(-time.Hour))
			put(t, sp, "good", "a", 2000, time.Now().Add(-time.Hour))
		}},
		{name: "many classes", handler: hang, config: Config{MaxReady: 40}, during: func(t *testing.T, w *world) {
			for i := range 200 {
				put(t, w.sp, "bad", fmt.Sprint(i), 20, time.Now())
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accepted, due, rebound := &starts{}, &starts{}, &starts{}
				sp := spool.NewMemory()
				pass(24 * time.Hour)
				if tt.before != nil {
					tt.before(t, sp)
				}
				handlers := map[string]Handler{"good": due.handle, "next": rebound.handle}
				if !tt.unrouted {
					handlers["*"] = tt.handler
				}
				if tt.handler == nil {
					delete(handlers, "*")
				}
				tt.opts.Configure = func(name string) Config {
					if len(name) >= 3 && name[:3] == "bad" {
						return tt.config
					}
					return Config{}
				}
				w := start(t, accepted.handle, setup{opts: tt.opts, sp: sp, handlers: handlers})
				pass(time.Second)
				begin := time.Now()
				accepted.begin, due.begin, rebound.begin = begin, begin, begin
				if tt.during != nil {
					tt.during(t, w)
				}
				var want []time.Duration
				for i := range 20 {
					at := time.Duration(i)*time.Second + 500*time.Millisecond
					want = append(want, at)
					put(t, w.sp, "good", "b", 1, begin.Add(at), func(e *spool.Entry) { e.Attempts = 1 })
				}
				for _, at := range want {
					pass(time.Until(begin.Add(at)))
					w.submit("b@example.com", map[string]string{"queue": "next"}, mail)
				}
				accepted.want(t, "accepted", want...)
				rebound.want(t, "rebound", want...)
				if tt.before == nil {
					due.want(t, "due", want...)
				} else {
					due.wantAmong(t, want)
				}
				limit := w.sched.opts.MemoryLimit
				w.sched.mu.Lock()
				bytes := w.sched.mu.bytes
				w.sched.mu.Unlock()
				if bytes > limit+claimBatch<<10 {
					t.Errorf("%d bytes in memory, with a limit of %d", bytes, limit)
				}
			})
		})
	}
}

// wantAmong checks that all of these are among the times.
func (s *starts) wantAmong(t *testing.T, want []time.Duration) {
	t.Helper()
	at := map[time.Duration]bool{}
	for _, d := range s.at {
		at[d] = true
	}
	for _, d := range want {
		if !at[d] {
			t.Errorf("nothing was started at %v", d)
		}
	}
}

// After a restart what fell due meanwhile is spread. It has the room of its queue
// only while no other class wants its share.
func TestRestartSparesClasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		time.Sleep(24 * time.Hour)
		retry := func(e *spool.Entry) { e.Attempts = 1 }
		put(t, sp, Deferred, "a", 2000, time.Now().Add(-time.Hour), retry)
		put(t, sp, Deferred, "b", 5, time.Now().Add(-time.Minute), retry)
		r := newRuns(0)
		r.begin = time.Now()
		w := start(t, r.handle, setup{sp: sp, opts: Options{Configure: func(string) Config { return Config{Concurrency: 10, MaxReady: 20} }}})
		pass(time.Second)
		if n := w.inMemory(Deferred); n < 10 || n > 20 {
			t.Errorf("%d are in memory, want more than half of 20", n)
		}
		for range 3 {
			w.submit("c@example.com", map[string]string{"tenant": "c"}, mail)
		}
		put(t, sp, Deferred, "d", 10, r.begin.Add(10*time.Second), retry)
		pass(9 * time.Second)
		if r.of("c") != 3 || r.lastOf("c") != time.Second {
			t.Errorf("%d of what was accepted were started, the last one after %v, want 3 at once", r.of("c"), r.lastOf("c"))
		}
		if r.of("d") != 10 || r.lastOf("d") != 10*time.Second {
			t.Errorf("%d of what fell due were started, the last one after %v, want 10 at their time", r.of("d"), r.lastOf("d"))
		}
		pass(50 * time.Second)
		if r.of("b") != 5 || r.lastOf("b") < 10*time.Second {
			t.Errorf("%d of another class were started in the first minute, the last one after %v, want 5, spread", r.of("b"), r.lastOf("b"))
		}
		pass(2 * time.Hour)
		if r.of("a") != 2000 {
			t.Errorf("%d were started, want all 2000", r.of("a"))
		}
		w.atRest()
	})
}

// What runs may use up the memory. When it ends the others go on.
func TestMemoryComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		s := &starts{begin: time.Now(), takes: time.Second}
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			opts: Options{MemoryLimit: 40 << 10, Configure: func(string) Config { return Config{Concurrency: 50, MaxReady: 60} }},
			handlers: map[string]Handler{"good": s.handle, "*": func(context.Context, *Message) error {
				<-let
				return nil
			}},
		})
		pass(time.Second)
		for i := range 3 { // running alone they need more than there is
			put(t, w.sp, fmt.Sprint("bad", i), "a", 200, time.Now())
		}
		pass(time.Second)
		put(t, w.sp, "good", "a", 200, time.Now())
		pass(time.Minute)
		if n := s.count(); n != 0 {
			t.Errorf("%d were started though memory is used up by handlers", n)
		}
		close(let)
		pass(4 * time.Second)
		if n := s.count(); n != 200 {
			t.Errorf("%d were started at once, want 200", n)
		}
		pass(time.Hour)
		if n := s.count(); n != 200 {
			t.Errorf("%d were started when the handlers had returned, want 200", n)
		}
		w.atRest()
	})
}
