package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// What clamp compares, all of it this library with boltspool.
const (
	variantInline   = "inline"   // the callback runs before the 250
	variantDeferred = "deferred" // and behind it
	variantNothing  = "nothing"  // deferred, with a callback that does nothing
)

var variants = []string{variantInline, variantDeferred, variantNothing}

// The targets of clamp, about p99.9.
const (
	clampToNothing = 1.5 // deferred, at most this times nothing
	clampToInline  = 100 // inline, at least this times deferred
)

// A clampFlags is what clamp was asked for.
type clampFlags struct {
	sizes          *list[int]
	sessions       int
	rate           float64
	rounds         int
	duration       time.Duration
	callback       callback
	quick, check   bool
	dir, json, svg string
}

func parseClamp(args []string, stderr io.Writer) (*clampFlags, error) {
	f := &clampFlags{sizes: sizes(4 << 10)}
	fs := newFlags("clamp", stderr)
	fs.Var(f.sizes, "size", "size of the messages")
	fs.IntVar(&f.sessions, "sessions", 50, "number of sessions")
	fs.Float64Var(&f.rate, "rate", 200, "messages a second in all sessions, while there is a session that waits for no reply")
	fs.IntVar(&f.rounds, "rounds", 3, "how often everything is measured; p99.9 is that of all rounds together")
	fs.DurationVar(&f.duration, "duration", 50*time.Second, "how long a measurement takes")
	fs.DurationVar(&f.callback.Median, "median", 20*time.Millisecond, "half of the callbacks take longer")
	fs.DurationVar(&f.callback.P99, "p99", time.Second, "one in a hundred takes longer")
	fs.DurationVar(&f.callback.Stall, "stall", 10*time.Second, "how long at a time all callbacks stand still")
	fs.DurationVar(&f.callback.Every, "every", 15*time.Second, "how long they run in between")
	fs.BoolVar(&f.quick, "quick", false, "one round of 6 s with a stall of 2 s, where flags do not say otherwise")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the servers store; deleted at the end")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		f.quickDefaults(given(fs))
	}
	return f, f.validate()
}

func (f *clampFlags) quickDefaults(set map[string]bool) {
	for name, short := range map[string]struct {
		field *time.Duration
		value time.Duration
	}{
		"duration": {&f.duration, 6 * time.Second},
		"stall":    {&f.callback.Stall, 2 * time.Second},
		"every":    {&f.callback.Every, 2 * time.Second},
	} {
		if !set[name] {
			*short.field = short.value
		}
	}
	if !set["rounds"] {
		f.rounds = 1
	}
}

func (f *clampFlags) validate() error {
	switch {
	case len(f.sizes.values) != 1:
		return errors.New("bench: -size is one size")
	case f.sessions < 1 || f.rate <= 0 || f.rounds < 1 || f.duration <= 0:
		return errors.New("bench: -sessions, -rate, -rounds and -duration must be positive")
	case f.callback.Median <= 0 || f.callback.P99 < f.callback.Median:
		return errors.New("bench: -median must be positive, and -p99 at least as long")
	case f.callback.Stall < 0 || f.callback.Every < 0 || f.callback.Stall > 0 && f.callback.Every == 0:
		return errors.New("bench: -stall must not be negative, and -every must be positive")
	}
	return nil
}

// A clampRow is what one variant measured. Latencies are in microseconds.
type clampRow struct {
	Variant  string  `json:"variant"`
	Messages int     `json:"messages"`
	Rate     float64 `json:"messages_per_second"`
	CPU      figure  `json:"cpu_us"` // of receiving and injecting, per message
	P50      float64 `json:"p50_us"`
	P90      float64 `json:"p90_us"`
	P99      float64 `json:"p99_us"`
	P999     float64 `json:"p999_us"`
	Max      float64 `json:"max_us"`

	Latency  *measure.Histogram `json:"latency"`
	latency  measure.Histogram
	timeline []moment // of the first round
	cpus     []float64
	elapsed  time.Duration
}

// runClamp is the command.
func runClamp(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseClamp(args, std.err)
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
		return err
	}
	rep := newReport("clamp", args, r)
	rep.Clamp = rows
	if err := rep.writeClamp(std.out, f); err != nil {
		return err
	}
	if err := errors.Join(rep.writeJSON(f.json), writeClampSVG(f.svg, rows, f.duration)); err != nil {
		return err
	}
	if f.check {
		return checkClamp(rows)
	}
	return nil
}

