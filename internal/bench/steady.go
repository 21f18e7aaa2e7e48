package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A steadyFlags is what steady was asked for.
type steadyFlags struct {
	sizes                   *list[int]
	sessions, rounds        int
	duration                time.Duration
	quick, check            bool
	dir, json, svg, profile string
}

func parseSteady(args []string, stderr io.Writer) (*steadyFlags, error) {
	f := &steadyFlags{sizes: sizes(100 << 10)}
	fs := newFlags("steady", stderr)
	fs.Var(f.sizes, "size", "size of the messages")
	fs.IntVar(&f.sessions, "sessions", 50, "number of sessions, each of which sends again when it has its reply")
	fs.IntVar(&f.rounds, "rounds", 3, "how often everything is measured")
	fs.DurationVar(&f.duration, "duration", time.Minute, "how long a measurement takes")
	fs.BoolVar(&f.quick, "quick", false, "one round of 6 s, where flags do not say otherwise")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the spool is; deleted at the end")
	fs.StringVar(&f.profile, "profile", "", "write a CPU profile of the server to this file, and those of allocations, blocking and mutexes beside it; go tool pprof reads them")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	if f.quick {
		set := given(fs)
		if !set["duration"] {
			f.duration = 6 * time.Second
		}
		if !set["rounds"] {
			f.rounds = 1
		}
	}
	switch {
	case len(f.sizes.values) != 1:
		return nil, errors.New("bench: -size is one size")
	case f.sessions < 1 || f.rounds < 1 || f.duration <= 0:
		return nil, errors.New("bench: -sessions, -rounds and -duration must be positive")
	}
	return f, nil
}

// runSteady is the command.
func runSteady(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseSteady(args, std.err)
	if err != nil {
		return err
	}
	r, err := newRunner(f.dir, f.check, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.rounds = f.rounds
	res, err := f.run(ctx, r)
	if err != nil {
		return fmt.Errorf("steady: %w", err)
	}
	rep := newReport("steady", args, r)
	rep.Steady = res
	rep.Targets = res.targets()
	if err := errors.Join(rep.writeSteady(std.out), rep.writeJSON(f.json), writeSteadySVG(f.svg, res)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

// run measures the disk alone, the library, and so on; the disk once more at the end.
func (f *steadyFlags) run(ctx context.Context, r *runner) (*steadyResult, error) {
	res := &steadyResult{Size: f.sizes.values[0], Sessions: f.sessions, Seconds: f.duration.Seconds()}
	for round := range f.rounds + 1 {
		fmt.Fprintf(r.progress, "%3d%% the disk alone\n", 100*round/(f.rounds+1))
		rate, err := diskLimit(ctx, r.dir, res.Size, f.sessions, min(f.duration, max(f.duration/20, time.Second)))
		if err != nil {
			return nil, err
		}
		res.disk = append(res.disk, rate)
		if round == f.rounds {
			break
		}
		dir := filepath.Join(r.dir, fmt.Sprintf("steady-%d", round))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		fmt.Fprintf(r.progress, "%3d%% round %d/%d  %d sessions for %v\n", (100*round+50)/(f.rounds+1), round+1, f.rounds, f.sessions, f.duration)
		run := &steadyRun{flags: f, dir: dir, progress: r.progress}
		if err := run.measure(ctx); err != nil {
			return nil, err
		}
		res.add(run)
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	res.sumUp()
	return res, nil
}

// A steadyRun is one measurement.
type steadyRun struct {
	flags    *steadyFlags
	dir      string
	progress io.Writer

	load          loadResult
	before, after steadyState
	samples       []steadySample
}

// steadySamples is how often a measurement is looked at.
const steadySamples = 60

func (m *steadyRun) measure(ctx context.Context) (err error) {
	var info subjectInfo
	srv, err := startChild(ctx, lifeProcess, subjectConfig{Dir: m.dir, Mode: modePlain, Recipients: 1, Profile: m.flags.profile}, &info)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			srv.kill()
		} else {
			err = srv.stop()
		}
	}()
	client, err := startChild(ctx, loadProcess, loadConfig{
		Addr: info.Addr, Mode: modePlain, Sessions: m.flags.sessions, Size: m.flags.sizes.values[0], Recipients: 1,
		Pipelining: true, Timeout: m.flags.duration + trialTimeout, Warmup: phase{Duration: min(m.flags.duration/6, maxWarmup)},
	}, nil)
	if err != nil {
		return err
	}
	if err := m.sampled(srv, client); err != nil {
		client.kill()
		return err
	}
	return client.stop()
}

// sampled runs the load, and looks at the server meanwhile.
func (m *steadyRun) sampled(srv, client *child) error {
	if err := srv.call("state", &m.before); err != nil {
		return err
	}
	begin, loaded := time.Now(), make(chan error, 1)
	go func() { loaded <- client.call(phase{Duration: m.flags.duration}, &m.load) }()
	tick := time.NewTicker(max(m.flags.duration/steadySamples, time.Millisecond))
	defer tick.Stop()
	last, lastAt := m.before, begin
	var failed error
	for {
		select {
		case err := <-loaded:
			if err := errors.Join(failed, err, srv.call("state", &m.after)); err != nil || len(m.samples) > 0 {
				return err
			}
			return m.sample(time.Since(begin), time.Since(begin), &m.before, &m.after) // the machine had no time for it meanwhile
		case <-tick.C:
		}
		if failed != nil {
			continue // the client ends by itself
		}
		var now steadyState
		if failed = srv.call("state", &now); failed == nil {
			at := time.Now()
			failed = m.sample(at.Sub(begin), at.Sub(lastAt), &last, &now)
			last, lastAt = now, at
		}
	}
}

// sample notes what was seen at a moment, and what happened since the last one.
func (m *steadyRun) sample(at, since time.Duration, last, now *steadyState) error {
	disk, err := filesSize(m.dir)
	if err != nil {
		return err
	}
	removed := float64(now.Removed - last.Removed)
	s := steadySample{
		At: at.Seconds(), Removed: removed / since.Seconds(), Accepted: (removed + float64(now.Queued-last.Queued)) / since.Seconds(),
		Queued: now.Queued, Anon: now.Memory.Anon, File: now.Memory.File, Heap: now.Heap, Disk: disk,
	}
	if m.samples = append(m.samples, s); len(m.samples)%(steadySamples/6) == 0 {
		fmt.Fprintf(m.progress, "     %4.0f s  %s removed a second, %d queued, %s MB on disk\n",
			s.At, number(s.Removed), s.Queued, number(megabytes(uint64(s.Disk))))
	}
	return nil
}
