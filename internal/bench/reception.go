package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What -reception compares. The sink is what reading and TLS alone cost.
const (
	subjectStock     = "stock"
	subjectReception = "reception"
	subjectSink      = "sink"
)

// receptionTargets are the highest shares of stock's CPU per message, by the size
// of the message; they hold for the modes in checkedModes.
var receptionTargets = map[int]float64{4 << 10: 0.7, 100 << 10: 0.35, 1 << 20: 0.2}

var checkedModes = []string{modePlain, modeTLS}

func (f *acceptFlags) receptionDefaults(set map[string]bool) {
	if !set["sizes"] {
		f.sizes.values = []int{1 << 10, 4 << 10, 100 << 10, 1 << 20, 25 << 20}
	}
	if !set["sessions"] {
		f.sessions.values = []int{1, 50}
	}
	if !set["recipients"] {
		f.recipients.values = []int{1}
	}
	if !set["modes"] {
		f.modes.values = modes
	}
	if !set["duration"] {
		f.duration = 400 * time.Millisecond
	}
}

// A receptionRow compares the library with stock in one cell. All CPU is in
// microseconds per message.
type receptionRow struct {
	cell
	Stock   figure  `json:"stock_cpu_us"`
	Library figure  `json:"library_cpu_us"`
	Floor   float64 `json:"floor_cpu_us"`         // of the sink without TLS: reading and answering alone
	TLS     *figure `json:"tls_cpu_us,omitempty"` // what TLS alone costs; nil without TLS
	Ratio   figure  `json:"ratio"`                // as measured
	Net     figure  `json:"ratio_without_tls"`    // after subtracting TLS from both
	Target  float64 `json:"target,omitempty"`     // 0: none
	Met     bool    `json:"met"`                  // or there is none

	StockAllocs, LibraryAllocs float64
	StockIO, LibraryIO         float64 // reads and writes
}

func (f *acceptFlags) runReception(ctx context.Context, args []string, r *runner, std streams) error {
	var groups [][]trial
	for _, c := range f.cells() {
		group := []trial{{subjectStock, c}, {subjectReception, c}}
		groups = append(groups, append(group, sinkTrials(c)...))
	}
	samples, err := r.run(ctx, groups)
	if err != nil {
		return err
	}
	rep := newReport("accept", args, r)
	rep.Results = results(samples)
	rep.Reception = receptionRows(samples)
	if err := rep.writeReception(std.out); err != nil {
		return err
	}
	if err := errors.Join(rep.writeJSON(f.json), writeReceptionSVG(f.svg, rep.Reception)); err != nil {
		return err
	}
	if len(rep.Reception) == 0 {
		return errors.New("bench: nothing was measured")
	}
	if f.check {
		return checkReception(rep.Reception)
	}
	return nil
}

func hasTLS(mode string) bool { return mode == modeTLS || mode == modeSTARTTLS }

// sinkTrials measure reading and answering alone, and what TLS adds to it.
// STARTTLS costs the same once it has begun, and chunks are as long as DATA.
func sinkTrials(c cell) []trial {
	plain, tls := c, c
	plain.Mode, tls.Mode = modePlain, modeTLS
	if !hasTLS(c.Mode) {
		return []trial{{subjectSink, plain}}
	}
	return []trial{{subjectSink, plain}, {subjectSink, tls}}
}

// receptionRows makes a row of every cell that both servers were measured in.
// Rounds are compared with themselves, and medians are taken of their ratios.
func receptionRows(samples []*sample) []*receptionRow {
	var rows []*receptionRow
	for _, group := range groupTrials(samples) {
		if group[0].Subject != subjectReception {
			continue
		}
		if row := newReceptionRow(group, samples); row != nil {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b *receptionRow) int { return compareCells(a.cell, b.cell) })
	return rows
}

func newReceptionRow(group, all []*sample) *receptionRow {
	row := &receptionRow{cell: group[0].cell}
	var stock, library, floor, tls, gross, net []float64
	for _, s := range group {
		o := find(all, trial{subjectStock, s.cell}, s.round)
		if o == nil {
			continue
		}
		sinks := sinkTrials(s.cell)
		plain := findAverage(all, sinks[0], s.round)
		floor = append(floor, plain)
		cost := 0.0
		if len(sinks) > 1 {
			cost = findAverage(all, sinks[1], s.round) - plain
			tls = append(tls, cost)
		}
		stock, library = append(stock, o.cpu()), append(library, s.cpu())
		gross = append(gross, s.cpu()/o.cpu())
		net = append(net, (s.cpu()-cost)/(o.cpu()-cost))
		row.StockAllocs, row.LibraryAllocs = o.perMessage(float64(o.used.Allocs)), s.perMessage(float64(s.used.Allocs))
		row.StockIO, row.LibraryIO = o.perMessage(float64(o.used.Reads+o.used.Writes)), s.perMessage(float64(s.used.Reads+s.used.Writes))
	}
	if len(stock) == 0 {
		return nil
	}
	row.Stock, row.Library = figureOf(stock), figureOf(library)
	row.Floor = median(floor)
	row.Ratio, row.Net = figureOf(gross), figureOf(net)
	if len(tls) > 0 {
		cost := figureOf(tls)
		row.TLS = &cost
	}
	if slices.Contains(checkedModes, row.Mode) {
		row.Target = receptionTargets[row.Size]
	}
	row.Met = row.Target == 0 || row.Net.Median <= row.Target
	return row
}

// findAverage is the mean CPU per message of all samples of a trial in that
// round: the sinks of one round serve TLS and STARTTLS.
func findAverage(samples []*sample, t trial, round int) float64 {
	var sum, n float64
	for _, s := range samples {
		if s.trial == t && s.round == round {
			sum += s.cpu()
			n++
		}
	}
	return sum / n
}

func (rep *report) writeReception(w io.Writer) error {
	rep.heading(w)
	fmt.Fprint(w, "reception: this library's listener over a spool that drops bodies, no Scheduler running; stock: go-smtp that discards.\n"+
		"CPU us, allocations, and reads + writes (system calls) of the server process alone, per message. The floor is a server that\n"+
		"only reads the same octets and answers without looking; TLS is what it uses with TLS beyond that. \"net\" is the ratio after\n"+
		"subtracting TLS from both.\n\n")
	t := &table{}
	t.add("mode", "size", "sessions", "floor", "stock", "reception", "TLS", "ratio", "net", "target", "", "allocs stock", "lib", "r+w stock", "lib")
	for _, row := range rep.Reception {
		target, verdict := "", ""
		if row.Target > 0 {
			target, verdict = number(row.Target), "met"
			if !row.Met {
				verdict = "MISSED"
			}
		}
		t.add(row.Mode, formatSize(row.Size), fmt.Sprint(row.Sessions), number(row.Floor), withSpread(row.Stock), withSpread(row.Library),
			optional(row.TLS), number(row.Ratio.Median), withSpread(row.Net), target, verdict,
			known(row.StockAllocs), known(row.LibraryAllocs), known(row.StockIO), known(row.LibraryIO))
	}
	err := t.write(w)
	rep.footer(w)
	return err
}

// checkReception returns an error that names every target that was missed.
func checkReception(rows []*receptionRow) error {
	var missed []string
	for _, row := range rows {
		if !row.Met {
			missed = append(missed, fmt.Sprintf("%s: %.2f of stock, want at most %.2f", row.cell, row.Net.Median, row.Target))
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return fmt.Errorf("bench: below target:\n  %s", strings.Join(missed, "\n  "))
}