func (f *clampFlags) run(ctx context.Context, r *runner) ([]*clampRow, error) {
	rows := make([]*clampRow, len(variants))
	for i, v := range variants {
		rows[i] = &clampRow{Variant: v}
	}
	for round := range f.rounds {
		for i, row := range rows {
			fmt.Fprintf(r.progress, "%3d%% round %d/%d  %s for %v\n", 100*(round*len(rows)+i)/(len(rows)*f.rounds), round+1, f.rounds, row.Variant, f.duration)
			dir := filepath.Join(r.dir, fmt.Sprintf("clamp-%s-%d", row.Variant, round))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return nil, err
			}
			if err := f.variant(ctx, row, dir); err != nil {
				return nil, fmt.Errorf("clamp: %s: %w", row.Variant, err)
			}
		}
	}
	for _, row := range rows {
		row.sumUp()
	}
	return rows, nil
}

// variant measures one of them once.
func (f *clampFlags) variant(ctx context.Context, row *clampRow, dir string) (err error) {
	config := subjectConfig{Server: "clamp", Dir: dir, Mode: modePlain, Deferred: row.Variant != variantInline}
	if row.Variant != variantNothing {
		config.Callback = f.callback
	}
	srv, err := startOwn(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	result, used, err := load(ctx, srv, loadConfig{
		Mode: modePlain, Sessions: f.sessions, Size: f.sizes.values[0], Recipients: 1, Pipelining: true,
		Timeout: f.duration + trialTimeout,
	}, phase{Duration: f.duration, Rate: f.rate})
	if err != nil {
		return err
	}
	row.Messages += result.Messages
	row.elapsed += result.Elapsed
	row.latency.Merge(&result.Latency)
	row.cpus = append(row.cpus, microseconds(used.CPU)/float64(result.Messages))
	if row.timeline == nil {
		row.timeline = result.Timeline
	}
	return nil
}

func (row *clampRow) sumUp() {
	at := func(q float64) float64 { return microseconds(row.latency.Quantile(q)) }
	row.P50, row.P90, row.P99, row.P999, row.Max = at(0.5), at(0.9), at(0.99), at(0.999), at(1)
	row.Rate = float64(row.Messages) / row.elapsed.Seconds()
	row.CPU = figureOf(row.cpus)
	row.Latency = &row.latency
}

func (rep *report) writeClamp(w io.Writer, f *clampFlags) error {
	rep.heading(w)
	c := f.callback
	fmt.Fprintf(w, "callback: median %v, 1 in 100 above %v, all stand still for %v after each %v\n", c.Median, c.P99, c.Stall, c.Every)
	fmt.Fprintf(w, "load: %s, %d sessions, %s messages a second where replies allow it; boltspool\n", formatSize(f.sizes.values[0]), f.sessions, number(f.rate))
	fmt.Fprint(w, "latency of the 250 to the content; nothing is deferred too, with a callback that does nothing\n\n")
	t := &table{}
	t.add("callback", "messages", "msg/s", "p50", "p90", "p99", "p99.9", "max", "CPU us")
	for _, row := range rep.Clamp {
		t.add(row.Variant, fmt.Sprint(row.Messages), number(row.Rate), short(row.P50), short(row.P90), short(row.P99),
			short(row.P999), short(row.Max), withSpread(row.CPU))
	}
	err := t.write(w)
	toNothing, toInline := clampRatios(rep.Clamp)
	fmt.Fprintf(w, "\np99.9: deferred is %.2f times nothing (target: at most %.1f), inline is %s times deferred (target: at least %d)\n",
		toNothing, clampToNothing, number(toInline), clampToInline)
	return err
}

// clampRatios compares p99.9: deferred to nothing, and inline to deferred.
func clampRatios(rows []*clampRow) (toNothing, toInline float64) {
	p := map[string]float64{}
	for _, row := range rows {
		p[row.Variant] = row.P999
	}
	return p[variantDeferred] / p[variantNothing], p[variantInline] / p[variantDeferred]
}

func checkClamp(rows []*clampRow) error {
	toNothing, toInline := clampRatios(rows)
	if toNothing <= clampToNothing && toInline >= clampToInline {
		return nil
	}
	return fmt.Errorf("bench: below target: p99.9 of deferred is %.2f times that of nothing, want at most %.1f; inline is %s times deferred, want at least %d",
		toNothing, clampToNothing, number(toInline), clampToInline)
}
