package queue

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// countingSpool counts what is claimed, and how often the queues are looked at.
type countingSpool struct {
	spool.Spool
	takes time.Duration // each claim
	look  time.Duration // Queues

	mu      sync.Mutex
	entries int
	claims  int
	looks   int
	except  int   // the most queues that a claim has left out
	running int   // claims
	most    int   // of these at once
	fail    error // of Queues
	plans   context.Context
}

// watch counts the looks of the plans of s from now on.
func (c *countingSpool) watch(s *Scheduler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plans = s.hard
}

func (c *countingSpool) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	c.mu.Lock()
	c.running++
	c.most = max(c.most, c.running)
	c.mu.Unlock()
	if c.takes > 0 {
		sleep(ctx, c.takes)
	}
	entries, next, err := c.Spool.Claim(ctx, req)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.claims++
	c.entries += len(entries)
	c.except = max(c.except, len(req.Except))
	return entries, next, err
}

func (c *countingSpool) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	if c.look > 0 {
		sleep(ctx, c.look)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx != c.plans { // who looks for suspensions, or for Stats
		return c.Spool.Queues(ctx)
	}
	c.looks++
	if c.fail != nil {
		return func(yield func(spool.QueueInfo, error) bool) { yield(spool.QueueInfo{}, c.fail) }
	}
	return c.Spool.Queues(ctx)
}

func (c *countingSpool) claimed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries
}

func (c *countingSpool) wrap(m *spool.Memory) spool.Spool {
	c.Spool = m
	return c
}

// On a spool that is slow a queue that has much due does not stand before the
// others: what one claim has left a plan finds.
func TestPlanOnASlowSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{}
		c := &countingSpool{takes: 100 * time.Millisecond}
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			opts:     Options{Configure: func(string) Config { return Config{MaxReady: 9000} }},
			handlers: map[string]Handler{"bad": hang, "good": s.handle}, wrap: c.wrap,
		})
		pass(time.Second)
		s.begin = time.Now()
		put(t, w.sp, "bad", "a", 8000, s.begin.Add(-time.Millisecond))
		put(t, w.sp, "good", "a", 1, s.begin)
		pass(30 * time.Second)
		if s.count() != 1 || s.at[0] > 500*time.Millisecond {
			t.Errorf("started at %v, want within two or three claims", s.at)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := w.inMemory("bad"); n != 8000-32 {
			t.Errorf("%d of the others are in memory, want all", n)
		}
		if c.most != 1 {
			t.Errorf("%d claims at once, want one", c.most)
		}
	})
}

// What falls due in a queue that one class has filled is claimed at its time
// without a look at all queues, if it is known here, and so is what comes after it.
func TestHints(t *testing.T) {
	for name, early := range map[string]bool{"a retry": true, "found by an earlier look": false} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testHints(t, early) }) })
	}
}

func testHints(t *testing.T, early bool) {
	s := &starts{begin: time.Now().Add(time.Second)}
	c := &countingSpool{}
	again := map[spool.ID]bool{} // one at a time
	w := start(t, func(context.Context, *Message) error { return nil }, setup{
		opts: Options{Configure: func(string) Config { return Config{Concurrency: 2, MaxReady: 10} }},
		handlers: map[string]Handler{"q": func(ctx context.Context, m *Message) error {
			if m.entry.Class == "a" {
				sleep(ctx, time.Second)
				return nil
			}
			if !again[m.ID] {
				again[m.ID] = true
				return RetryAfter(20*time.Second+time.Millisecond, errors.New("down"))
			}
			return s.handle(ctx, m)
		}}, wrap: c.wrap,
	})
	pass(time.Second)
	put(t, w.sp, "q", "a", 1000, time.Now())
	pass(time.Millisecond)
	blind := func() { // no look at all queues from here on
		c.mu.Lock()
		c.fail = errors.New("a database error")
		c.mu.Unlock()
	}
	if early {
		blind()
	}
	for range 3 {
		w.submit("x@example.com", map[string]string{"tenant": "b", "queue": "q"}, mail)
		pass(1500 * time.Millisecond)
	}
	pass(5 * time.Second)
	blind()
	pass(40 * time.Second)
	if s.count() != 3 {
		t.Errorf("%d of what fell due were started, want 3", s.count())
	}
	w.sched.mu.Lock()
	defer w.sched.mu.Unlock()
	for i := range 2 * maxHints {
		w.sched.hint(w.sched.mu.queues["q"], fmt.Sprint(i), time.Now().Add(time.Hour))
	}
	if n := len(w.sched.mu.hints); n > maxHints {
		t.Errorf("%d hints, want no more than %d", n, maxHints)
	}
}

