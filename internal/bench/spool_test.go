package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

func TestTakeTurns(t *testing.T) {
	var order strings.Builder
	err := takeTurns(3, [][]string{{"a", "b", "c"}, {"d"}}, func(s string, turn turn) error {
		fmt.Fprintf(&order, "%s%d:%d ", s, turn.round, turn.percent)
		return nil
	})
	if want := "a0:8 b0:16 c0:25 d0:33 c1:41 b1:50 a1:58 d1:66 a2:75 b2:83 c2:91 d2:100 "; err != nil || order.String() != want {
		t.Errorf("%v, %s, want %s", err, &order, want)
	}
	if err := takeTurns(1, [][]string{{"a", "b"}}, func(s string, _ turn) error { return errors.New(s) }); err == nil || err.Error() != "a" {
		t.Errorf("the first error is %v", err)
	}
}

// commitsOf is a round in which a store made so many commits in a second, each
// in so many microseconds.
func commitsOf(subject string, c commitCell, round, messages int, us float64) *commitSample {
	s := &commitSample{commitTrial: commitTrial{subject, c}, round: round}
	s.Messages, s.Elapsed = messages, time.Second
	s.Latency.Record(time.Duration(us * 1e3))
	s.Used = measure.Used{CPU: time.Duration(messages) * 20 * time.Microsecond, Written: uint64(messages) * 5000,
		Device: measure.Traffic{Written: uint64(messages) * 6000, Flushes: uint64(messages) * 3}}
	return s
}

func TestCommitRows(t *testing.T) {
	c, alone := commitCell{50, 4 << 10}, commitCell{1, 4 << 10}
	var samples []*commitSample
	for round, noise := range []int{4, 1, 2} { // all that a round measures is slower alike
		samples = append(samples, commitsOf(storePebble, c, round, 2000*noise, 10), commitsOf(storeLog, c, round, 4000*noise, 20),
			commitsOf(storeBolt, c, round, 3000*noise, 30), commitsOf(storeBolt, alone, round, 100, 30))
	}
	rows := commitRows(samples)
	var order []string
	for _, r := range rows {
		order = append(order, r.Subject)
	}
	if got, want := strings.Join(order, " "), "boltspool boltspool barelog pebble"; got != want || rows[0].Committers != 1 {
		t.Fatalf("%d committers first, stores %s; want 1, %s", rows[0].Committers, got, want)
	}
	r := rows[1]
	if r.Rate != (figure{6000, 3000, 12000, 3}) || r.CPU.Median != 20 || r.Written != 5000 || r.OnDisk != 6000 || r.Flushes != 3 {
		t.Errorf("%+v", r)
	}
	if *r.RateToLog != (figure{0.75, 0.75, 0.75, 3}) || *r.RateToPebble != (figure{1.5, 1.5, 1.5, 3}) || r.P50ToLog.Median != 1.5 {
		t.Errorf("to barelog %+v, %+v, to pebble %+v", r.RateToLog, r.P50ToLog, r.RateToPebble)
	}
	if r := rows[0]; r.RateToLog != nil || r.RateToPebble != nil {
		t.Errorf("one alone is compared with 50: %+v", r)
	}
	if r := rows[3]; r.RateToPebble != nil || r.RateToLog.Median != 0.5 {
		t.Errorf("pebble: %+v", r)
	}
}

