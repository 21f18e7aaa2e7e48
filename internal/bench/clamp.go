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

// clampWarmup is what of the sending does not count: of every round, at the most.
const clampWarmup = 2 * time.Second

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
	fs.IntVar(&f.rounds, "rounds", 3, "how often everything is measured")
	fs.DurationVar(&f.duration, "duration", time.Minute, "how long a measurement takes: long enough for what a stall held up to be through before its end")
	fs.DurationVar(&f.callback.Median, "median", 20*time.Millisecond, "half of the callbacks take longer")
	fs.DurationVar(&f.callback.P99, "p99", time.Second, "one in a hundred takes longer")
	fs.DurationVar(&f.callback.Stall, "stall", 10*time.Second, "how long at a time all callbacks stand still")
	fs.DurationVar(&f.callback.Every, "every", 15*time.Second, "how long they run in between")
	fs.BoolVar(&f.quick, "quick", false, "one round of 5 s with a stall of 2 s, where flags do not say otherwise")
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
		"duration": {&f.duration, 5 * time.Second},
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

func (f *clampFlags) warmup() time.Duration { return min(f.duration/10, clampWarmup) }

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

// A clampResult is what clamp measured.
type clampResult struct {
	Rows []*clampRow `json:"rows"`

	// Ratios of p99.9, round by round.
	ToNothing *figure `json:"p999_deferred_to_nothing"`
	ToInline  *figure `json:"p999_inline_to_deferred"`
}

// A clampRow is what one variant measured. Latencies are in microseconds.
type clampRow struct {
	Variant  string  `json:"variant"`
	Messages int     `json:"messages"` // of all rounds
	Rate     figure  `json:"messages_per_second"`
	CPU      figure  `json:"cpu_us"` // of receiving and injecting, per message
	P50      figure  `json:"p50_us"`
	P90      figure  `json:"p90_us"`
	P99      figure  `json:"p99_us"`
	P999     figure  `json:"p999_us"`
	Max      float64 `json:"max_us"`

	Latency     *measure.Histogram `json:"latency"` // of all rounds
	rounds      []*measure.Histogram
	timeline    []moment // of the first round
	rates, cpus []float64
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
	rep.Clamp = newClampResult(rows)
	rep.Targets = rep.Clamp.targets()
	if err := errors.Join(rep.writeClamp(std.out, f), rep.writeJSON(f.json), writeClampSVG(f.svg, rows, f.duration)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

func (f *clampFlags) run(ctx context.Context, r *runner) ([]*clampRow, error) {
	rows := make([]*clampRow, len(variants))
	for i, v := range variants {
		rows[i] = &clampRow{Variant: v}
	}
	err := takeTurns(f.rounds, [][]*clampRow{rows}, func(row *clampRow, turn turn) error {
		dir := filepath.Join(r.dir, fmt.Sprintf("clamp-%s-%d", row.Variant, turn.round))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := f.variant(ctx, row, dir); err != nil {
			return fmt.Errorf("clamp: %s: %w", row.Variant, err)
		}
		h := lastOf(row.rounds)
		fmt.Fprintf(r.progress, "%v  %-8s for %v: p99.9 %s, the longest %s\n", turn, row.Variant, f.duration,
			short(microseconds(h.Quantile(0.999))), short(microseconds(h.Max())))
		return nil
	})
	return rows, err
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
		Warmup:  phase{Duration: f.warmup(), Rate: f.rate},
	}, phase{Duration: f.duration, Rate: f.rate})
	if err != nil {
		return err
	}
	row.Messages += result.Messages
	row.rates = append(row.rates, float64(result.Messages)/result.Elapsed.Seconds())
	row.rounds = append(row.rounds, &result.Latency)
	row.cpus = append(row.cpus, microseconds(used.CPU)/float64(result.Messages))
	if row.timeline == nil {
		row.timeline = result.Timeline
	}
	return nil
}

func (row *clampRow) sumUp() {
	at := func(q float64) figure { return figureOf(quantiles(row.rounds, q)) }
	row.P50, row.P90, row.P99, row.P999, row.Max = at(0.5), at(0.9), at(0.99), at(0.999), at(1).Max
	row.Rate, row.CPU = figureOf(row.rates), figureOf(row.cpus)
	row.Latency = merged(row.rounds)
}

// newClampResult compares what the variants had in the same round.
func newClampResult(rows []*clampRow) *clampResult {
	p := map[string][]float64{}
	for _, row := range rows {
		row.sumUp()
		p[row.Variant] = quantiles(row.rounds, 0.999)
	}
	return &clampResult{Rows: rows,
		ToNothing: quotients(p[variantDeferred], p[variantNothing]), ToInline: quotients(p[variantInline], p[variantDeferred])}
}

func (c *clampResult) targets() []target {
	return []target{
		{Name: "p99.9 of the 250, deferred / nothing", Value: &c.ToNothing.Median, Want: clampToNothing, AtMost: true},
		{Name: "p99.9 of the 250, inline / deferred", Value: &c.ToInline.Median, Want: clampToInline},
	}
}

func (rep *report) writeClamp(w io.Writer, f *clampFlags) error {
	rep.heading(w)
	c := f.callback
	fmt.Fprintf(w, "callback: median %v, 1 in 100 above %v, all stand still for %v after each %v\n", c.Median, c.P99, c.Stall, c.Every)
	fmt.Fprintf(w, "load: %s, %d sessions, %s messages a second where replies allow it; boltspool\n", formatSize(f.sizes.values[0]), f.sessions, number(f.rate))
	fmt.Fprintf(w, "latency of the 250 to the content, of %v behind %v of warming up; nothing is deferred too, with a callback that does nothing\n\n",
		f.duration, f.warmup())
	t := &table{}
	t.add("callback", "messages", "msg/s", "p50", "p90", "p99", "p99.9", "max", "CPU us")
	for _, row := range rep.Clamp.Rows {
		t.add(row.Variant, fmt.Sprint(row.Messages), number(row.Rate.Median), short(row.P50.Median), short(row.P90.Median), short(row.P99.Median),
			shortWithSpread(row.P999), short(row.Max), withSpread(row.CPU))
	}
	err := t.write(w)
	fmt.Fprintf(w, "\np99.9, each round compared with itself: deferred is %s times nothing, inline is %s times deferred\n",
		withSpread(*rep.Clamp.ToNothing), withSpread(*rep.Clamp.ToInline))
	return errors.Join(err, writeTargets(w, rep.Targets))
}
