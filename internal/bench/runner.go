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

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A cell is one set of circumstances.
type cell struct {
	Mode       string `json:"mode"`
	Size       int    `json:"size"`
	Sessions   int    `json:"sessions"`
	Recipients int    `json:"recipients"`
}

func (c cell) String() string {
	return fmt.Sprintf("%s, %s, %d sessions, %d recipients", c.Mode, formatSize(c.Size), c.Sessions, c.Recipients)
}

// A trial is one subject under one load.
type trial struct {
	Subject string `json:"subject"`
	cell
}

// A sample is what one round of a trial measured.
type sample struct {
	trial
	round    int
	messages int
	elapsed  time.Duration
	used     usage         // by the server
	client   time.Duration // CPU of the client
	latency  *measure.Histogram
	source   *sourceResult // what smtp-source measured; nil without
}

// perMessage is a share of the round's messages.
func (s *sample) perMessage(n float64) float64 { return n / float64(s.messages) }

// rate is in messages a second.
func (s *sample) rate() float64 { return float64(s.messages) / s.elapsed.Seconds() }

// cpu is in microseconds per message.
func (s *sample) cpu() float64 {
	return s.perMessage(float64(s.used.CPU.Nanoseconds()) / 1e3)
}

// A server is a subject that runs in processes of its own and listens.
type server interface {
	addr() string
	usage() (usage, error)
	// clean deletes what it accepted so far.
	clean(ctx context.Context) error
	stop() error
}

// A runner runs trials, round by round, so that whatever else the machine does
// meets all subjects alike.
type runner struct {
	dir        string // of all that is stored; deleted by close
	progress   io.Writer
	rounds     int
	measured   func(trial) phase
	warmup     func(trial) phase // before it
	pipelining bool
	source     bool   // smtp-source too, where it can
	profiles   string // the directory for profiles; none if empty
	exim       string // where its packages are unpacked; empty: it is installed

	fileSystem string            // that dir lies on; empty if it is not known
	foreign    map[string]server // kept running; others are started per trial
	versions   map[string]string // of them
	absent     map[string]error  // what cannot be measured here, and why
	serial     int
}

// newRunner makes a directory under dir, or under the system's for temporary
// files if that is empty. durable says that figures are wanted of what reaches a
// disk: dir must lie on one then.
func newRunner(dir string, durable bool, progress io.Writer) (*runner, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	name, _ := fileSystem(dir) // the report says that it is not known
	if durable && slices.Contains(withoutDisk, name) {
		return nil, fmt.Errorf("bench: -check: %s is a %s, whose flushes cost nothing: name a directory on a disk with -dir", dir, name)
	}
	dir, err := os.MkdirTemp(dir, "deferredqueue-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: a directory for the servers: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // other servers give up root
		return nil, fmt.Errorf("bench: the directory of the servers: %w", err)
	}
	return &runner{
		dir: dir, progress: progress, fileSystem: name,
		foreign: map[string]server{}, versions: map[string]string{}, absent: map[string]error{},
	}, nil
}

// withoutDisk are file systems that have no disk.
var withoutDisk = []string{"tmpfs", "ramfs"}

// fileSystem is another in tests.
var fileSystem = measure.FileSystem

