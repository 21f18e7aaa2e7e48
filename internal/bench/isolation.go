package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// What isolation compares, both of it this library with boltspool.
const (
	variantAlone = "alone"
	variantStuck = "stuck" // beside a queue that is stuck
)

// isolationShare is what is wanted: p99 beside a stuck queue, of that alone.
const isolationShare = 1.2

// The ways from one point to the next that are measured.
const (
	wayAccepted = "accepted" // from where the 250 would be written to the callback
	wayRebound  = "rebound"  // from the callback's return to the next handler: with a commit
)

// An isolationFlags is what isolation was asked for.
type isolationFlags struct {
	entries, messages, slice, rounds int
	quick, check, awake              bool
	dir, json, svg                   string
}

func parseIsolation(args []string, stderr io.Writer) (*isolationFlags, error) {
	f := &isolationFlags{}
	fs := newFlags("isolation", stderr)
	fs.IntVar(&f.entries, "entries", 100_000, "how many messages are stuck")
	fs.IntVar(&f.messages, "messages", 2000, "how many pass the other queue in each round, with and without")
	fs.IntVar(&f.slice, "slice", 100, "after how many of them it is the other variant's turn")
	fs.IntVar(&f.rounds, "rounds", 7, "how often everything is measured")
	fs.BoolVar(&f.quick, "quick", false, "3 rounds of 500 messages, where flags do not say otherwise")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.BoolVar(&f.awake, "awake", true, "keep the processors from sleeping, as far as the system allows")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the spools are; deleted at the end")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		set := given(fs)
		if !set["messages"] {
			f.messages = 500
		}
		if !set["rounds"] {
			f.rounds = 3
		}
	}
	if f.entries < 1 || f.messages < 1 || f.slice < 1 || f.rounds < 1 {
		return nil, errors.New("bench: -entries, -messages, -slice and -rounds must be positive")
	}
	return f, nil
}

// An isolationResult is what was measured.
type isolationResult struct {
	Entries int             `json:"stuck_entries"`
	Rows    []*isolationRow `json:"rows"`
	// P99 is the ratio of beside to alone, of each round.
	P99 map[string]*figure `json:"p99_stuck_to_alone"`
	P50 map[string]*figure `json:"p50_stuck_to_alone"`
}

// An isolationRow is one variant and way. Latencies are in microseconds.
type isolationRow struct {
	Variant string  `json:"variant"`
	Way     string  `json:"way"`
	P50     figure  `json:"p50_us"`
	P99     figure  `json:"p99_us"`
	Max     float64 `json:"max_us"`

	rounds  []*measure.Histogram
	Latency *measure.Histogram `json:"latency"` // of all rounds
}

