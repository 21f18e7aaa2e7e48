package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestFairCrowd: when a queue has fewer places than classes with a backlog, all of them
// have their turns, whoever waits longer.
func TestFairCrowd(t *testing.T) {
	tests := []struct {
		config        Config
		classes, each int
		later         int // others of which something falls due later
		span          time.Duration
		most          int // times what another class gets
	}{
		{Config{Concurrency: 1, MaxReady: 1}, 8, 2000, 0, 30 * time.Minute, 2},
		{Config{Concurrency: 1, MaxReady: 4}, 8, 2000, 0, 30 * time.Minute, 2},
		{Config{Concurrency: 1, MaxReady: 4}, 8, 2000, maxHints, 30 * time.Minute, 2},
		{Config{Concurrency: 4, MaxReady: 10}, 100, 200, 0, 30 * time.Minute, 2},
		{Config{}, 1100, 20, 0, 7 * time.Minute, 2},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d classes and %d places, %d later", test.classes, test.config.MaxReady, test.later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRuns(time.Second)
				r.begin = time.Now()
				w := start(t, func(context.Context, *Message) error { return nil }, setup{
					handlers: map[string]Handler{"good": r.handle},
					opts:     Options{Configure: func(string) Config { return test.config }},
				})
				pass(time.Second)
				for i := range test.later {
					put(t, w.sp, "other", fmt.Sprint(i), 1, time.Now().Add(10*time.Hour), aRetry)
					put(t, w.sp, "good", fmt.Sprint("later", i), 1, time.Now().Add(10*time.Hour), aRetry)
				}
				for i := range test.classes {
					put(t, w.sp, "good", fmt.Sprint(i), test.each, time.Now())
					time.Sleep(time.Millisecond)
				}
				pass(test.span)
				least, most, sum := test.each, 0, 0
				for i := range test.classes {
					n := r.of(fmt.Sprint(i))
					least, most, sum = min(least, n), max(most, n), sum+n
				}
				t.Logf("%d starts: %d to %d for a class", sum, least, most)
				if least == 0 || most > test.most*least+5 {
					t.Errorf("%d to %d starts for a class", least, most)
				}
			})
		})
	}
}

// TestFairWeights: a class whose weight gives it less than one place has its turns,
// though fewer, since it is not in memory all the time.
func TestFairWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRuns(time.Second)
		r.begin = time.Now()
		config := Config{Concurrency: 1, MaxReady: 8, Weights: map[string]int{"a": 10, "b": 10}}
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			handlers: map[string]Handler{"good": r.handle}, opts: Options{Configure: func(string) Config { return config }},
		})
		pass(time.Second)
		for _, class := range []string{"a", "b", "c"} {
			put(t, w.sp, "good", class, 2000, time.Now())
		}
		pass(2100 * time.Second)
		if a, b, c := r.of("a"), r.of("b"), r.of("c"); a < 950 || b < 950 || c < 50 || c > 105 {
			t.Errorf("%d, %d and %d starts with weights 10, 10 and 1, want about 1000, 1000 and 100, or somewhat less", a, b, c)
		}
	})
}
