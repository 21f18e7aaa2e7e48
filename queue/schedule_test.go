package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var errDown = errors.New("down")

func failing(context.Context, *Message) error { return errDown }

// fixedRandom returns a source of jitter that is the same in every run.
func fixedRandom() func() float64 {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(5, 7))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64()
	}
}

// configure returns what configures all queues alike.
func configure(c Config) Options { return Options{Configure: func(string) Config { return c }} }

// TestScheduleBackoff: 7 days of the deferred queue with its defaults, then the last
// attempt and the end.
func TestScheduleBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 30
		scale, ruler := logarithmic(30*time.Second, 8*24*time.Hour)
		p := newPlot(t, scale, ruler)
		w := p.run(failing, setup{random: fixedRandom()})
		var last time.Time
		for i := range messages {
			w.submit([]string{"a", hidden}[min(i, 1)]+"@example.com", nil, mail)
			last = time.Now()
			time.Sleep(time.Second)
		}
		p.until(defaultMaxAge - time.Hour)
		for _, e := range w.entries() {
			if !e.Due.Equal(e.Received.Add(defaultMaxAge)) {
				t.Errorf("an hour before the end of life the next attempt is %v after it, want at it", e.Due.Sub(e.Received.Add(defaultMaxAge)))
			}
		}
		pass(time.Until(last.Add(defaultMaxAge)))
		if left := w.entries(); len(left) != 0 || p.expired() != messages {
			t.Errorf("%d are left at the end of life and %d expired, want all %d expired", len(left), p.expired(), messages)
		}
		b := Backoff{Base: time.Minute, Factor: 2}
		seen := map[float64]bool{}
		for _, d := range p.delays {
			part := float64(d.delay) / float64(b.Delay(d.attempts))
			if !d.atEnd && (part < 0.95 || part > 1.05) {
				t.Errorf("the delay after %d attempts is %v, want %v, 5%% more or less", d.attempts, d.delay, b.Delay(d.attempts))
			}
			seen[part] = true
		}
		if len(seen) < len(p.delays)*9/10 {
			t.Errorf("only %d of %d delays differ", len(seen), len(p.delays))
		}
		golden(t, "backoff", fmt.Sprintf("Delays of %d messages after each failure, and by how much jitter changes them\n\n%s\nOne of them\n\n%s",
			messages, p.histogram(time.Minute, 0.05), p.draw()))
	})
}

// store stores a message that the inject callback is to see now. Its ID, whose last
// half says where a restart spreads it to, is made of n.
func (p *plot) store(w *world, name string, n int) {
	p.t.Helper()
	put(p.t, w.sp, Deferred, "class", 1, time.Now(), func(e *spool.Entry) {
		e.ID = spool.ID{0: 1, 7: byte(n)}
		binary.BigEndian.PutUint64(e.ID[8:], uint64(n)*uint64(9*time.Second))
		e.Envelope.Recipients[0].Address = name + "@example.com"
	})
	synctest.Wait()
}

// TestScheduleSuspension: a suspension, with a crash and a clean restart in it, and
// then one of each without; they cost no attempts, and move no due time.
func TestScheduleSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scale, ruler := linear(150*time.Minute, 30*time.Minute)
		p := newPlot(t, scale, ruler)
		inject := func(ctx context.Context, m *Message) error {
			if m.Envelope.Recipients[0].Address != "slow@example.com" {
				return errDown
			}
			if !sleep(ctx, 21*time.Minute) {
				return ctx.Err()
			}
			return Drop("done")
		}
		with := setup{opts: configure(Config{Backoff: Backoff{Base: 10 * time.Minute, Jitter: -1}, Timeout: -1})}
		w := p.run(inject, with)
		restart := func(crash bool, down time.Duration) {
			synctest.Wait()
			before := map[spool.ID]spool.Entry{}
			for _, e := range w.entries() {
				before[e.ID] = *e
			}
			if crash {
				with.sp = w.sp.Crash()
				p.host("crash")
				synctest.Wait()
			} else {
				p.host("stop")
				w.shutdown()
				with.sp = w.sp.Reopen()
			}
			time.Sleep(down)
			if down > time.Minute {
				p.waiting(with.sp)
			}
			p.host("restart")
			w = p.run(inject, with)
			for _, e := range w.entries() {
				if was := before[e.ID]; e.Attempts != was.Attempts || !e.Due.Equal(was.Due) {
					t.Errorf("the restart made it %d attempts and due %v, was %d and %v", e.Attempts, e.Due, was.Attempts, was.Due)
				}
			}
		}
		for i := range 6 {
			p.store(w, fmt.Sprint("m", i+1), i+1)
			time.Sleep(time.Minute)
		}
		p.until(11*time.Minute + 30*time.Second)
		p.suspended(true)
		if err := w.sched.Admin().Suspend(t.Context(), Deferred, SuspendOptions{Reason: "broken"}); err != nil {
			t.Fatal(err)
		}
		p.until(20 * time.Minute)
		restart(true, 0)
		p.until(25 * time.Minute)
		restart(false, time.Minute)
		p.until(32 * time.Minute)
		attempts := 0
		for _, e := range w.entries() {
			attempts += e.Attempts
		}
		if attempts != 8 {
			t.Errorf("%d attempts at the end of the suspension, want the 8 from before", attempts)
		}
		p.waiting(w.sp)
		p.suspended(false)
		if err := w.sched.Admin().Resume(t.Context(), Deferred); err != nil {
			t.Fatal(err)
		}
		p.until(39 * time.Minute)
		p.store(w, "slow", 7)
		p.until(40 * time.Minute)
		restart(false, time.Second) // nothing is early
		p.until(60 * time.Minute)
		restart(true, 40*time.Minute) // what fell due meanwhile is spread
		p.until(130 * time.Minute)
		golden(t, "suspension", "A suspension with restarts in it, and restarts without\n\n"+p.draw())
	})
}

