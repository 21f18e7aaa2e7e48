package queue

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// put stores n messages that nobody owns, in a queue and of a class, the last of
// which falls due at a time, the others just before, and returns their IDs.
func put(t testing.TB, sp spool.Spool, queue, class string, n int, due time.Time, change ...func(*spool.Entry)) (ids []spool.ID) {
	t.Helper()
	w, err := sp.Create(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte(mail)); err != nil {
		t.Fatal(err)
	}
	var units []spool.Unit
	for i := range n {
		e := &spool.Entry{
			ID: spool.NewID(), Body: w.ID(), Queue: queue, Class: class, Received: due, Due: due.Add(time.Duration(i + 1 - n)),
			Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}},
		}
		for _, f := range change {
			f(e)
		}
		ids = append(ids, e.ID)
		units = append(units, spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}})
	}
	for units := range slices.Chunk(units, 1000) {
		if errs := sp.Apply(context.Background(), units...); errs != nil {
			t.Fatal(errs)
		}
	}
	return ids
}

// pass lets time pass, and all that is to happen by then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// starts is a handler that notes when it is called, and then takes a while.
type starts struct {
	begin time.Time
	takes time.Duration

	mu  sync.Mutex
	at  []time.Duration
	ids []spool.ID
}

func (s *starts) handle(ctx context.Context, m *Message) error {
	s.mu.Lock()
	s.at = append(s.at, time.Since(s.begin))
	s.ids = append(s.ids, m.ID)
	s.mu.Unlock()
	if s.takes > 0 && !sleep(ctx, s.takes) {
		return ctx.Err()
	}
	return nil
}

func (s *starts) want(t *testing.T, what string, want ...time.Duration) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.at, want) {
		t.Errorf("%s: started at %v, want %v", what, s.at, want)
	}
}

// count returns how many were started.
func (s *starts) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
}

// every lists n times, beginning with first.
func every(first, d time.Duration, n int) (at []time.Duration) {
	for i := range n {
		at = append(at, first+time.Duration(i)*d)
	}
	return at
}

// configured is a host whose queues are run as a function of the test says.
func configured(c func(queue string) Config, handlers map[string]Handler) setup {
	return setup{opts: Options{Configure: c}, handlers: handlers}
}

// atRest checks that nothing is left in memory.
func (w *world) atRest() {
	w.t.Helper()
	synctest.Wait()
	w.sched.mu.Lock()
	defer w.sched.mu.Unlock()
	m := &w.sched.mu
	if m.bytes != 0 || len(m.queues) != 0 || len(m.full) != 0 || len(m.backlogged) != 0 || len(m.later) != 0 || len(m.throttled) != 0 {
		w.t.Errorf("in memory at rest: %d bytes, queues %v, %d full, %d with a backlog, %d later, %d throttled; want none",
			m.bytes, m.queues, len(m.full), len(m.backlogged), len(m.later), len(m.throttled))
	}
}

// inMemory counts what of a queue is in memory and does not run.
func (w *world) inMemory(queue string) int {
	w.sched.mu.Lock()
	defer w.sched.mu.Unlock()
	if q := w.sched.mu.queues[queue]; q != nil {
		return q.ready.total()
	}
	return 0
}

func TestRateOfAQueue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rate  Rate
		takes time.Duration
		n     int
		want  []time.Duration
	}{
		{"none", Rate{}, 0, 3, every(0, 0, 3)},
		{"evenly", Rate{N: 10, Burst: 1}, 0, 25, every(0, 100*time.Millisecond, 25)},
		{"with a burst", Rate{N: 60, Per: time.Minute, Burst: 4}, 0, 7, append(every(0, 0, 3), every(0, time.Second, 4)...)},
		{"the burst is N", Rate{N: 3, Per: time.Minute}, 0, 5, append(every(0, 0, 2), every(0, 20*time.Second, 3)...)},
		{"slots that are taken lose nothing", Rate{N: 1, Per: time.Second, Burst: 2}, 10 * time.Second, 6,
			[]time.Duration{0, 0, 10 * time.Second, 10 * time.Second, 20 * time.Second, 20 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow, fast := &starts{takes: tt.takes}, &starts{}
				w := start(t, func(context.Context, *Message) error { return nil }, configured(func(name string) Config {
					if name != "slow" {
						return Config{}
					}
					return Config{Rate: tt.rate, Concurrency: 2}
				}, map[string]Handler{"slow": slow.handle, "fast": fast.handle}))
				pass(time.Second) // what was due before it ran would be spread
				slow.begin, fast.begin = time.Now(), time.Now()
				if tt.rate == (Rate{}) {
					tt.takes = 0
				}
				ids := put(t, w.sp, "slow", "a", tt.n, time.Now())
				put(t, w.sp, "fast", "a", 3, time.Now())
				pass(2 * time.Hour)
				slow.want(t, "with a rate", tt.want...)
				fast.want(t, "without", 0, 0, 0)
				if tt.rate.Burst == 1 && !slices.Equal(slow.ids, ids) {
					t.Error("not started in the order in which they were due")
				}
				w.atRest()
			})
		})
	}
}

// A queue that is idle keeps its rate, and is forgotten once its bucket is full.
func TestRateOutlivesIdleness(t *testing.T) {
	const per = time.Hour + 7*time.Second // not when the loop comes by anyway
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now()}
		w := start(t, s.handle, configured(func(string) Config { return Config{Rate: Rate{N: 1, Per: per}} }, nil))
		for range 3 {
			w.submit("b@example.com", nil, mail)
			pass(time.Minute)
		}
		pass(2*per + per/2 - 3*time.Minute)
		s.want(t, "one in an hour", 0, per, 2*per)
		w.sched.mu.Lock()
		n := len(w.sched.mu.queues)
		w.sched.mu.Unlock()
		if n != 1 {
			t.Errorf("%d queues while the bucket fills, want 1", n)
		}
		pass(per/2 + time.Second)
		w.atRest()
	})
}

