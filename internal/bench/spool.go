package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// The parts of spool.
const (
	partCommits = "commits" // how fast messages are made durable
	partScale   = "scale"   // what it costs to have many, and to get rid of them
)

// A spoolFlags is what spool was asked for.
type spoolFlags struct {
	parts, subjects      *list[string]
	committers, sizes    *list[int]
	rounds               int
	duration             time.Duration
	bytes                *list[int]
	entries, workers     int
	quick, cold, check   bool
	dir, json, svg, prof string
}

func parseSpool(args []string, stderr io.Writer) (*spoolFlags, error) {
	f := &spoolFlags{
		parts: names([]string{partCommits, partScale}, partCommits, partScale), subjects: names(stores, stores...),
		committers: counts(1, 16, 50, 256), sizes: sizes(1<<10, 4<<10, 100<<10, 1<<20), bytes: sizes(1 << 30),
	}
	fs := newFlags("spool", stderr)
	fs.Var(f.parts, "parts", "commits: messages made durable by many callers; scale: a spool with -entries")
	fs.Var(f.subjects, "subjects", "commits: what to compare")
	fs.Var(f.committers, "committers", "commits: numbers of callers at once")
	fs.Var(f.sizes, "sizes", "commits: sizes of the bodies")
	fs.IntVar(&f.rounds, "rounds", 3, "how often everything is measured")
	fs.DurationVar(&f.duration, "duration", 1500*time.Millisecond, "how long a measurement takes")
	fs.Var(f.bytes, "bytes", "end a measurement when the bodies have so many bytes, or after -duration")
	fs.IntVar(&f.entries, "entries", 1_000_000, "scale: how many messages the spool has")
	fs.IntVar(&f.workers, "workers", 50, "scale: how many accept, and then how many drain")
	fs.BoolVar(&f.cold, "cold", true, "scale: also open with a cold page cache, if that of the machine may be emptied")
	fs.BoolVar(&f.quick, "quick", false, "one short round of a few circumstances, where flags do not say otherwise")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the stores write: on the disk that is meant; deleted at the end")
	fs.StringVar(&f.prof, "profiles", "", "commits: write profiles (CPU, allocations, blocking, mutexes) to this directory, which cost something too; go tool pprof reads them")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		f.quickDefaults(given(fs))
	}
	if f.rounds < 1 || f.duration <= 0 || f.entries < 1 || f.workers < 1 || len(f.bytes.values) != 1 {
		return nil, errors.New("bench: -rounds, -duration, -entries and -workers must be positive, -bytes one size")
	}
	return f, nil
}

// quickDefaults shortens what was not set.
func (f *spoolFlags) quickDefaults(set map[string]bool) {
	if !set["rounds"] {
		f.rounds = 1
	}
	if !set["duration"] {
		f.duration = 500 * time.Millisecond
	}
	if !set["committers"] {
		f.committers.values = []int{1, 50}
	}
	if !set["sizes"] {
		f.sizes.values = []int{4 << 10, 100 << 10}
	}
	if !set["entries"] {
		f.entries = 100_000
	}
}

func (f *spoolFlags) has(part string) bool { return slices.Contains(f.parts.values, part) }

// phase is what is measured at a time.
func (f *spoolFlags) phase() commits.Phase {
	return commits.Phase{Duration: f.duration, Bytes: int64(f.bytes.values[0])}
}

// warmup comes before it.
func (f *spoolFlags) warmup() commits.Phase {
	return commits.Phase{Duration: f.duration / 3, Bytes: int64(f.bytes.values[0]) / 3}
}

// What is on disk at once, at the most: for a byte of a body, and for an entry
// of scale, which has a record of 900 bytes in pages that may be half empty.
const (
	bytesPerByte  = 3 // Pebble has a message in its log, in a memtable's file, and maybe in the next one
	bytesPerEntry = 4 << 10
)

// room returns an error if the disk has less room than f may need.
func (f *spoolFlags) room() error {
	p, w := f.phase(), f.warmup()
	need := uint64(p.Bytes+w.Bytes) * bytesPerByte
	if f.has(partScale) {
		need = max(need, uint64(f.entries)*bytesPerEntry+uint64(p.Bytes+w.Bytes))
	}
	free, err := measure.Free(f.dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("bench: %s has %s MB free, and up to %s are needed: choose another -dir, or fewer -bytes and -entries",
			f.dir, number(megabytes(free)), number(megabytes(need)))
	}
	return nil
}

func megabytes(n uint64) float64 { return float64(n) / (1 << 20) }

// runSpool is the command.
func runSpool(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseSpool(args, std.err)
	if err != nil {
		return err
	}
	if err := f.room(); err != nil {
		return err
	}
	r, err := newRunner(f.dir, f.check, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.rounds = f.rounds
	b := &spoolBench{runner: r, flags: f}
	rep, err := b.run(ctx, args)
	if err != nil {
		return err
	}
	if err := rep.writeSpool(std.out); err != nil {
		return err
	}
	if err := errors.Join(rep.writeJSON(f.json), writeSpoolSVG(f.svg, rep.Commits)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

// A spoolBench is one run of spool.
type spoolBench struct {
	*runner
	flags  *spoolFlags
	pebble string // the program; empty if it is not there
}

func (b *spoolBench) run(ctx context.Context, args []string) (*report, error) {
	var samples []*commitSample
	var scale *scaleRow
	if b.flags.has(partCommits) {
		if slices.Contains(b.flags.subjects.values, storePebble) {
			b.buildPebble(ctx)
		}
		var err error
		if samples, err = b.commits(ctx); err != nil {
			return nil, err
		}
	}
	if b.flags.has(partScale) {
		var err error
		if scale, err = b.scale(ctx); err != nil {
			return nil, fmt.Errorf("scale: %w", err)
		}
	}
	if _, err := measure.DeviceOf(b.flags.dir); err != nil {
		b.absent["bytes and flushes of the disk"] = err
	}
	rep := newReport("spool", args, b.runner)
	rep.Commits, rep.Scale = commitRows(samples), scale
	rep.Targets = append(b.flags.commitTargets(rep.Commits, rep.Absent), scaleTargets(scale)...)
	return rep, nil
}

// pebblePackage is in a module of its own, which go.work lists.
const pebblePackage = "github.com/deferredqueue/deferredqueue/internal/bench/pebble"

// buildPebble builds the program, or says why it is absent.
func (b *spoolBench) buildPebble(ctx context.Context) {
	path := filepath.Join(b.dir, "pebble.exe")
	fmt.Fprintf(b.progress, "  0%% building %s\n", pebblePackage)
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, pebblePackage).CombinedOutput()
	if err != nil {
		end := &tail{}
		end.Write(out)
		b.absent[storePebble] = fmt.Errorf("bench: go build %s: %w %s", pebblePackage, err, end)
		fmt.Fprintf(b.progress, "     %s is absent: %v\n", storePebble, b.absent[storePebble])
		return
	}
	b.pebble = path
}

func (rep *report) writeSpool(w io.Writer) error {
	rep.heading(w)
	var errs []error
	if rep.Commits != nil {
		errs = append(errs, rep.writeCommits(w))
	}
	if rep.Scale != nil {
		errs = append(errs, rep.Scale.write(w))
	}
	errs = append(errs, writeTargets(w, rep.Targets))
	rep.footer(w)
	return errors.Join(errs...)
}
