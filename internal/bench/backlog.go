package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// A backlogFlags is what backlog was asked for.
type backlogFlags struct {
	queued, sizes      *list[int]
	workers, rounds    int
	duration           time.Duration
	quick, check, cold bool
	dir, json, svg     string
}

func parseBacklog(args []string, stderr io.Writer) (*backlogFlags, error) {
	f := &backlogFlags{
		queued: &list[int]{values: []int{0, 100_000, 1_000_000}, parse: parseQueued, format: strconv.Itoa},
		sizes:  sizes(4 << 10),
	}
	fs := newFlags("backlog", stderr)
	fs.Var(f.queued, "queued", "how many messages wait: 0 first, to compare with; 10 million take 17 GB of disk, 1 GB of memory and five minutes")
	fs.Var(f.sizes, "size", "size of the messages that are accepted and injected; those that wait have bodies of 512 bytes")
	fs.IntVar(&f.workers, "workers", 50, "how many take messages in at once")
	fs.IntVar(&f.rounds, "rounds", 5, "how often everything is measured, in a new process each time")
	fs.DurationVar(&f.duration, "duration", 2*time.Second, "how long messages are taken in each time")
	fs.BoolVar(&f.quick, "quick", false, "0 and 20,000 messages, 2 rounds of 300 ms, where flags do not say otherwise")
	fs.BoolVar(&f.cold, "cold", true, "start with an empty page cache too; it needs root, and empties that of the machine")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the spools are; deleted at the end")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		f.quickDefaults(given(fs))
	}
	switch q := f.queued.values; {
	case len(q) < 2 || q[0] != 0 || !slices.IsSorted(q) || len(slices.Compact(slices.Clone(q))) != len(q):
		return nil, errors.New("bench: -queued is 0 and one or more numbers, in rising order")
	case len(f.sizes.values) != 1:
		return nil, errors.New("bench: -size is one size")
	case f.workers < 1 || f.rounds < 1 || f.duration <= 0:
		return nil, errors.New("bench: -workers, -rounds and -duration must be positive")
	}
	return f, nil
}

func (f *backlogFlags) quickDefaults(set map[string]bool) {
	if !set["queued"] {
		f.queued.values = []int{0, 20_000}
	}
	if !set["rounds"] {
		f.rounds = 2
	}
	if !set["duration"] {
		f.duration = 300 * time.Millisecond
	}
}

func parseQueued(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 100_000_000 {
		return 0, fmt.Errorf("%q is no number from 0 to 100 million", s)
	}
	return n, nil
}