// runIsolation is the command.
func runIsolation(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseIsolation(args, std.err)
	if err != nil {
		return err
	}
	r, err := newRunner(f.dir, f.check, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.rounds = f.rounds
	rows, err := f.run(ctx, r)
	if err != nil {
		return fmt.Errorf("isolation: %w", err)
	}
	rep := newReport("isolation", args, r)
	rep.Isolation = newIsolationResult(f.entries, rows)
	rep.Targets = rep.Isolation.targets()
	if err := errors.Join(rep.writeIsolation(std.out, f), rep.writeJSON(f.json), writeIsolationSVG(f.svg, rows)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

func newIsolationRows() (rows []*isolationRow) {
	for _, way := range []string{wayAccepted, wayRebound} {
		for _, variant := range []string{variantAlone, variantStuck} {
			rows = append(rows, &isolationRow{Variant: variant, Way: way, Latency: &measure.Histogram{}})
		}
	}
	return rows
}

// run has both variants ready at the same time, and has them take turns that are
// so short that whatever else the machine does meets both.
func (f *isolationFlags) run(ctx context.Context, r *runner) ([]*isolationRow, error) {
	fmt.Fprintf(r.progress, "  0%% filling a spool with %d messages\n", f.entries)
	rows := newIsolationRows()
	variants := []string{variantAlone, variantStuck}
	configs := []hostConfig{{Dir: hostDir(r.dir, variantAlone)}, {Dir: hostDir(r.dir, variantStuck), Fill: f.entries}}
	for _, c := range configs {
		if err := os.Mkdir(c.Dir, 0o700); err != nil {
			return nil, err
		}
	}
	if f.awake {
		stop, err := keepAwake()
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	err := withHosts(ctx, configs, func(hosts []*child) error {
		for i := range hosts { // once before it counts
			if err := hosts[i].call(hostRequest{Pass: f.slice}, nil); err != nil {
				return err
			}
		}
		for round := range f.rounds {
			begin := time.Now()
			results := []*passResult{{}, {}}
			for n, turn := 0, 0; n < f.messages; n, turn = n+f.slice, turn+1 {
				for k := range hosts {
					i := (k + turn) % len(hosts)
					var p passResult
					if err := hosts[i].call(hostRequest{Pass: min(f.slice, f.messages-n)}, &p); err != nil {
						return fmt.Errorf("%s: %w", variants[i], err)
					}
					results[i].Accepted.Merge(&p.Accepted)
					results[i].Rebound.Merge(&p.Rebound)
				}
			}
			for i, v := range variants {
				addRound(rows, v, results[i])
			}
			alone, stuck := &results[0].Accepted, &results[1].Accepted
			fmt.Fprintf(r.progress, "%3d%% round %d/%d  p99 alone %s, beside what is stuck %s; %d messages each in %v\n", 100*(round+1)/f.rounds, round+1, f.rounds,
				short(microseconds(alone.Quantile(0.99))), short(microseconds(stuck.Quantile(0.99))), f.messages, time.Since(begin).Round(time.Millisecond))
		}
		return nil
	})
	return rows, err
}

func addRound(rows []*isolationRow, variant string, p *passResult) {
	for _, row := range rows {
		if row.Variant != variant {
			continue
		}
		h := &p.Accepted
		if row.Way == wayRebound {
			h = &p.Rebound
		}
		row.rounds = append(row.rounds, h)
		row.Latency.Merge(h)
	}
}

func (row *isolationRow) at(q float64) []float64 { return quantiles(row.rounds, q) }

func newIsolationResult(entries int, rows []*isolationRow) *isolationResult {
	res := &isolationResult{Entries: entries, Rows: rows, P99: map[string]*figure{}, P50: map[string]*figure{}}
	alone := map[string]*isolationRow{}
	for _, row := range rows {
		row.P50, row.P99, row.Max = figureOf(row.at(0.5)), figureOf(row.at(0.99)), microseconds(row.Latency.Max())
		if row.Variant == variantAlone {
			alone[row.Way] = row
			continue
		}
		res.P50[row.Way] = quotients(row.at(0.5), alone[row.Way].at(0.5))
		res.P99[row.Way] = quotients(row.at(0.99), alone[row.Way].at(0.99))
	}
	return res
}

func (res *isolationResult) targets() []target {
	return []target{{
		Name:  "p99 of the hand-over, beside a stuck queue / alone",
		Value: &res.P99[wayAccepted].Median, Want: isolationShare, AtMost: true,
	}}
}

func (rep *report) writeIsolation(w io.Writer, f *isolationFlags) error {
	rep.heading(w)
	res := rep.Isolation
	fmt.Fprintf(w, "%d messages are stuck in one queue, all its slots taken; messages pass two others one by one, %d in each round; boltspool\n"+
		"processors are kept awake: %v\n"+
		"accepted: from the 250 to the callback; rebound: from the callback's return to the next handler, with a commit between them\n\n", res.Entries, f.messages, f.awake)
	t := &table{}
	t.add("way", "p50 alone", "beside", "ratio", "p99 alone", "beside", "ratio", "max alone", "beside")
	for i := 0; i+1 < len(res.Rows); i += 2 {
		a, b := res.Rows[i], res.Rows[i+1]
		t.add(a.Way, short(a.P50.Median), short(b.P50.Median), withSpread(*res.P50[a.Way]),
			short(a.P99.Median), short(b.P99.Median), withSpread(*res.P99[a.Way]), short(a.Max), short(b.Max))
	}
	return errors.Join(t.write(w), writeTargets(w, rep.Targets))
}

// writeIsolationSVG plots the distributions.
func writeIsolationSVG(path string, rows []*isolationRow) error {
	var panels []panel
	for i, row := range rows {
		if i%2 == 0 {
			p := panel{title: "latency of the hand-over: " + row.Way, xLabel: "share of the messages handed over by then", format: short}
			for i, label := range []string{"0", "90 %", "99 %", "99.9 %"} {
				p.xTicks = append(p.xTicks, tick{float64(i), label})
			}
			panels = append(panels, p)
		}
		p := &panels[len(panels)-1]
		for x := 0.0; x <= 3; x += 0.05 { // every 20th of a nine
			p.add(row.Variant, point{x, microseconds(row.Latency.Quantile(1 - math.Pow(10, -x)))})
		}
	}
	return writeSVG(path, panels)
}