// jump sets the wall clock of a scheduler. Only its distances to other times can be
// seen, and so what the bubble cannot set is moved the other way: all that is stored,
// and where the watch on the clock began.
func (p *plot) jump(w *world, d time.Duration) {
	p.t.Helper()
	p.host("the wall clock jumps by %s", shortly(d))
	w.sched.clock.mu.Lock()
	w.sched.clock.mu.wall = w.sched.clock.mu.wall.Add(-d)
	w.sched.clock.mu.Unlock()
	for _, e := range w.entries() {
		claimed, _, err := w.sp.Claim(context.Background(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
		if err != nil || len(claimed) != 1 {
			p.t.Fatalf("claiming: %d, %v", len(claimed), err)
		}
		moved := claimed[0].Clone()
		moved.Received, moved.Due = moved.Received.Add(-d), moved.Due.Add(-d)
		if errs := w.sp.Apply(context.Background(), spool.Unit{{Op: spool.Update, Entry: moved}}); errs != nil {
			p.t.Fatal(errs)
		}
	}
	w.sched.kick()
	synctest.Wait()
}

// TestScheduleClock: nothing expires within an hour after the wall clock was set, and
// no message is put off for long by a clock that was wrong.
func TestScheduleClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scale, ruler := linear(5*time.Hour, time.Hour)
		p := newPlot(t, scale, ruler)
		later := false
		w := p.run(func(context.Context, *Message) error {
			if later {
				return RetryAfter(20*24*time.Hour, errors.New("in 20 days"))
			}
			return errDown
		}, setup{opts: configure(Config{Backoff: Backoff{Jitter: -1}})})
		w.submit("a@example.com", nil, mail)
		p.until(5 * time.Minute)
		p.jump(w, 8*24*time.Hour)
		w.submit("b@example.com", nil, mail)
		jumped := time.Now()
		for time.Since(jumped) < clockPause-time.Minute {
			if pass(time.Minute); p.expired() > 0 {
				t.Fatalf("something expired %v after the jump", time.Since(jumped))
			}
		}
		p.until(3 * time.Hour)
		if p.expired() != 1 {
			t.Errorf("%d expired after the hour, want 1", p.expired())
		}
		later = true
		p.jump(w, -9*24*time.Hour)
		p.waiting(w.sp)
		if due := time.Until(w.only().Due); due != defaultMaxAge {
			t.Errorf("due in %v after the jump back, want it to be cut to MaxAge", due)
		}
		time.Sleep(10 * time.Minute)
		if _, err := w.sched.Admin().Retry(t.Context(), Filter{All: true}, "the clock is right again"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if due := time.Until(w.only().Due); due != defaultMaxAge {
			t.Errorf("due in %v, want it to be cut to MaxAge", due)
		}
		golden(t, "clock", "The wall clock is set while two messages fail; times are those of the monotonic clock\n\n"+p.draw())
	})
}

// A strip counts the handlers that start in each second, of each class of each queue.
type strip struct {
	begin time.Time
	rows  map[string][]int
	order []string
	mu    sync.Mutex
}

func (s *strip) handle(takes time.Duration) Handler {
	return func(ctx context.Context, m *Message) error {
		name := m.entry.Queue + " " + m.entry.Class
		if i := int(time.Since(s.begin) / time.Second); i >= 0 && i < 60 {
			s.mu.Lock()
			s.rows[name][i]++
			s.mu.Unlock()
		}
		if !sleep(ctx, takes) {
			return ctx.Err()
		}
		return Drop("done")
	}
}

// put stores messages of a class, due so long after the beginning.
func (s *strip) put(t *testing.T, sp spool.Spool, queue, class string, n int, after time.Duration) {
	name := queue + " " + class
	if s.rows[name] == nil {
		s.rows[name] = make([]int, 60)
		s.order = append(s.order, name)
	}
	put(t, sp, queue, class, n, s.begin.Add(after), func(e *spool.Entry) { e.Due = s.begin.Add(after) })
}

// draw writes for each class what started in each second, and how many by when.
func (s *strip) draw() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-20s %-60s %7s %7s\n", "", "0s        10s       20s       30s       40s       50s", "to 20 s", "to 60 s")
	for _, name := range s.order {
		var cells strings.Builder
		for _, n := range s.rows[name] {
			cells.WriteByte(".123456789#"[min(n, 10)])
		}
		fmt.Fprintf(&b, "%-20s|%s|%7d %7d\n", strings.Replace(name, Deferred, "deferred", 1), &cells, s.started(name, 20), s.started(name, 60))
	}
	return b.String()
}

