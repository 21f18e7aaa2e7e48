package queue

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While a queue is full, what it cannot take costs few claims, other queues go on,
// and once there is room all of it runs.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 500
		free := make(chan struct{})
		var injected atomic.Int64
		others := &starts{}
		delivered := func(context.Context, *Message) error { return nil }
		c := &countingSpool{}
		w := start(t, func(ctx context.Context, _ *Message) error {
			select {
			case <-free:
				injected.Add(1)
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, setup{
			opts: Options{Configure: func(string) Config { return Config{Concurrency: 1, MaxReady: 1, Timeout: -1} }},
			wrap: c.wrap, handlers: map[string]Handler{"other": others.handle, "example.com": delivered},
		})
		w.submit("first@example.com", nil, "x")
		begin := time.Now()
		for range messages - 1 {
			w.submit("rcpt@example.com", nil, "x")
			pass(time.Millisecond)
		}
		c.mu.Lock()
		claims := c.claims
		c.mu.Unlock()
		if most := int(time.Since(begin)/hintPause) + 20; claims > most {
			t.Errorf("%d claims for %d messages in %v, want %d at most", claims, messages, time.Since(begin), most)
		}
		others.begin = time.Now()
		put(t, w.sp, "other", "a", 1, time.Now())
		pass(time.Second)
		if others.count() != 1 || others.at[0] > hintPause {
			t.Errorf("another queue's ran after %v, want it within %v", others.at, hintPause)
		}
		close(free)
		pass(time.Minute)
		if n := injected.Load(); n != messages {
			t.Errorf("%d injected, want %d", n, messages)
		}
	})
}
