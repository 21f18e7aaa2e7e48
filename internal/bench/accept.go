package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// acceptSubjects are all that accept compares, in the order of its tables.
var acceptSubjects = []string{"stock", "stock-file", "memory", "boltspool", "deferredspool", "postfix", "exim"}

// An acceptFlags is what accept was asked for.
type acceptFlags struct {
	subjects, modes             *list[string]
	sizes, sessions, recipients *list[int]
	rounds, messages            int
	duration                    time.Duration
	quick, source, pipelining   bool
	reception, check            bool
	dir, json, svg              string
	profiles, exim              string
}

func parseAccept(args []string, stderr io.Writer) (*acceptFlags, error) {
	f := &acceptFlags{
		subjects: names(acceptSubjects, acceptSubjects...), modes: names(modes, modePlain),
		sizes: sizes(4<<10, 100<<10, 1<<20), sessions: counts(1, 50, 200), recipients: counts(1, 50),
	}
	fs := newFlags("accept", stderr)
	fs.Var(f.subjects, "subjects", "what to compare")
	fs.Var(f.modes, "modes", "plain, starttls, tls (from the first octet on) or bdat")
	fs.Var(f.sizes, "sizes", "sizes of the messages")
	fs.Var(f.sessions, "sessions", "numbers of sessions at once")
	fs.Var(f.recipients, "recipients", "numbers of recipients of a message")
	fs.IntVar(&f.rounds, "rounds", 3, "how often everything is measured")
	fs.IntVar(&f.messages, "messages", 0, "end a measurement after so many messages, or -duration; 0 means that only that counts")
	fs.DurationVar(&f.duration, "duration", 0, "how long a measurement takes; 0 means 5s below 64KB, 1.2s from there on, and for boltspool until a segment is full")
	fs.BoolVar(&f.quick, "quick", false, "one short round of a few circumstances, where flags do not say otherwise")
	fs.BoolVar(&f.source, "smtp-source", false, "let smtp-source send the same (plain only), and print what it measures beside")
	fs.BoolVar(&f.pipelining, "pipelining", true, "send MAIL, RCPT and DATA in one write (RFC 2920), as Postfix does")
	fs.BoolVar(&f.reception, "reception", false, "only what reception costs: this library over a spool that drops bodies, against stock")
	fs.BoolVar(&f.check, "check", false, "exit 1 below target, and when a target was not measured")
	fs.StringVar(&f.dir, "dir", os.TempDir(), "where the servers store; deleted at the end")
	fs.StringVar(&f.profiles, "profiles", "", "write profiles of our own servers (CPU, allocations, blocking, mutexes) to this directory, which cost something too; go tool pprof reads them")
	fs.StringVar(&f.exim, "exim", "", "the directory into which the packages of Exim are unpacked, where those of Postfix exclude them")
	fs.StringVar(&f.json, "json", "", "write the results to this file")
	fs.StringVar(&f.svg, "svg", "", "write a plot to this file")
	if err := parse(fs, args); err != nil {
		return nil, err
	}
	set := given(fs)
	if f.rounds < 1 || f.messages < 0 || f.duration < 0 {
		return nil, errors.New("bench: -rounds must be positive, -messages and -duration not negative")
	}
	if f.reception {
		f.receptionDefaults(set)
	}
	if f.quick {
		f.quickDefaults(set)
	}
	return f, nil
}

// quickDefaults shortens what was not set.
func (f *acceptFlags) quickDefaults(set map[string]bool) {
	if !set["rounds"] {
		f.rounds = 1
	}
	if !set["duration"] {
		f.duration = quickDuration
	}
	if !set["sizes"] {
		f.sizes.values = []int{4 << 10, 100 << 10}
		if f.reception {
			f.sizes.values = append(f.sizes.values, 1<<20)
		}
	}
	if !set["sessions"] {
		f.sessions.values = []int{50}
	}
	if !set["recipients"] {
		f.recipients.values = []int{1}
	}
}

// stores reports whether a server of this run writes: -reception may run on a tmpfs.
func (f *acceptFlags) stores() bool {
	return !f.reception && slices.ContainsFunc(f.subjects.values, func(s string) bool { return s != subjectStock && s != subjectMemory })
}

func (f *acceptFlags) runner(progress io.Writer) (*runner, error) {
	r, err := newRunner(f.dir, f.check && f.stores(), progress)
	if err != nil {
		return nil, err
	}
	r.rounds, r.pipelining, r.source, r.profiles, r.exim = f.rounds, f.pipelining, f.source, f.profiles, f.exim
	r.measured, r.warmup = f.measured, f.warmup
	return r, nil
}