// close stops all servers and deletes what they stored.
func (r *runner) close() error {
	var errs []error
	for _, s := range r.foreign {
		errs = append(errs, s.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// run runs all groups, as takeTurns does.
func (r *runner) run(ctx context.Context, groups [][]trial) ([]*sample, error) {
	var samples []*sample
	err := takeTurns(r.rounds, groups, func(t trial, turn turn) error {
		s, err := r.trial(ctx, t, turn.round)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.Subject, t.cell, err)
		}
		if s != nil {
			r.report(s, t, turn)
			samples = append(samples, s)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return samples, nil
}

// A turn says how far a run is.
type turn struct {
	round, rounds int
	percent       int // with this turn done
}

func (t turn) String() string {
	return fmt.Sprintf("%3d%% round %d/%d", t.percent, t.round+1, t.rounds)
}

// takeTurns runs all groups in each round, and the trials of a group one after
// the other, in every second round backwards.
func takeTurns[T any](rounds int, groups [][]T, run func(T, turn) error) error {
	total, done := 0, 0
	for _, g := range groups {
		total += len(g) * rounds
	}
	for round := range rounds {
		for _, group := range groups {
			for i := range group {
				t := group[i]
				if round%2 == 1 {
					t = group[len(group)-1-i]
				}
				done++
				if err := run(t, turn{round, rounds, 100 * done / total}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *runner) report(s *sample, t trial, turn turn) {
	fmt.Fprintf(r.progress, "%v  %-14s %-44s %9.0f msg/s %10.1f us CPU/msg\n", turn, t.Subject, t.cell, s.rate(), s.cpu())
}

// trialTimeout bounds one trial.
const trialTimeout = 5 * time.Minute

// An absentError says why there is a program of others that cannot be measured here.
// It is no failure of what was started.
type absentError struct{ why string }

func (e *absentError) Error() string { return "bench: " + e.why }

// trial measures one subject once. Without an error there is no sample if the
// subject is absent.
func (r *runner) trial(ctx context.Context, t trial, round int) (_ *sample, err error) {
	if r.absent[t.Subject] != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	srv, err := r.start(ctx, t)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if absent := (*absentError)(nil); !errors.As(err, &absent) {
			return nil, err
		}
		r.absent[t.Subject] = err
		fmt.Fprintf(r.progress, "     %s is absent: %v\n", t.Subject, err)
		return nil, nil
	}
	defer func() { err = errors.Join(err, r.finish(ctx, t, srv)) }()
	s, err := r.measure(ctx, t, srv)
	if err != nil {
		return nil, err
	}
	s.round = round
	if r.source && t.Mode == modePlain {
		s.source, err = runSource(ctx, srv, t.cell, s.messages)
	}
	return s, err
}

// start starts a subject, or takes one that is running.
func (r *runner) start(ctx context.Context, t trial) (server, error) {
	if srv := r.foreign[t.Subject]; srv != nil {
		return srv, nil
	}
	r.serial++
	dir := filepath.Join(r.dir, t.Subject+"-"+strconv.Itoa(r.serial))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if start, ok := foreignServers[t.Subject]; ok {
		srv, err := start(ctx, dir, r.exim)
		if err == nil {
			r.foreign[t.Subject] = srv
			if f, ok := srv.(*foreignServer); ok {
				r.versions[t.Subject] = f.version
			}
		}
		return srv, err
	}
	config := subjectConfig{Server: t.Subject, Dir: dir, Mode: t.Mode, Recipients: t.Recipients}
	if r.profiles != "" {
		config.Profile = filepath.Join(r.profiles, fmt.Sprintf("%s-%s-%s-%ds-%dr-%d.pprof",
			t.Subject, t.Mode, formatSize(t.Size), t.Sessions, t.Recipients, r.serial))
	}
	return startOwn(ctx, config)
}

// finish stops a server, or prepares it for the next trial.
func (r *runner) finish(ctx context.Context, t trial, srv server) error {
	if r.foreign[t.Subject] != nil {
		return srv.clean(ctx)
	}
	return srv.stop()
}

// measure loads a server as r says.
func (r *runner) measure(ctx context.Context, t trial, srv server) (*sample, error) {
	result, used, err := load(ctx, srv, loadConfig{
		Mode: t.Mode, Sessions: t.Sessions, Size: t.Size, Recipients: t.Recipients,
		Pipelining: r.pipelining, Timeout: trialTimeout,
		Warmup: r.warmup(t),
	}, r.measured(t))
	if err != nil {
		return nil, err
	}
	return &sample{
		trial: t, messages: result.Messages, elapsed: result.Elapsed, used: used,
		client: result.CPU, latency: &result.Latency,
	}, nil
}

// load sends one phase to a server, from a process of its own, and returns what
// the server used meanwhile. Opening the sessions and warming up do not count.
func load(ctx context.Context, srv server, config loadConfig, p phase) (*loadResult, usage, error) {
	config.Addr = srv.addr()
	child, err := startChild(ctx, loadProcess, config, nil)
	if err != nil {
		return nil, usage{}, err
	}
	var result loadResult
	before, err := srv.usage()
	if err == nil {
		err = child.call(p, &result)
	}
	if err != nil {
		child.kill()
		return nil, usage{}, err
	}
	after, err := srv.usage()
	if err := errors.Join(err, child.stop()); err != nil {
		return nil, usage{}, err
	}
	return &result, after.since(before), nil
}

// An ownServer is a subject process of this program.
type ownServer struct {
	child *child
	dir   string
	info  subjectInfo
}

func startOwn(ctx context.Context, config subjectConfig) (*ownServer, error) {
	s := &ownServer{dir: config.Dir}
	var err error
	if s.child, err = startChild(ctx, subjectProcess, config, &s.info); err != nil {
		return nil, errors.Join(err, os.RemoveAll(config.Dir))
	}
	return s, nil
}

func (s *ownServer) addr() string { return s.info.Addr }

func (s *ownServer) usage() (u usage, err error) {
	err = s.child.call("usage", &u)
	return u, err
}

func (s *ownServer) clean(context.Context) error { return nil }

func (s *ownServer) stop() error { return errors.Join(s.child.stop(), os.RemoveAll(s.dir)) }