// TestCommitTargets judges one cell of each kind, once just reached and once
// just missed.
func TestCommitTargets(t *testing.T) {
	for _, tt := range []struct {
		cell              commitCell
		bolt, log, pebble int     // commits a second
		boltUs, logUs     float64 // latencies
		missed            string  // none if empty
	}{
		{commitCell{50, 4 << 10}, 751, 1000, 750, 1, 1, ""},
		{commitCell{50, 4 << 10}, 740, 1000, 730, 1, 1, "50 committers, 4KB: rate / barelog: 0.74, want at least 0.75: MISSED: 1% below"},
		{commitCell{50, 4 << 10}, 900, 1000, 1000, 1, 1, "50 committers, 4KB: rate / pebble: 0.90, want at least 1.00: MISSED: 10% below"},
		{commitCell{50, 100 << 10}, 801, 1000, 800, 1, 1, ""},
		{commitCell{50, 100 << 10}, 760, 1000, 700, 1, 1, "50 committers, 100KB: rate / barelog: 0.76, want at least 0.80: MISSED: 5% below"},
		{commitCell{50, 1 << 20}, 100, 1000, 100, 1, 1, ""},
		{commitCell{50, 1 << 20}, 100, 100, 200, 1, 1, "50 committers, 1MB: rate / pebble: 0.50, want at least 1.00: MISSED: 50% below"},
		{commitCell{1, 1 << 10}, 1, 1, 1, 600, 500, ""},
		{commitCell{1, 1 << 10}, 1, 1, 1, 800, 400, "1 committers, 1KB: latency / barelog (flushes: 3.00 / 3.00): 2.0"},
	} {
		f := &spoolFlags{parts: names(nil, partCommits), committers: counts(tt.cell.Committers), sizes: sizes(tt.cell.Size)}
		rows := commitRows([]*commitSample{commitsOf(storeBolt, tt.cell, 0, tt.bolt, tt.boltUs),
			commitsOf(storeLog, tt.cell, 0, tt.log, tt.logUs), commitsOf(storePebble, tt.cell, 0, tt.pebble, 1)})
		targets := f.commitTargets(rows, nil)
		err := checkTargets(targets)
		switch {
		case tt.missed == "" && (err != nil || len(targets) == 0):
			t.Errorf("%+v: %v", tt, err)
		case tt.missed != "" && (err == nil || !strings.Contains(err.Error(), tt.missed) || strings.Count(err.Error(), "\n") != 1):
			t.Errorf("%+v: %v", tt, err)
		}
		var out strings.Builder
		if err := writeTargets(&out, targets); err != nil || strings.Contains(out.String(), "MISSED") != (tt.missed != "") {
			t.Errorf("%+v: %v\n%s", tt, err, &out)
		}
	}
}

// TestTargetsNotMeasured checks that what is missing does not pass.
func TestTargetsNotMeasured(t *testing.T) {
	c := commitCell{50, 4 << 10}
	f := &spoolFlags{parts: names(nil, partCommits), committers: counts(2, 50), sizes: sizes(4 << 10)}
	rows := commitRows([]*commitSample{commitsOf(storeBolt, c, 0, 1000, 1), commitsOf(storeLog, c, 0, 1000, 1)})
	err := checkTargets(f.commitTargets(rows, map[string]string{storePebble: "bench: no compiler"}))
	if err == nil || err.Error() != "bench: below target:\n  50 committers, 4KB: rate / pebble: not measured: bench: no compiler" {
		t.Errorf("without pebble: %v", err)
	}
	if err := checkTargets(f.commitTargets(nil, nil)); err == nil || strings.Count(err.Error(), "was not asked for") != 2 {
		t.Errorf("without anything: %v", err)
	}
	var out strings.Builder
	if err := writeTargets(&out, f.commitTargets(rows, nil)); err != nil || strings.Count(out.String(), "NOT MEASURED") != 1 {
		t.Errorf("%v\n%s", err, &out)
	}
	f.parts.values = nil
	if err := checkTargets(append(f.commitTargets(rows, nil), scaleTargets(nil)...)); err == nil {
		t.Error("to check nothing is a success")
	}
}

func TestScaleTargets(t *testing.T) {
	good := scaleRow{Entries: 500_000, Open: figure{Median: 1.25}, Heap: figure{Median: 105}, DrainToAccept: figure{Median: 2}}
	if err := checkTargets(scaleTargets(&good)); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		spoil func(r *scaleRow)
		say   string
	}{
		{func(r *scaleRow) { r.Open.Median = 1.5 }, "open, seconds per million messages: 3.00, want at most 2.50: MISSED: 20% above"},
		{func(r *scaleRow) { r.Heap.Median = 126 }, "heap, bytes per message: 126, want at most 105: MISSED: 20% above"},
		{func(r *scaleRow) { r.DrainToAccept.Median = 1.5 }, "1.50, want at least 2.00: MISSED: 25% below"},
	} {
		r := good
		tt.spoil(&r)
		if err := checkTargets(scaleTargets(&r)); err == nil || !strings.Contains(err.Error(), tt.say) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%v, want %s", err, tt.say)
		}
	}
}