// cells returns all combinations.
func (f *acceptFlags) cells() []cell {
	var cells []cell
	for _, mode := range f.modes.values {
		for _, size := range f.sizes.values {
			for _, recipients := range f.recipients.values {
				for _, sessions := range f.sessions.values {
					cells = append(cells, cell{mode, size, sessions, recipients})
				}
			}
		}
	}
	return cells
}

// groups returns the trials of each cell, and those that are left out.
func (f *acceptFlags) groups() (groups [][]trial, left []trial) {
	for _, c := range f.cells() {
		var group []trial
		for _, s := range f.subjects.values {
			t := trial{s, c}
			if foreignServers[s] != nil && c.Mode != modePlain {
				left = append(left, t)
			} else {
				group = append(group, t)
			}
		}
		groups = append(groups, group)
	}
	return groups, left
}

// runAccept is the command.
func runAccept(ctx context.Context, args []string, std streams) (err error) {
	f, err := parseAccept(args, std.err)
	if err != nil {
		return err
	}
	r, err := f.runner(std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if f.reception {
		return f.runReception(ctx, args, r, std)
	}
	groups, left := f.groups()
	samples, err := r.run(ctx, groups)
	if err != nil {
		return err
	}
	rep := newReport("accept", args, r)
	for _, t := range left {
		rep.Absent[t.Subject+", "+t.Mode] = "bench: it is measured without TLS and BDAT only"
	}
	rep.Results = results(samples)
	rep.Targets = rep.acceptTargets(samples)
	if err := errors.Join(rep.writeAccept(std.out), rep.writeJSON(f.json), writeAcceptSVG(f.svg, rep.Results)); err != nil {
		return err
	}
	if f.check {
		return checkTargets(rep.Targets)
	}
	return nil
}

// writeAccept writes one table per cell.
func (rep *report) writeAccept(w io.Writer) error {
	rep.heading(w)
	fmt.Fprint(w, "CPU, allocations, reads and writes (system calls) are the server's, per message; a message has one reply whatever its recipients\n"+
		"checkpoints of the index, and syncs of the log, are those in one round\n")
	if slices.ContainsFunc(rep.Results, func(r *result) bool { return r.Subject == subjectDeferredSpool }) {
		fmt.Fprintln(w, deferredSpoolNote)
	}
	for rest := rep.Results; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].cell == rest[0].cell {
			n++
		}
		fmt.Fprintf(w, "\n%s\n", rest[0].cell)
		if err := acceptTable(rest[:n]).write(w); err != nil {
			return err
		}
		if slices.ContainsFunc(rest[:n], (*result).withoutCheckpoint) {
			fmt.Fprintln(w, "a round of boltspool had no checkpoint of the index: what one costs is not in it; a longer -duration has it")
		}
		rest = rest[n:]
	}
	rep.footer(w)
	return writeTargets(w, rep.Targets)
}

// deferredSpoolNote says what its rows are.
const deferredSpoolNote = "nothing is injected meanwhile, but by deferredspool: it keeps 64 MiB at most and stores what is beyond, so its callback returns at once"

func acceptTable(rows []*result) *table {
	t := &table{}
	head := []string{"subject", "msg/s", "/stock", "/postfix", "CPU us", "/stock", "p50", "p99", "p99.9", "max", "allocs", "alloc KB", "reads", "writes", "checkpoints", "syncs", "client us"}
	source := slices.ContainsFunc(rows, func(r *result) bool { return r.SourceRate != nil })
	if source {
		head = append(head, "smtp-source/s", "CPU us")
	}
	t.add(head...)
	for _, r := range rows {
		line := []string{
			r.Subject, withSpread(r.Rate), optional(r.RateToStock), optional(r.RateToPostfix),
			withSpread(r.CPU), optional(r.CPUToStock),
			short(r.P50), short(r.P99), short(r.P999), short(r.MaxLatency),
			known(r.Allocs), known(r.AllocBytes / 1024), known(r.Reads), known(r.Writes), optional(r.Checkpoints), optional(r.Syncs), number(r.ClientCPU.Median),
		}
		if source {
			line = append(line, optional(r.SourceRate), optional(r.SourceCPU))
		}
		t.add(line...)
	}
	return t
}

// subjectOrder returns the keys in the order of the tables.
func subjectOrder[V any](m map[string]V) []string {
	keys := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(keys, func(a, b string) int {
		return slices.Index(acceptSubjects, a) - slices.Index(acceptSubjects, b)
	})
	return keys
}