// started counts what started in the first seconds.
func (s *strip) started(name string, seconds int) (n int) {
	for _, started := range s.rows[name][:seconds] {
		n += started
	}
	return n
}

// TestScheduleShares: fair shares in the deferred queue with weights, and others beside
// it: with a rate, slow ones, and one that nothing holds up.
func TestScheduleShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &strip{begin: time.Now().Add(time.Minute), rows: map[string][]int{}}
		w := start(t, s.handle(time.Second), setup{
			opts: Options{Configure: func(name string) Config {
				switch name {
				case "rated":
					return Config{Rate: Rate{N: 2, Burst: 8}, Weights: map[string]int{"y": 3}}
				case "slow":
					return Config{Concurrency: 2}
				case "free":
					return Config{}
				}
				return Config{Concurrency: 7, Weights: map[string]int{"news": 2, "alerts": 4}}
			}},
			handlers: map[string]Handler{"rated": s.handle(0), "slow": s.handle(10 * time.Second), "free": s.handle(0)},
		})
		// What falls due first has all slots for a second.
		s.put(t, w.sp, Deferred, "bulk", 2000, -time.Second)
		s.put(t, w.sp, Deferred, "news", 400, -time.Second/2)
		s.put(t, w.sp, Deferred, "alerts", 100, -time.Second/2)
		s.put(t, w.sp, Deferred, "ten", 10, 39500*time.Millisecond) // not when others end
		s.put(t, w.sp, "rated", "x", 100, 0)
		s.put(t, w.sp, "rated", "y", 150, 0)
		s.put(t, w.sp, "slow", "x", 500, 0)
		for i := range 12 {
			s.put(t, w.sp, "free", "x", 1, time.Duration(5*i)*time.Second)
		}
		pass(time.Until(s.begin.Add(time.Minute)))
		plot := s.draw()
		for name, want := range map[string]int{"bulk": 20, "news": 40, "alerts": 80} {
			if got := s.started(Deferred+" "+name, 20); got < want-4 || got > want+4 {
				t.Errorf("%d of %s started in 20 s, want its share, %d\n%s", got, name, want, plot)
			}
		}
		if got := s.started(Deferred+" ten", 49); got != 10 {
			t.Errorf("%d of the ten started within ten handler times, want all\n%s", got, plot)
		}
		golden(t, "shares", "Handlers that start in each second\n\n"+
			"deferred: 7 at once for 1 s each, weights alerts 4, news 2, the others 1; rated: 2/s,max_burst=8, weight y 3;\n"+
			"slow: 2 at once for 10 s each; free: one that falls due every 5 s\n\n"+plot)
	})
}

// TestScheduleOperators: what verdicts and operators say about when.
func TestScheduleOperators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scale, ruler := linear(10*time.Hour, 2*time.Hour)
		p := newPlot(t, scale, ruler)
		inject := func(_ context.Context, m *Message) error {
			switch name, _, _ := strings.Cut(m.Envelope.Recipients[0].Address, "@"); {
			case name == "after" && m.Attempt == 1:
				return RetryAfter(2*time.Hour, errors.New("in 2 hours"))
			case name == "holds" && p.begin.Add(time.Hour).After(time.Now()):
				return Hold("look at it")
			case name == "holds":
				return nil
			}
			return errDown
		}
		w := p.run(inject, setup{opts: configure(Config{Backoff: Backoff{Base: time.Hour, Jitter: -1}})})
		admin, ids := w.sched.Admin(), map[string]spool.ID{}
		operate := func(what string, do func(context.Context, Filter, string) (Result, error), name string) {
			t.Helper()
			p.host("operator: %s %s", what, name)
			if r, err := do(t.Context(), Filter{IDs: []spool.ID{ids[name]}, States: []spool.State{spool.Queued, spool.Held}}, "asked for"); err != nil || r.Done != 1 {
				t.Errorf("%s %s: %+v, %v", what, name, r, err)
			}
			synctest.Wait()
		}
		for i, name := range []string{"after", "holds", "early", "late", "soon"} {
			p.until(time.Duration(i) * time.Minute)
			ids[name] = w.submit(name+"@example.com", nil, mail)
		}
		p.until(30 * time.Minute)
		operate("Hold", admin.Hold, "early")
		operate("Hold", admin.Hold, "late")
		p.until(45 * time.Minute)
		operate("Release", admin.Release, "early") // before it was due: that stands
		operate("Retry", admin.Retry, "soon")
		p.until(90 * time.Minute)
		operate("Release", admin.Release, "holds")
		operate("Release", admin.Release, "late") // after it: at once
		p.until(150 * time.Minute)
		operate("Retry", admin.Retry, "after")
		p.until(10 * time.Hour)
		golden(t, "operators", "RetryAfter, Hold, and what operators do\n\n"+p.draw())
	})
}