// runBacklog is the command.
func runBacklog(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseBacklog(args, std.err)
	if err != nil {
		return err
	}
	r, err := newRunner(f.dir, f.check, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.rounds = f.rounds
	b := &backlogBench{flags: f, runner: r}
	if err := b.run(ctx); err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	rep := newReport("backlog", args, r)
	rep.Backlog = &backlogResult{Size: f.sizes.values[0], Workers: f.workers, Rows: b.rows}
	rep.Targets = rep.Backlog.targets()
	if err := errors.Join(rep.writeBacklog(std.out), rep.writeJSON(f.json), writeBacklogSVG(f.svg, rep.Backlog)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

// A backlogBench measures spools with different numbers of messages by turns.
type backlogBench struct {
	flags *backlogFlags
	*runner
	rows []*backlogRow
}

func (b *backlogBench) run(ctx context.Context) error {
	for _, n := range b.flags.queued.values {
		row := &backlogRow{Queued: n}
		b.rows = append(b.rows, row)
		if err := b.fill(ctx, row); err != nil {
			return fmt.Errorf("filling a spool with %d: %w", n, err)
		}
	}
	err := takeTurns(b.rounds, [][]*backlogRow{b.rows}, func(row *backlogRow, turn turn) error {
		if err := b.round(ctx, row); err != nil {
			return fmt.Errorf("%d queued: %w", row.Queued, err)
		}
		fmt.Fprintf(b.progress, "%v  %d queued: first inject after %s, killed %s; CPU %s accepting, %s injecting\n", turn, row.Queued,
			short(1e6*lastOf(row.first)), short(1e6*lastOf(row.killedFirst)), short(lastOf(row.acceptCPU)), short(lastOf(row.injectCPU)))
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.restartCold(ctx); err != nil {
		return err
	}
	for _, row := range b.rows {
		row.sumUp(b.rows[0])
	}
	return nil
}

func lastOf[T any](values []T) T { return values[len(values)-1] }

func (b *backlogBench) config(row *backlogRow) queuedConfig {
	return queuedConfig{
		Dir:    filepath.Join(b.dir, "queued-"+strconv.Itoa(row.Queued)),
		Queued: row.Queued, Workers: b.flags.workers, Size: b.flags.sizes.values[0],
	}
}

// fill makes a spool, in which one message is due.
func (b *backlogBench) fill(ctx context.Context, row *backlogRow) error {
	config := b.config(row)
	config.Fill = true
	if err := os.Mkdir(config.Dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(b.progress, "  0%% filling a spool with %d messages\n", row.Queued)
	begin := time.Now()
	err := withQueued(ctx, config, func(c *child, _ *queuedOpened) error {
		const step = 200_000
		for left := row.Queued; left > 0; left -= step {
			if err := c.call(queuedRequest{Fill: min(left, step)}, nil); err != nil {
				return err
			}
		}
		row.FillRate = float64(row.Queued) / time.Since(begin).Seconds()
		return c.call(queuedRequest{Due: true}, nil)
	})
	if err != nil {
		return err
	}
	row.Files, err = filesSize(config.Dir)
	return err
}

// round restarts on a spool, accepts and injects; the process is killed and the next
// one restarts on what it left behind, and stops.
func (b *backlogBench) round(ctx context.Context, row *backlogRow) error {
	err := b.killed(ctx, row)
	if err != nil {
		return err
	}
	return withQueued(ctx, b.config(row), func(c *child, o *queuedOpened) error {
		row.openedKilled(o)
		return c.call(queuedRequest{Due: true}, nil)
	})
}

func (b *backlogBench) killed(ctx context.Context, row *backlogRow) error {
	return startQueued(ctx, b.config(row), func(c *child, o *queuedOpened) error {
		defer c.kill()
		row.opened(o)
		var accepted, injected commits.Result
		if err := c.call(queuedRequest{Accept: b.flags.duration}, &accepted); err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		if err := c.call(queuedRequest{Inject: true}, &injected); err != nil {
			return fmt.Errorf("injecting: %w", err)
		}
		row.add(&accepted, &injected)
		return c.call(queuedRequest{Due: true}, nil)
	})
}

// restartCold comes last: what is read anew lies in the page cache in another way.
func (b *backlogBench) restartCold(ctx context.Context) error {
	for _, row := range b.rows {
		err := errors.New("bench: not asked for (-cold=false)")
		if b.flags.cold {
			err = dropCaches()
		}
		if err != nil {
			b.absent["restarts with a cold page cache"] = err
			return nil
		}
		err = withQueued(ctx, b.config(row), func(c *child, o *queuedOpened) error {
			row.Cold = o.First.Seconds()
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withQueued starts a queued process, and stops it after use.
func withQueued(ctx context.Context, config queuedConfig, use func(*child, *queuedOpened) error) error {
	return startQueued(ctx, config, func(c *child, opened *queuedOpened) error {
		if err := use(c, opened); err != nil {
			c.kill()
			return err
		}
		return c.stop()
	})
}

// startQueued starts one, which use has to end.
func startQueued(ctx context.Context, config queuedConfig, use func(*child, *queuedOpened) error) error {
	config.Began = time.Now()
	var opened *queuedOpened
	c, err := startChild(ctx, queuedProcess, config, &opened)
	if err != nil {
		return err
	}
	return use(c, opened)
}
