package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

func TestIsolation(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "isolation.json"), filepath.Join(files, "isolation.svg")
	code, out, errs := runHere(t, "isolation", "-entries", "200", "-messages", "7", "-slice", "3", "-rounds", "2", "-dir", dir, "-json", asJSON, "-svg", svg)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if rep.Isolation == nil || len(rep.Isolation.Rows) != 4 || len(rep.Targets) != 1 || rep.Isolation.Entries != 200 {
		t.Fatalf("%+v, targets %+v\n%s", rep.Isolation, rep.Targets, out)
	}
	for _, row := range rep.Isolation.Rows {
		if row.Latency.Count() != 14 || row.P50.Rounds != 2 || row.P50.Min <= 0 || row.P99.Median < row.P50.Median || row.Max < row.P99.Max {
			t.Errorf("%s, %s: %d messages, %+v", row.Variant, row.Way, row.Latency.Count(), row)
		}
	}
	for _, way := range []string{wayAccepted, wayRebound} {
		if f := rep.Isolation.P99[way]; f == nil || f.Rounds != 2 || f.Min <= 0 || !strings.Contains(out, "\n"+way+" ") {
			t.Errorf("%s: ratio %+v, or it stands not in the table:\n%s", way, f, out)
		}
	}
	if !strings.Contains(errs, "100% round 2/2") {
		t.Errorf("progress: %s", errs)
	}
	checkSVG(t, svg, 4)
	checkEmpty(t, dir)
}

func TestIsolationRatios(t *testing.T) {
	rows := newIsolationRows()
	for round, noise := range []time.Duration{4, 1, 2} { // all that a round measures is slower alike
		for variant, us := range map[string]time.Duration{variantAlone: 100, variantStuck: 110} {
			p := &passResult{}
			p.Accepted.Record(us * noise * time.Microsecond)
			p.Rebound.Record(time.Duration(round+1) * time.Millisecond)
			addRound(rows, variant, p)
		}
	}
	res := newIsolationResult(5, rows)
	if f := res.P99[wayAccepted]; f.Median < 1.09 || f.Median > 1.11 || f.spread() > 0.02 || res.P99[wayRebound].Median != 1 {
		t.Errorf("accepted %+v, rebound %+v; want 1.1 and 1", f, res.P99[wayRebound])
	}
	if err := checkTargets(res.targets()); err != nil {
		t.Error(err)
	}
	p := &passResult{}
	p.Accepted.Record(time.Second)
	for range 4 {
		addRound(rows, variantStuck, p)
		q := &passResult{}
		q.Accepted.Record(800 * time.Millisecond)
		addRound(rows, variantAlone, q)
	}
	err := checkTargets(newIsolationResult(5, rows).targets())
	if err == nil || !strings.Contains(err.Error(), "want at most 1.20") {
		t.Errorf("with 1.25 in the median: %v", err)
	}
}

func TestFairness(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON := filepath.Join(files, "fairness.json")
	code, out, errs := runHere(t, "fairness", "-entries", "3000", "-few", "3", "-handler", "20ms", "-rounds", "2", "-dir", dir, "-json", asJSON)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if rep.Fairness == nil || len(rep.Fairness.Rows) != 2 || len(rep.Targets) != 2 {
		t.Fatalf("%+v, targets %+v\n%s", rep.Fairness, rep.Targets, out)
	}
	for _, row := range rep.Fairness.Rows {
		if row.Times.Rounds != 2 || row.Times.Min < 1 || !strings.Contains(out, "\n"+row.Way+" ") || !strings.Contains(errs, row.Way) {
			t.Errorf("%+v, or it stands not in the table:\n%s", row, out)
		}
	}
	checkEmpty(t, dir)
}

func TestFairnessTargets(t *testing.T) {
	row := &fairnessRow{Way: comeDue}
	for _, d := range []time.Duration{400 * time.Millisecond, 500 * time.Millisecond} {
		row.add(&classResult{Took: d, Many: 3}, 50*time.Millisecond)
	}
	res := &fairnessResult{Few: 10, Rows: []*fairnessRow{row}}
	if err := checkTargets(res.targets()); err != nil || row.Times.Median != 9 || row.Many.Max != 3 {
		t.Errorf("%v, %+v", err, row)
	}
	row.add(&classResult{Took: 510 * time.Millisecond}, 50*time.Millisecond)
	if err := checkTargets(res.targets()); err == nil || !strings.Contains(err.Error(), "10 due at once: handler times, in the slowest round: 10.2, want at most 10.0") {
		t.Errorf("with 10.2 in one round: %v", err)
	}
}

// TestHostProcess lets a process fail.
func TestHostProcess(t *testing.T) {
	var out strings.Builder
	in := strings.NewReader(`{"Dir":"/does/not/exist"}` + "\n")
	if err := runHost(t.Context(), nil, streams{in: in, out: &out}); err != nil || !strings.Contains(out.String(), "/does/not/exist") {
		t.Errorf("%v: %s", err, &out)
	}
}

// TestHostCounts checks what a host measures: every message once, in both ways.
func TestHostCounts(t *testing.T) {
	h, err := startHost(t.Context(), hostConfig{Dir: t.TempDir(), Fill: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.pass(t.Context(), 5)
	if err != nil || p.Accepted.Count() != 5 || p.Rebound.Count() != 5 || len(h.since) != 0 {
		t.Errorf("%v: %d and %d messages, %d under way", err, p.Accepted.Count(), p.Rebound.Count(), len(h.since))
	}
	h.config.Fill = 2
	if _, err := h.pass(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "not all of 2 messages are stuck") {
		t.Errorf("with one stuck instead of two: %v", err)
	}
	h.config.Fill = 1
	var again measure.Histogram
	again.Merge(&p.Accepted)
	if p, err = h.pass(t.Context(), 2); err != nil || p.Accepted.Count() != 2 {
		t.Errorf("%v: %d messages the second time, want 2", err, p.Accepted.Count())
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
}

// TestHostWithoutMany: what was not beside the many is not measured.
func TestHostWithoutMany(t *testing.T) {
	_, err := startHost(t.Context(), hostConfig{Dir: t.TempDir(), Fill: 1, Handler: time.Millisecond, Slots: 1})
	if !errors.Is(err, errGone) {
		t.Errorf("with one message that is gone at once: %v, want %v", err, errGone)
	}
	h, err := startHost(t.Context(), hostConfig{Dir: t.TempDir(), Fill: 20, Handler: 50 * time.Millisecond, Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := h.class(t.Context(), classRequest{Name: "few", Messages: 2, Accept: true}); err != nil {
		t.Errorf("beside the many: %v", err)
	}
	for err == nil { // with ever fewer
		_, err = h.class(t.Context(), classRequest{Name: "few", Messages: 2})
	}
	if !errors.Is(err, errGone) {
		t.Errorf("with the last of them gone: %v, want %v", err, errGone)
	}
}