func TestDrainToAccept(t *testing.T) {
	var r scaleRow
	var accepted, drained []*commitSample
	for round, noise := range []int{4, 1, 2} { // all that a round measures is slower alike
		accepted = append(accepted, commitsOf("accept", commitCell{}, round, 100*noise, 1))
		drained = append(drained, commitsOf("drain", commitCell{}, round, 250*noise, 1))
	}
	if r.sumUp(accepted, drained, accepted); r.DrainToAccept != (figure{2.5, 2.5, 2.5, 3}) || r.Accept.Rate.Median != 200 || r.Drain.Rate.Median != 500 || r.Singly.Rate.Median != 200 {
		t.Errorf("%+v, accept %+v, drain %+v", r.DrainToAccept, r.Accept, r.Drain)
	}
}

// TestSpool runs everything but Pebble, and misses a target: the heap of an open
// spool is more than a few messages can account for.
func TestSpool(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "spool.json"), filepath.Join(files, "spool.svg")
	code, out, errs := runHere(t, "spool", "-check", "-subjects", "boltspool,barelog", "-committers", "2", "-sizes", "1KB", "-rounds", "2",
		"-duration", "100ms", "-bytes", "1MB", "-entries", "33", "-workers", "2", "-cold=false", "-dir", dir, "-json", asJSON, "-svg", svg)
	if code != 1 || !strings.Contains(errs, "below target:\n  ") || !strings.Contains(errs, "heap, bytes per message: ") {
		t.Fatalf("exit code %d: %s\n%s", code, errs, out)
	}
	rep := readReport(t, asJSON)
	if len(rep.Commits) != 2 || rep.Scale == nil || len(rep.Targets) != 3 || rep.Absent["opening with a cold page cache"] == "" {
		t.Fatalf("%d rows, scale %+v, targets %+v, absent %v\n%s", len(rep.Commits), rep.Scale, rep.Targets, rep.Absent, out)
	}
	for _, r := range append(rep.Commits, rep.Scale.Accept, rep.Scale.Drain, rep.Scale.Singly) {
		if r.Rate.Rounds != 2 || r.Rate.Min <= 0 || r.CPU.Median <= 0 || r.P50.Median <= 0 || r.P99.Median < r.P50.Median {
			t.Errorf("%s: %+v", r.Subject, r)
		}
		if !strings.Contains(out, "\n"+r.Subject+" ") {
			t.Errorf("%s stands not in the tables:\n%s", r.Subject, out)
		}
	}
	if r := rep.Commits[0]; r.RateToLog == nil || r.P50ToLog == nil || r.RateToPebble != nil {
		t.Errorf("boltspool: %+v", r)
	}
	if s := rep.Scale; s.Entries != 33 || s.Files == 0 || s.Open.Rounds != 2 || s.Open.Min <= 0 || s.Heap.Min <= 0 || s.DrainToAccept.Min <= 0 || s.Cold != 0 {
		t.Errorf("scale: %+v", s)
	}
	checkSVG(t, svg, 2)
	checkEmpty(t, dir)
}

// TestNoPebble checks that a program that cannot be built is absent, and why,
// and that its target is missed.
func TestNoPebble(t *testing.T) {
	t.Setenv("PATH", "") // no go command
	code, out, errs := runHere(t, "spool", "-check", "-parts", "commits", "-subjects", "boltspool,pebble", "-committers", "50", "-sizes", "1KB",
		"-rounds", "1", "-duration", "100ms", "-bytes", "1MB", "-dir", t.TempDir())
	if code != 1 || !strings.Contains(out, "\nabsent: pebble: bench: go build "+pebblePackage) || !strings.Contains(out, "\nboltspool ") ||
		!strings.Contains(errs, "\n  50 committers, 1KB: rate / pebble: not measured: bench: go build ") {
		t.Errorf("exit code %d: %s\n%s", code, errs, out)
	}
}

// TestStoreProcess lets a process fail.
func TestStoreProcess(t *testing.T) {
	var out bytes.Buffer
	in := strings.NewReader(`{"Store":"oak"}` + "\n")
	if err := runStore(t.Context(), nil, streams{in: in, out: &out}); err != nil || !strings.Contains(out.String(), `no store \"oak\"`) {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	in = strings.NewReader(`{"Store":"barelog","Dir":"/does/not/exist","Committers":1}` + "\n")
	if err := runStore(t.Context(), nil, streams{in: in, out: &out}); err != nil || !strings.Contains(out.String(), "/does/not/exist") {
		t.Errorf("%v: %s", err, &out)
	}
}
