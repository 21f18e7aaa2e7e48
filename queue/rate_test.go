package queue

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		text string
		want Rate
		out  string // what String makes of it; empty: the same
	}{
		{"100/s", Rate{N: 100, Per: time.Second}, ""},
		{"10/sec", Rate{N: 10, Per: time.Second}, "10/s"},
		{"10/second", Rate{N: 10, Per: time.Second}, "10/s"},
		{"5000/m", Rate{N: 5000, Per: time.Minute}, ""},
		{"50/min", Rate{N: 50, Per: time.Minute}, "50/m"},
		{"50/minute", Rate{N: 50, Per: time.Minute}, "50/m"},
		{"1,000/hr", Rate{N: 1000, Per: time.Hour}, "1000/h"},
		{"1_000/h", Rate{N: 1000, Per: time.Hour}, "1000/h"},
		{"1000/hour", Rate{N: 1000, Per: time.Hour}, "1000/h"},
		{"10,000,000/day", Rate{N: 10_000_000, Per: day}, "10000000/d"},
		{"500/d,max_burst=1", Rate{N: 500, Per: day, Burst: 1}, ""},
		{"5,000/m,max_burst=2,000", Rate{N: 5000, Per: time.Minute, Burst: 2000}, "5000/m,max_burst=2000"},
		{"7/s,max_burst=7", Rate{N: 7, Per: time.Second, Burst: 7}, "7/s"},
		{"3/1m30s", Rate{N: 3, Per: 90 * time.Second}, ""},
		{"1/250ms", Rate{N: 1, Per: 250 * time.Millisecond}, ""},
		{"", Rate{}, ""},
	} {
		got, err := ParseRate(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v", tt.text, got, err, tt.want)
			continue
		}
		out := tt.out
		if out == "" {
			out = tt.text
		}
		if got.String() != out {
			t.Errorf("%q: String is %q, want %q", tt.text, got, out)
		}
	}
}

func TestParseRateErrors(t *testing.T) {
	for text, say := range map[string]string{
		"100": "without a slash", "/s": "no number", "0/s": "no number", "-1/s": "no number", "1.5/s": "no number",
		"x/s": "no number", "3000000000/s": "no number", "+1/s": "no number", "1,00/s": "not set apart", "1000,000/s": "not set apart",
		",100/s": "not set apart", "100,/s": "not set apart", "1,,000/s": "not set apart", ",/s": "no number",
		"1/": "no period", "1/week": "no period", "1/-1s": "no period", "1/0s": "no period", "1/S": "no period",
		"1/s,burst=3": "unknown option", "1/s,": "unknown option", "1/s,max_burst=0": "no number", "1/s,max_burst=1,max_burst=2": "not set apart", " 1/s": "no number",
	} {
		r, err := ParseRate(text)
		if err == nil || !strings.HasPrefix(err.Error(), "queue: rate ") || !strings.Contains(err.Error(), say) || r != (Rate{}) {
			t.Errorf("%q: %+v, %v; want the error to say %q", text, r, err, say)
		}
	}
}

func TestRateText(t *testing.T) {
	var c struct{ Rate Rate }
	if err := json.Unmarshal([]byte(`{"Rate":"5,000/min,max_burst=20"}`), &c); err != nil || c.Rate != (Rate{5000, time.Minute, 20}) {
		t.Fatalf("%+v, %v", c, err)
	}
	if out, err := json.Marshal(c); err != nil || string(out) != `{"Rate":"5000/m,max_burst=20"}` {
		t.Errorf("%s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Rate":"often"}`), &c); err == nil || c.Rate.N != 5000 {
		t.Errorf("%+v, %v; want an error and nothing changed", c, err)
	}
	for _, none := range []Rate{{}, {N: -1, Per: time.Second}, {Per: time.Hour, Burst: 3}} {
		if none.String() != "" || none.withDefaults() != (Rate{}) {
			t.Errorf("%#v is %q", none, none)
		}
	}
	if r := (Rate{N: 3}); r.String() != "3/s" {
		t.Errorf("%#v is %q", r, r)
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"100/s", "5,000/m,max_burst=20", "1_0/d", "3/1m30s", "1/9223372036854775807ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil || text == "" {
			if r != (Rate{}) {
				t.Errorf("%q: %+v, %v", text, r, err)
			}
			return
		}
		if r.N < 1 || r.Per <= 0 || r.Burst < 0 {
			t.Fatalf("%q: %+v", text, r)
		}
		again, err := ParseRate(r.String())
		if err != nil || again.withDefaults() != r.withDefaults() {
			t.Errorf("%q: %+v is %q, and that is %+v, %v", text, r, r, again, err)
		}
		l := newLimiter(r.withDefaults())
		now := time.Now()
		for range min(r.withDefaults().Burst, 3) {
			if wait := l.take(now); wait != 0 {
				t.Errorf("%q: a full bucket has nothing for %v", text, wait)
			}
		}
	})
}

// TestLimiter walks through the life of a bucket.
func TestLimiter(t *testing.T) {
	begin := time.Now()
	l := newLimiter(Rate{N: 2, Per: time.Second, Burst: 3}.withDefaults())
	for _, step := range []struct {
		at   time.Duration
		wait time.Duration // of take; 0: there was one
	}{
		{0, 0}, {0, 0}, {0, 0}, {0, time.Second / 2},
		{time.Second / 4, time.Second / 4}, // asking in vain has taken nothing
		{time.Second / 2, 0},
		{time.Second / 2, time.Second / 2},
		{10 * time.Second, 0}, {10 * time.Second, 0}, {10 * time.Second, 0}, {10 * time.Second, time.Second / 2},
	} {
		if wait := l.take(begin.Add(step.at)); wait != step.wait {
			t.Errorf("after %v: a wait of %v, want %v", step.at, wait, step.wait)
		}
	}
	now := begin.Add(10 * time.Second)
	if wait := l.until(3, now); wait != 1500*time.Millisecond || l.has(1, now) || !l.has(2, now.Add(time.Second)) {
		t.Errorf("full after %v, want 1.5s", wait)
	}
	l.set(Rate{N: 10, Per: time.Second, Burst: 10}, now)
	if wait := l.take(now); wait != time.Second/10 {
		t.Errorf("with a new rate a wait of %v, want 100ms", wait)
	}
	slow := newLimiter(Rate{N: 1, Per: math.MaxInt64, Burst: 1})
	if slow.take(now) != 0 || slow.take(now) <= 0 {
		t.Error("a rate of once in 292 years does not hold")
	}
}