// A look at all queues makes void what is known of those that claims leave out, too.
func TestPlanSettlesBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, hang, configured(func(string) Config { return Config{Concurrency: 1, MaxReady: 10} }, nil))
		pass(time.Second)
		put(t, w.sp, Deferred, "a", 100, time.Now())
		pass(time.Second)
		m := &w.sched.mu
		m.Lock()
		q := m.queues[Deferred]
		w.sched.noteBacklog(q, "b")
		w.sched.planAt(time.Time{})
		m.Unlock()
		pass(time.Second)
		m.Lock()
		defer m.Unlock()
		if !q.full || q.backlog.has("b") || !q.backlog.has("a") {
			t.Errorf("full %v, backlog %+v; want that of a alone", q.full, q.backlog)
		}
	})
}

// With very many queues that are to be left out no claim names them all.
func TestPlanInACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := newRuns(0)
		c := &countingSpool{look: time.Millisecond}
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			handlers: map[string]Handler{"good": ran.handle}, wrap: c.wrap,
		})
		c.watch(w.sched)
		pass(time.Second)
		for i := range 3 * maxExcept {
			put(t, w.sp, fmt.Sprint("bad", i), "a", 2, time.Now())
		}
		pass(time.Second)
		ran.begin = time.Now()
		put(t, w.sp, "good", "a", 3*planSteps, time.Now())
		for i := range 3 * planSteps {
			put(t, w.sp, "good", fmt.Sprint("class", i), 1, time.Now())
		}
		put(t, w.sp, "bad", "a", 1, time.Now(), func(e *spool.Entry) { e.State, e.Outcome = spool.Final, []byte(`{"type":"Bounce"}`) })
		pass(time.Second)
		ran.mu.Lock()
		if n := len(ran.n); n != 3*planSteps+1 || ran.n["a"] != 3*planSteps {
			t.Errorf("messages of %d classes were started, want %d", n, 3*planSteps+1)
		}
		ran.mu.Unlock()
		if st := w.sched.Stats(); st.Outcomes[Bounce] != 1 || st.Unrouted != 6*maxExcept {
			t.Errorf("%d records of what had ended, %d messages without a handler, want 1 and %d", st.Outcomes[Bounce], st.Unrouted, 6*maxExcept)
		}
		c.mu.Lock()
		if c.except > maxExcept {
			t.Errorf("a claim left out %d queues, want no more than %d", c.except, maxExcept)
		}
		looks := c.looks
		c.mu.Unlock()
		pass(time.Hour)
		c.mu.Lock()
		looks = c.looks - looks
		c.mu.Unlock()
		if looks > 70 {
			t.Errorf("the queues were looked at %d times in an hour in which nothing happened", looks)
		}
		put(t, w.sp, "good", "late", 1, time.Now().Add(10*time.Second))
		pass(10*time.Second + 10*time.Millisecond)
		if ran.of("late") != 1 {
			t.Error("what falls due is not started at its time")
		}
	})
}

// BenchmarkSurvey is what a plan costs that finds nothing to claim, with very many
// queues.
func BenchmarkSurvey(b *testing.B) {
	const queues = 100_000
	for name, due := range map[string]time.Duration{"idle": time.Hour, "due": -time.Hour} {
		b.Run(name, func(b *testing.B) {
			sp := spool.NewMemory()
			s, err := NewScheduler(sp, hang, &Options{MemoryLimit: 1})
			if err != nil {
				b.Fatal(err)
			}
			for i := range queues / 10 {
				for k := range 10 {
					put(b, sp, fmt.Sprint("q", i), fmt.Sprint(k), 1, time.Now().Add(due))
				}
			}
			s.mu.phase, s.mu.bytes = running, 1 // nothing is wanted
			for b.Loop() {
				p := s.newPlanner(time.Now(), 1, false)
				if err := p.survey(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
