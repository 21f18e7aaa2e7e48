package queue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func aRetry(e *spool.Entry) { e.Attempts = 1 }

// TestShedToNothing: queues that memory is short for, down to nothing, and none of whose
// handlers runs, are taken in again. After a restart many queues with a retry or two of
// each are such.
func TestShedToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queues = 300
		sp := spool.NewMemory()
		time.Sleep(24 * time.Hour)
		for i := range queues {
			put(t, sp, fmt.Sprint("domain", i), "a", 1, time.Now().Add(-time.Hour), aRetry)
		}
		s := &starts{begin: time.Now()}
		start(t, func(context.Context, *Message) error { return nil }, setup{
			sp: sp, opts: Options{MemoryLimit: 100 << 10}, handlers: map[string]Handler{"*": s.handle},
		})
		pass(5 * time.Minute)
		if n := s.count(); n != queues {
			t.Errorf("%d of %d were started within 5 minutes", n, queues)
		}
	})
}

// TestShedBesideBusy: so they are while another queue uses nearly all of the memory, for
// an hour or for ever, and what is accepted then is injected.
func TestShedBesideBusy(t *testing.T) {
	for _, busy := range []time.Duration{2 * time.Minute, 1000 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			sp := spool.NewMemory()
			time.Sleep(24 * time.Hour)
			put(t, sp, Deferred, "-", 1, time.Now().Add(-time.Hour), aRetry) // it is put off a little
			var injected atomic.Int64
			w := start(t, func(context.Context, *Message) error { injected.Add(1); return nil }, setup{
				sp:   sp,
				opts: Options{MemoryLimit: 20 << 10, Configure: func(string) Config { return Config{Concurrency: 30, Timeout: -1} }},
				handlers: map[string]Handler{
					"busy": func(ctx context.Context, _ *Message) error { sleep(ctx, busy); return ctx.Err() },
					"*":    func(context.Context, *Message) error { return nil },
				},
			})
			pass(time.Millisecond)
			put(t, sp, "busy", "a", 60, time.Now())
			pass(10 * time.Minute)
			for range 100 {
				w.submit("b@example.com", nil, mail)
			}
			pass(time.Hour)
			if n := injected.Load(); n != 101 {
				t.Errorf("handlers that take %v: %d of 101 injected within an hour", busy, n)
			}
		})
	}
}

// TestShedBesideHung: so they are while one of their own handlers does not return.
func TestShedBesideHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		time.Sleep(24 * time.Hour)
		put(t, sp, "slow", "a", 20, time.Now().Add(-time.Hour), aRetry)
		s, end := &starts{begin: time.Now()}, make(chan struct{})
		start(t, func(context.Context, *Message) error { return nil }, setup{
			sp: sp, opts: Options{MemoryLimit: 20 << 10, Configure: func(string) Config { return Config{Concurrency: 30} }},
			handlers: map[string]Handler{
				"busy": func(ctx context.Context, _ *Message) error { sleep(ctx, 2*time.Minute); return ctx.Err() },
				"slow": func(ctx context.Context, m *Message) error {
					if m.entry.Class == "hung" {
						<-end
						return nil
					}
					return s.handle(ctx, m)
				},
			},
		})
		pass(time.Millisecond)
		put(t, sp, "slow", "hung", 1, time.Now())
		pass(time.Millisecond)
		put(t, sp, "busy", "a", 60, time.Now())
		pass(time.Hour)
		put(t, sp, "slow", "b", 5, time.Now())
		pass(time.Minute)
		if n := s.count(); n != 25 {
			t.Errorf("%d of 25 were started beside one that hangs", n)
		}
		close(end)
		pass(time.Minute)
	})
}

// TestShedLargest: messages each of which is larger than the memory, and which are put
// off, are not claimed and given back over and over.
func TestShedLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		time.Sleep(24 * time.Hour)
		large := func(e *spool.Entry) { e.Attempts, e.Header = 1, []byte("X: "+strings.Repeat("a", 30<<10)+"\r\n") }
		for i := range 5 {
			put(t, sp, fmt.Sprint("domain", i), "a", 2, time.Now().Add(-time.Hour), large)
		}
		s, c := &starts{begin: time.Now()}, &countingSpool{}
		start(t, func(context.Context, *Message) error { return nil }, setup{
			sp: sp, opts: Options{MemoryLimit: 20 << 10}, handlers: map[string]Handler{"*": s.handle}, wrap: c.wrap,
		})
		pass(5 * time.Minute)
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := s.count(); n != 10 || c.claims > 1000 {
			t.Errorf("%d of 10 were started, with %d claims", n, c.claims)
		}
	})
}

// TestMemoryOfCrowds: how many queues are suspended does not slow down the others when
// memory is short.
func TestMemoryOfCrowds(t *testing.T) {
	var took []time.Duration
	for _, suspended := range []int{maxExcept / 2, 2 * maxExcept} {
		synctest.Test(t, func(t *testing.T) {
			s := &starts{takes: 100 * time.Millisecond}
			w := start(t, func(context.Context, *Message) error { return nil }, setup{
				opts: Options{MemoryLimit: 100 << 10}, handlers: map[string]Handler{"*": s.handle},
			})
			pass(time.Second)
			for i := range suspended {
				suspend(t, w, fmt.Sprint("bad", i), time.Time{})
			}
			s.begin = time.Now()
			for i := range 100 {
				put(t, w.sp, fmt.Sprint("good", i), "a", 20, time.Now())
			}
			for time.Since(s.begin) < time.Hour && s.count() < 2000 {
				pass(time.Second)
			}
			took = append(took, time.Since(s.begin))
		})
	}
	if took[1] > 5*took[0] {
		t.Errorf("2000 messages took %v with many queues suspended, and %v with few", took[1], took[0])
	}
}