// What waits for its rate in memory is started at its time.
func TestRateWakesTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now()}
		w := start(t, s.handle, configured(func(string) Config { return Config{Timeout: -1, Rate: Rate{N: 1, Per: 7 * time.Second}} }, nil))
		pass(0)
		for range 3 {
			w.submit("b@example.com", nil, mail)
			pass(time.Second)
		}
		pass(30 * time.Second)
		s.want(t, "one in seven seconds", every(0, 7*time.Second, 3)...)
	})
}

// A rate bounds starts of handlers, not the records of what has ended.
func TestRateSparesFinals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now()}
		w := start(t, func(context.Context, *Message) error { return nil }, configured(func(string) Config {
			return Config{Rate: Rate{N: 1, Per: time.Hour}}
		}, map[string]Handler{"slow": s.handle}))
		pass(time.Second)
		put(t, w.sp, "slow", "a", 2, time.Now())
		synctest.Wait()
		put(t, w.sp, "slow", "a", 5, time.Now(), func(e *spool.Entry) { e.State, e.Outcome = spool.Final, []byte(`{"type":"AdminBounce"}`) })
		synctest.Wait()
		if got := strings.Count(w.types(), "AdminBounce"); got != 5 || s.count() != 1 {
			t.Errorf("%d records of what has ended and %d starts, want 5 and 1", got, s.count())
		}
	})
}

// What is kept in memory needs a token, too, or it is stored.
func TestRateAndKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{begin: time.Now()}
		w := startKept(t, s.handle, configured(func(string) Config { return Config{Rate: Rate{N: 2, Per: time.Minute}} }, nil))
		for range 4 {
			w.accept("b@example.com")
		}
		if n := w.ledger.insertions(); n != 2 {
			t.Errorf("%d messages were stored, want the two that had to wait", n)
		}
		pass(5 * time.Minute)
		s.want(t, "kept", 0, 0, 30*time.Second, time.Minute)
	})
}

// Reconfigure counts at once for what is queued.
func TestReconfigure(t *testing.T) {
	const takes = 10 * time.Second
	for _, tt := range []struct {
		name          string
		before, after Config
		started       int // right after Reconfigure at 5 s
		later         int // 10 s after that
		memory        int
	}{
		{"nothing changes", Config{Concurrency: 2}, Config{Concurrency: 2}, 2, 4, 1022},
		{"more concurrency", Config{Concurrency: 2}, Config{Concurrency: 7}, 7, 14, 1017},
		{"less concurrency", Config{Concurrency: 7}, Config{Concurrency: 2}, 7, 9, 1017},
		{"a rate", Config{Concurrency: 50, MaxReady: 60}, Config{Concurrency: 100, Rate: Rate{N: 1, Burst: 1}}, 51, 61, 1024},
		{"no rate", Config{Rate: Rate{N: 1, Per: time.Hour}, Concurrency: 9}, Config{Concurrency: 9}, 9, 18, 1016},
		{"another rate", Config{Rate: Rate{N: 1, Per: time.Hour}}, Config{Rate: Rate{N: 1, Per: time.Second}}, 1, 11, 1023},
		{"a rate that asks for less", Config{Rate: Rate{N: 1, Per: time.Second}}, Config{Rate: Rate{N: 1, Per: 5 * time.Second}}, 6, 8, 1018},
		{"less room", Config{Concurrency: 2}, Config{Concurrency: 2, MaxReady: 10}, 2, 4, 10},
		{"more room", Config{Concurrency: 2, MaxReady: 10}, Config{Concurrency: 2, MaxReady: 2000}, 2, 4, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := tt.before
				s := &starts{takes: takes}
				w := start(t, func(context.Context, *Message) error { return nil },
					configured(func(string) Config { return config }, map[string]Handler{"q": s.handle}))
				pass(time.Second)
				put(t, w.sp, "q", "a", 3000, time.Now())
				pass(takes/2 + time.Millisecond)
				config = tt.after
				w.sched.Reconfigure()
				synctest.Wait()
				memory := w.inMemory("q")
				if s.count() != tt.started || memory > max(tt.memory, 1024) || memory < tt.memory*9/10 {
					t.Errorf("%d have started and %d are in memory, want %d and about %d", s.count(), memory, tt.started, tt.memory)
				}
				if tt.name == "less room" && memory != 10 {
					t.Errorf("%d are in memory, want 10", memory)
				}
				pass(takes)
				synctest.Wait()
				if s.count() != tt.later {
					t.Errorf("%d have started 10 s later, want %d", s.count(), tt.later)
				}
			})
		})
	}
}

func TestReconfigureWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weights := map[string]int{}
		ran := map[string]int{} // one at a time
		w := start(t, func(context.Context, *Message) error { return nil }, configured(
			func(string) Config { return Config{Weights: weights, Concurrency: 1} },
			map[string]Handler{"q": func(ctx context.Context, m *Message) error {
				ran[m.entry.Class]++
				time.Sleep(time.Second)
				return nil
			}}))
		pass(time.Second)
		put(t, w.sp, "q", "a", 1000, time.Now())
		put(t, w.sp, "q", "b", 1000, time.Now())
		pass(100 * time.Second)
		if d := ran["a"] - ran["b"]; d < -2 || d > 2 {
			t.Errorf("alike: %v", ran)
		}
		clear(ran)
		weights = map[string]int{"b": 9}
		w.sched.Reconfigure()
		pass(100 * time.Second)
		if ran["b"] < 88 || ran["a"] < 8 {
			t.Errorf("one to nine: %v", ran)
		}
	})
}
