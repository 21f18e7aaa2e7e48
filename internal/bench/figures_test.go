package main

import (
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(tt.values)
		if got := median(tt.values); got != tt.want || !slices.Equal(tt.values, before) {
			t.Errorf("median(%v) = %v, want %v; afterwards %v", before, got, tt.want, tt.values)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestFigure(t *testing.T) {
	f := figureOf([]float64{90, 120, 100})
	if f != (figure{100, 90, 120, 3}) || f.spread() != 0.15 || withSpread(f) != "100 ±15%" {
		t.Errorf("%+v, spread %v, %q", f, f.spread(), withSpread(f))
	}
	if got := withSpread(figureOf([]float64{90})); got != "90.0" {
		t.Errorf("one round: %q", got)
	}
	if f := figureOf(nil); f != (figure{}) || f.spread() != 0 {
		t.Errorf("nothing is %+v", f)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int{"4KB": 4096, "100kb": 102400, "1MB": 1 << 20, "1.5MB": 3 << 19, "25MB": 25 << 20, "700": 700, "600B": 600} {
		got, err := parseSize(s)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", s, got, err, want)
		}
		if again, err := parseSize(formatSize(got)); err != nil || again != got {
			t.Errorf("%s: formatted as %s", s, formatSize(got))
		}
	}
	for _, s := range []string{"", "KB", "4", "-4KB", "NaN", "NaNKB", "2GB", "infMB", "4 K"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q is taken for %d", s, n)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("4KB")
	f.Add("1e3KB")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		if n < minSize || n > 1<<30 {
			t.Errorf("%q is %d", s, n)
		}
		if again, err := parseSize(formatSize(n)); err != nil || again != n {
			t.Errorf("%q is formatted as %q", s, formatSize(n))
		}
	})
}

func TestTable(t *testing.T) {
	var tab table
	tab.add("subject", "CPU")
	tab.add("a", "1.5 ±3%")
	tab.add("longer one", "", "x")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "subject         CPU\na           1.5 ±3%\nlonger one           x\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestShort(t *testing.T) {
	for us, want := range map[float64]string{0: "0us", 2.345: "2.35us", 15.26: "15.3us", 999: "999us", 1500: "1.50ms", 2.5e6: "2.50s", 123e6: "123s"} {
		if got := short(us); got != want {
			t.Errorf("%v us: %s, want %s", us, got, want)
		}
	}
}

// sampleOf is a round in which a message cost the server so many microseconds.
func sampleOf(subject string, c cell, round int, us float64) *sample {
	h := &measure.Histogram{}
	h.Record(time.Millisecond)
	return &sample{
		trial: trial{subject, c}, round: round, messages: 10, elapsed: time.Second, latency: h,
		used: usage{CPU: time.Duration(us * 10 * 1e3)},
	}
}

func TestReceptionRows(t *testing.T) {
	c := cell{modeTLS, 100 << 10, 50, 1}
	plain := c
	plain.Mode = modePlain
	var samples []*sample
	for round, noise := range []float64{1, 3, 2} { // all that a round measures is slower alike
		samples = append(samples,
			sampleOf(subjectStock, c, round, 500*noise), sampleOf(subjectReception, c, round, 200*noise),
			sampleOf(subjectSink, plain, round, 50*noise), sampleOf(subjectSink, c, round, 150*noise))
	}
	rows := receptionRows(samples)
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	row := rows[0]
	if row.Stock.Median != 1000 || row.Library.Median != 400 || row.Floor != 100 || row.TLS.Median != 200 {
		t.Errorf("%+v", row)
	}
	if row.Ratio.Median != 0.4 || row.Net.Median != 0.25 || row.Net.spread() != 0 || row.Target != 0.35 || !row.Met {
		t.Errorf("ratio %+v, net %+v, target %v, met %v", row.Ratio, row.Net, row.Target, row.Met)
	}
	if err := checkReception(rows); err != nil {
		t.Error(err)
	}
}

func TestCheckReception(t *testing.T) {
	c := cell{modePlain, 4 << 10, 50, 1}
	rows := receptionRows([]*sample{sampleOf(subjectStock, c, 0, 100), sampleOf(subjectReception, c, 0, 71), sampleOf(subjectSink, c, 0, 5)})
	err := checkReception(rows)
	if err == nil || !strings.Contains(err.Error(), "plain, 4KB, 50 sessions, 1 recipients: 0.71 of stock, want at most 0.70") {
		t.Errorf("below target: %v", err)
	}
	c.Mode = modeBDAT // has no target
	rows = receptionRows([]*sample{sampleOf(subjectStock, c, 0, 100), sampleOf(subjectReception, c, 0, 300), sampleOf(subjectSink, c, 0, 5)})
	if err := checkReception(rows); err != nil || rows[0].TLS != nil {
		t.Errorf("%v, TLS %v", err, rows[0].TLS)
	}
}

// TestClampTargets has rounds of which each is slower or faster alike: only what is
// compared within a round says something.
func TestClampTargets(t *testing.T) {
	for _, tt := range []struct {
		inline, deferred, nothing time.Duration
		missed                    string
	}{
		{1020, 10, 10, ""}, {1020, 10, 7, ""}, {1020, 10, 6, "deferred / nothing"}, {950, 10, 10, "inline / deferred"},
	} {
		rows := []*clampRow{{Variant: variantInline}, {Variant: variantDeferred}, {Variant: variantNothing}}
		for _, noise := range []time.Duration{5, 1, 2} {
			for i, d := range []time.Duration{tt.inline, tt.deferred, tt.nothing} {
				h := &measure.Histogram{}
				h.Record(d * noise * time.Millisecond)
				rows[i].rounds = append(rows[i].rounds, h)
			}
		}
		res := newClampResult(rows)
		if res.ToNothing.Rounds != 3 || res.ToNothing.spread() > 0.02 || res.ToInline.spread() > 0.02 || rows[1].P999.Max < 4*rows[1].P999.Min {
			t.Errorf("%+v: to nothing %+v, to inline %+v, p99.9 %+v", tt, res.ToNothing, res.ToInline, rows[1].P999)
		}
		err := checkTargets(res.targets())
		if (err == nil) != (tt.missed == "") || err != nil && (!strings.Contains(err.Error(), tt.missed) || strings.Count(err.Error(), "\n") != 1) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// TestClampEnds checks that a measurement ends when what its last stall held up
// is through, long before the next.
func TestClampEnds(t *testing.T) {
	for _, args := range [][]string{nil, {"-quick"}} {
		f, err := parseClamp(args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		period := f.callback.Every + f.callback.Stall
		end := (f.warmup() + f.duration) % period // of a stall, or of the beginning
		if n := (f.warmup() + f.duration) / period; n < 1 || args == nil && n < 2 {
			t.Errorf("%q: %d stalls are over at the end", args, n)
		}
		if end < f.callback.Stall/2 || f.callback.Every-end < f.callback.Stall/4 {
			t.Errorf("%q: it ends %v behind a stall, %v before the next", args, end, f.callback.Every-end)
		}
	}
}

func TestResults(t *testing.T) {
	c := cell{modePlain, 4 << 10, 1, 1}
	rs := results([]*sample{
		sampleOf("stock", c, 0, 100), sampleOf("postfix", c, 0, 1000), sampleOf("stock", c, 1, 50), sampleOf("postfix", c, 1, 1000),
	})
	if len(rs) != 2 || rs[0].Subject != "stock" || rs[0].CPU.Median != 75 || rs[0].CPUToStock != nil {
		t.Fatalf("%+v", rs[0])
	}
	if r := rs[1]; r.CPUToStock.Median != 15 || r.RateToStock.Median != 1 || r.RateToPostfix != nil || r.Messages != 20 {
		t.Errorf("%+v", r)
	}
}

func TestCallback(t *testing.T) {
	c := callback{Median: 20 * time.Millisecond, P99: time.Second, Stall: 10 * time.Second, Every: 15 * time.Second}
	for z, want := range map[float64]time.Duration{0: 20 * time.Millisecond, z99: time.Second} {
		if got := c.delay(z).Round(time.Microsecond); got != want {
			t.Errorf("deviate %v: %v, want %v", z, got, want)
		}
	}
	s := time.Second
	for _, tt := range []struct{ begin, d, want time.Duration }{
		{0, s, s},                   // long before
		{14 * s, s / 2, 14*s + s/2}, // just before
		{14 * s, 2 * s, 25 * s},     // runs into it
		{16 * s, s, 25 * s},         // begins within
		{24 * s, 5 * s, 29 * s},     // ends behind it anyway
		{25 * s, s, 26 * s},         // after it
		{39 * s, 2 * s, 50 * s},     // the next one
		{16 * s, 30 * s, 50 * s},    // through one and into the next
	} {
		if got := c.end(tt.begin, tt.d); got != tt.want {
			t.Errorf("begun at %v for %v: ends at %v, want %v", tt.begin, tt.d, got, tt.want)
		}
	}
}

func TestSlowest(t *testing.T) {
	step := time.Second
	points := slowest([]moment{
		{0, time.Millisecond}, {100 * time.Millisecond, 2 * time.Millisecond}, // in the first step
		{2 * step, 3 * step},                // from the third to the sixth
		{timelineSteps*step - 1, time.Hour}, // beyond the end
	}, timelineSteps*step)
	want := []point{{0, 2000}, {2, 3e6}, {3, 3e6}, {4, 3e6}, {5, 3e6}, {timelineSteps - 1, 3600e6}}
	if !slices.Equal(points, want) {
		t.Errorf("got %v, want %v", points, want)
	}
}

func TestAcceptTargets(t *testing.T) {
	at := func(size, recipients int) cell { return cell{modePlain, size, acceptSessions, recipients} }
	measured := func(subject string, c cell, us float64, messages int) *sample {
		s := sampleOf(subject, c, 0, us)
		s.messages = messages
		s.used.CPU = time.Duration(us*float64(messages)) * time.Microsecond
		return s
	}
	samples := []*sample{
		measured(subjectStock, at(4<<10, 1), 50, 1000), measured(subjectBoltspool, at(4<<10, 1), 50, 950),
		measured(subjectStock, at(100<<10, 1), 1000, 100), measured(subjectBoltspool, at(100<<10, 1), 200, 190),
		measured(subjectStock, at(100<<10, 50), 1100, 100), measured(subjectBoltspool, at(100<<10, 50), 480, 100),
	}
	rep := &report{Absent: map[string]string{"postfix": "not installed"}}
	got := map[string]string{}
	for _, target := range rep.acceptTargets(samples) {
		got[target.Name] = target.measured() + " " + target.verdict() + target.Note
	}
	want := map[string]string{
		"messages a second, 4KB, 50 sessions, boltspool / stock":             "0.95 met",
		"messages a second, 4KB, 50 sessions, boltspool / postfix":           "- NOT MEASUREDnot installed",
		"messages a second, 100KB, 50 sessions, boltspool / stock":           "1.90 MISSED: 5% below",
		"messages a second, 100KB, 50 sessions, boltspool / postfix":         "- NOT MEASUREDnot installed",
		"messages a second, 1MB, 50 sessions, boltspool / stock":             "- NOT MEASUREDthis run leaves it out",
		"messages a second, 1MB, 50 sessions, boltspool / postfix":           "- NOT MEASUREDnot installed",
		"CPU, 100KB, 50 recipients less what RCPTs cost stock / 1 recipient": "1.90 met",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
