package queue

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestBackoffDelay(t *testing.T) {
	deferred := Backoff{Base: time.Minute, Factor: 2, Jitter: 0.05}
	const longestDelay = time.Duration(math.MaxInt64)
	tests := []struct {
		name string
		b    Backoff
		n    int
		want time.Duration
	}{
		{"first", deferred, 1, time.Minute},
		{"second", deferred, 2, 2 * time.Minute},
		{"fourteenth", deferred, 14, 8192 * time.Minute},
		{"none", deferred, 0, 0},
		{"negative", deferred, -1, 0},
		{"least", deferred, math.MinInt, 0},
		{"most", deferred, math.MaxInt, longestDelay},
		{"just too long", deferred, 30, longestDelay},
		{"zero value", Backoff{}, 5, 0},
		{"negative base", Backoff{Base: -1, Factor: 2}, 5, 0},
		{"capped", Backoff{Base: time.Minute, Max: time.Hour, Factor: 2}, 7, time.Hour},
		{"not yet capped", Backoff{Base: time.Minute, Max: time.Hour, Factor: 2}, 6, 32 * time.Minute},
		{"capped, huge", Backoff{Base: time.Minute, Max: time.Hour, Factor: 2}, math.MaxInt, time.Hour},
		{"base over cap", Backoff{Base: time.Hour, Max: time.Minute, Factor: 2}, 1, time.Minute},
		{"negative cap", Backoff{Base: time.Minute, Max: -1, Factor: 2}, 3, 4 * time.Minute},
		{"factor 1", Backoff{Base: time.Minute, Factor: 1}, 100, time.Minute},
		{"no factor", Backoff{Base: time.Minute}, 100, time.Minute},
		{"factor below 1", Backoff{Base: time.Minute, Factor: 0.5}, 100, time.Minute},
		{"negative factor", Backoff{Base: time.Minute, Factor: -2}, 2, time.Minute},
		{"NaN", Backoff{Base: time.Minute, Factor: math.NaN()}, 2, time.Minute},
		{"infinite, first", Backoff{Base: time.Minute, Factor: math.Inf(1)}, 1, time.Minute},
		{"infinite, second", Backoff{Base: time.Minute, Factor: math.Inf(1)}, 2, longestDelay},
		{"one and a half", Backoff{Base: time.Minute, Factor: 1.5}, 3, 135 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.b.Delay(tt.n); got != tt.want {
				t.Errorf("Delay(%d) = %v, want %v", tt.n, got, tt.want)
			}
		})
	}
}

func TestBackoffJittered(t *testing.T) {
	tests := []struct {
		name      string
		jitter, r float64
		want      time.Duration
	}{
		{"shortest", 0.05, 0, 95 * time.Second},
		{"middle", 0.05, 0.5, 100 * time.Second},
		{"longer", 0.05, 0.75, 102500 * time.Millisecond},
		{"none", 0, 0.9, 100 * time.Second},
		{"negative", -1, 0.9, 100 * time.Second},
		{"NaN", math.NaN(), 0.9, 100 * time.Second},
		{"all of it", 1, 0, 0},
		{"more than all", 7, 0, 0},
		{"r out of range", 0.05, 1, 100 * time.Second},
		{"r negative", 0.05, -1, 100 * time.Second},
		{"r NaN", 0.05, math.NaN(), 100 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := Backoff{Base: 100 * time.Second, Factor: 2, Jitter: tt.jitter}
			if got := b.jittered(1, tt.r); got != tt.want {
				t.Errorf("jittered(1, %v) = %v, want %v", tt.r, got, tt.want)
			}
		})
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(int64(time.Minute), int64(0), 2.0, 0.05, 1, uint64(1))
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), math.Inf(1), math.Inf(1), math.MaxInt, uint64(2))
	f.Fuzz(func(t *testing.T, base, most int64, factor, jitter float64, n int, seed uint64) {
		b := Backoff{Base: time.Duration(base), Max: time.Duration(most), Factor: factor, Jitter: jitter}
		delay := b.Delay(n)
		if delay < 0 || most > 0 && delay > b.Max {
			t.Fatalf("Delay(%d) of %+v = %v", n, b, delay)
		}
		if n > 1 && b.Delay(n-1) > delay {
			t.Fatalf("Delay(%d) of %+v is longer than Delay(%d)", n-1, b, n)
		}
		if got := b.jittered(n, rand.New(rand.NewPCG(seed, 0)).Float64()); got < 0 {
			t.Fatalf("jittered(%d) of %+v = %v", n, b, got)
		}
	})
}
