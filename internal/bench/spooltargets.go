package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// A target is what a figure ought to be.
type target struct {
	Name   string   `json:"name"`
	Value  *float64 `json:"value,omitempty"` // nil if it was not measured
	Note   string   `json:"note,omitempty"`  // why it was not, or what may explain it
	Want   float64  `json:"want"`
	AtMost bool     `json:"at_most,omitempty"` // else at least
}

// Met reports whether the target was measured and reached.
func (t *target) Met() bool {
	switch {
	case t.Value == nil:
		return false
	case t.AtMost:
		return *t.Value <= t.Want
	}
	return *t.Value >= t.Want
}

func (t *target) bound() string {
	if t.AtMost {
		return "at most " + number(t.Want)
	}
	return "at least " + number(t.Want)
}

// verdict says whether the target was met, or by how much it was missed.
func (t *target) verdict() string {
	switch {
	case t.Met():
		return "met"
	case t.Value == nil:
		return "NOT MEASURED"
	case t.AtMost:
		return fmt.Sprintf("MISSED: %.0f%% above", 100*(*t.Value/t.Want-1))
	}
	return fmt.Sprintf("MISSED: %.0f%% below", 100*(1-*t.Value/t.Want))
}

func (t *target) measured() string {
	if t.Value == nil {
		return "-"
	}
	return number(*t.Value)
}

// name is the name, with what may explain it.
func (t *target) name() string {
	if t.Value == nil || t.Note == "" {
		return t.Name
	}
	return t.Name + " (" + t.Note + ")"
}

func writeTargets(w io.Writer, targets []target) error {
	if len(targets) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	tab := &table{}
	tab.add("target", "measured", "wanted", "")
	for _, t := range targets {
		tab.add(t.name(), t.measured(), t.bound(), t.verdict())
	}
	return tab.write(w)
}

// checkTargets returns an error that names every target that was missed, and
// one if there are none.
func checkTargets(targets []target) error {
	if len(targets) == 0 {
		return errors.New("bench: nothing was measured that has a target")
	}
	var missed []string
	for _, t := range targets {
		switch {
		case t.Value == nil:
			missed = append(missed, fmt.Sprintf("%s: not measured: %s", t.Name, t.Note))
		case !t.Met():
			missed = append(missed, fmt.Sprintf("%s: %s, want %s: %s", t.name(), t.measured(), t.bound(), t.verdict()))
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return fmt.Errorf("bench: below target:\n  %s", strings.Join(missed, "\n  "))
}

// What is wanted of commits.
const (
	targetCommitters = 50  // at which rates are compared
	pebbleShare      = 1.0 // of Pebble's rate, at every size
	aloneShare       = 1.3 // of the latency on the bare log, for one committer alone
)

// logShares are the shares of the bare log's rate, by the size of the body.
var logShares = map[int]float64{4 << 10: 0.75, 100 << 10: 0.8}

// commitTargets judges every cell that was asked for and has a target.
func (f *spoolFlags) commitTargets(rows []*commitRow, absent map[string]string) []target {
	if !f.has(partCommits) {
		return nil
	}
	var targets []target
	row := func(subject string, c commitCell) *commitRow {
		i := slices.IndexFunc(rows, func(r *commitRow) bool { return r.commitTrial == commitTrial{subject, c} })
		if i < 0 {
			return &commitRow{}
		}
		return rows[i]
	}
	add := func(c commitCell, what, other string, f *figure, want float64, atMost bool, note string) {
		t := target{Name: fmt.Sprintf("%s: %s / %s", c, what, other), Want: want, AtMost: atMost, Note: note}
		if f != nil && !math.IsNaN(f.Median) {
			t.Value = &f.Median
		} else if t.Note = absent[other]; t.Note == "" {
			t.Note = other + " or " + storeBolt + " was not asked for"
		}
		targets = append(targets, t)
	}
	for _, size := range f.sizes.values {
		for _, n := range f.committers.values {
			c := commitCell{n, size}
			r := row(storeBolt, c)
			if share, ok := logShares[size]; ok && n == targetCommitters {
				add(c, "rate", storeLog, r.RateToLog, share, false, "")
			}
			switch n {
			case targetCommitters:
				add(c, "rate", storePebble, r.RateToPebble, pebbleShare, false, "")
			case 1:
				add(c, "latency", storeLog, r.P50ToLog, aloneShare, true,
					fmt.Sprintf("flushes: %s / %s", known(r.Flushes), known(row(storeLog, c).Flushes)))
			}
		}
	}
	return targets
}
