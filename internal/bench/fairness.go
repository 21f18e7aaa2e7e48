package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// fairnessTimes is what is wanted: the few are through in so many handler times.
const fairnessTimes = 10

// The ways in which the few come.
const (
	comeAccepted = "accepted"    // through the front door, one after the other
	comeDue      = "due at once" // all at the same time, in the spool
)

// A fairnessFlags is what fairness was asked for.
type fairnessFlags struct {
	entries, few, slots, rounds int
	handler                     time.Duration
	quick, check                bool
	dir, json                   string
}

func parseFairness(args []string, stderr io.Writer) (*fairnessFlags, error) {
	f := &fairnessFlags{}
	fs := newFlags("fairness", stderr)
	fs.IntVar(&f.entries, "entries", 1_000_000, "how many messages of one class wait in the deferred queue")
	fs.IntVar(&f.few, "few", 10, "how many of another class come")
	fs.IntVar(&f.slots, "slots", 4, "how many handlers run at once")
	fs.DurationVar(&f.handler, "handler", 50*time.Millisecond, "how long a handler takes")
	fs.IntVar(&f.rounds, "rounds", 5, "how often they come in each way, each time as a new class")
	fs.BoolVar(&f.quick, "quick", false, "100,000 messages and 3 rounds, where flags do not say otherwise")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the spool is; deleted at the end")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		set := given(fs)
		if !set["entries"] {
			f.entries = 100_000
		}
		if !set["rounds"] {
			f.rounds = 3
		}
	}
	if f.entries < 1 || f.few < 1 || f.slots < 1 || f.handler <= 0 || f.rounds < 1 {
		return nil, errors.New("bench: -entries, -few, -slots, -handler and -rounds must be positive")
	}
	return f, nil
}

// A fairnessResult is what was measured.
type fairnessResult struct {
	Entries int            `json:"entries"`
	Few     int            `json:"few"`
	Slots   int            `json:"slots"`
	Handler float64        `json:"handler_us"`
	Rows    []*fairnessRow `json:"rows"`
}

// A fairnessRow is one way in which the few came.
type fairnessRow struct {
	Way   string `json:"way"`
	Times figure `json:"handler_times"` // until the last of the few was through
	Many  figure `json:"many"`          // handlers of the many that returned meanwhile

	times, many []float64
}

func (row *fairnessRow) add(c *classResult, handler time.Duration) {
	row.times = append(row.times, float64(c.Took)/float64(handler))
	row.many = append(row.many, float64(c.Many))
	row.Times, row.Many = figureOf(row.times), figureOf(row.many)
}

// runFairness is the command.
func runFairness(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseFairness(args, std.err)
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
		return fmt.Errorf("fairness: %w", err)
	}
	rep := newReport("fairness", args, r)
	rep.Fairness = &fairnessResult{Entries: f.entries, Few: f.few, Slots: f.slots, Handler: microseconds(f.handler), Rows: rows}
	rep.Targets = rep.Fairness.targets()
	if err := errors.Join(rep.writeFairness(std.out), rep.writeJSON(f.json)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

func (f *fairnessFlags) run(ctx context.Context, r *runner) ([]*fairnessRow, error) {
	fmt.Fprintf(r.progress, "  0%% filling a spool with %d messages\n", f.entries)
	rows := []*fairnessRow{{Way: comeAccepted}, {Way: comeDue}}
	config := hostConfig{Dir: hostDir(r.dir, "fairness"), Fill: f.entries, Handler: f.handler, Slots: f.slots}
	if err := os.Mkdir(config.Dir, 0o700); err != nil {
		return nil, err
	}
	err := withHosts(ctx, []hostConfig{config}, func(hosts []*child) error {
		return takeTurns(f.rounds, [][]*fairnessRow{rows}, func(row *fairnessRow, turn turn) error {
			name := row.Way + strconv.Itoa(turn.round)
			var c classResult
			err := hosts[0].call(hostRequest{Class: &classRequest{Name: name, Messages: f.few, Accept: row.Way == comeAccepted}}, &c)
			if err != nil {
				return err
			}
			row.add(&c, f.handler)
			fmt.Fprintf(r.progress, "%v  %d %s: through in %v, %.1f handler times\n", turn, f.few, row.Way, c.Took.Round(time.Millisecond), float64(c.Took)/float64(f.handler))
			return nil
		})
	})
	return rows, err
}

// targets judges the slowest round of each way.
func (res *fairnessResult) targets() (targets []target) {
	for _, row := range res.Rows {
		targets = append(targets, target{
			Name:  fmt.Sprintf("%d %s: handler times, in the slowest round", res.Few, row.Way),
			Value: &row.Times.Max, Want: fairnessTimes, AtMost: true,
		})
	}
	return targets
}

func (rep *report) writeFairness(w io.Writer) error {
	rep.heading(w)
	res := rep.Fairness
	fmt.Fprintf(w, "%d messages of one class wait in the deferred queue, %d of another come; %d handlers at once, each takes %s; boltspool\n\n",
		res.Entries, res.Few, res.Slots, short(res.Handler))
	t := &table{}
	t.add("the few", "handler times", "slowest", "of the many meanwhile")
	for _, row := range res.Rows {
		t.add(row.Way, withSpread(row.Times), number(row.Times.Max), withSpread(row.Many))
	}
	return errors.Join(t.write(w), writeTargets(w, rep.Targets))
}
