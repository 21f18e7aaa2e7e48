package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// A commitCell is one set of circumstances.
type commitCell struct {
	Committers int `json:"committers"`
	Size       int `json:"size"`
}

func (c commitCell) String() string {
	return fmt.Sprintf("%d committers, %s", c.Committers, formatSize(c.Size))
}

// A commitTrial is one store in one cell.
type commitTrial struct {
	Subject string `json:"subject"`
	commitCell
}

// A commitSample is what one round of a trial measured.
type commitSample struct {
	commitTrial
	round int
	commits.Result
}

func (s *commitSample) rate() float64    { return s.Rate() }
func (s *commitSample) cpu() float64     { return s.Per(microseconds(s.Used.CPU)) }
func (s *commitSample) p50() float64     { return microseconds(s.Latency.Quantile(0.5)) }
func (s *commitSample) p99() float64     { return microseconds(s.Latency.Quantile(0.99)) }
func (s *commitSample) written() float64 { return s.Per(float64(s.Used.Written)) }
func (s *commitSample) onDisk() float64  { return s.Per(float64(s.Used.Device.Written)) }
func (s *commitSample) flushes() float64 { return s.Per(float64(s.Used.Device.Flushes)) }

// commits measures all cells.
func (b *spoolBench) commits(ctx context.Context) ([]*commitSample, error) {
	var groups [][]commitTrial
	for _, size := range b.flags.sizes.values {
		for _, n := range b.flags.committers.values {
			var group []commitTrial
			for _, s := range b.flags.subjects.values {
				group = append(group, commitTrial{s, commitCell{n, size}})
			}
			groups = append(groups, group)
		}
	}
	var samples []*commitSample
	err := takeTurns(b.rounds, groups, func(t commitTrial, turn turn) error {
		if b.absent[t.Subject] != nil {
			return nil
		}
		result, err := b.commitTrial(ctx, t, turn)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.Subject, t.commitCell, err)
		}
		s := &commitSample{t, turn.round, *result}
		samples = append(samples, s)
		fmt.Fprintf(b.progress, "%v  %-10s %-24s %9.0f commits/s %10.1f us CPU, %5.2f flushes per commit\n",
			turn, t.Subject, t.commitCell, s.rate(), s.cpu(), s.flushes())
		return nil
	})
	return samples, err
}

// commitTrial measures one store once.
func (b *spoolBench) commitTrial(ctx context.Context, t commitTrial, turn turn) (_ *commits.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	dir := filepath.Join(b.dir, t.Subject)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config := commits.Config{Store: t.Subject, Dir: dir, Committers: t.Committers, Size: t.Size, Warmup: b.flags.warmup()}
	if b.flags.prof != "" {
		config.Profile = filepath.Join(b.flags.prof, fmt.Sprintf("%s-%s-%d-%d.pprof", t.Subject, formatSize(t.Size), t.Committers, turn.round))
	}
	child, err := b.startStore(ctx, config)
	if err != nil {
		return nil, err
	}
	var result commits.Result
	if err := child.call(b.flags.phase(), &result); err != nil {
		child.kill()
		return nil, err
	}
	return &result, child.stop()
}

func (b *spoolBench) startStore(ctx context.Context, config commits.Config) (*child, error) {
	if config.Store == storePebble {
		return startProgram(ctx, b.pebble, storePebble, config, nil)
	}
	return startChild(ctx, storeProcess, config, nil)
}

// A commitRow is what all rounds of a trial measured. Times are in microseconds,
// all but the rate are per commit, and what is not known is 0.
type commitRow struct {
	commitTrial
	Rate    figure  `json:"commits_per_second"`
	CPU     figure  `json:"cpu_us"`
	P50     figure  `json:"p50_us"`
	P99     figure  `json:"p99_us"`
	Written float64 `json:"written_bytes"` // by the process
	OnDisk  float64 `json:"disk_bytes"`    // by the whole machine
	Flushes float64 `json:"flushes"`       // of the whole machine

	// Against another store in the same round and cell.
	RateToLog    *figure `json:"rate_to_barelog,omitempty"`
	RateToPebble *figure `json:"rate_to_pebble,omitempty"`
	P50ToLog     *figure `json:"p50_to_barelog,omitempty"`
}

// commitRows sums samples up, in the order of the table.
func commitRows(samples []*commitSample) []*commitRow {
	groups := map[commitTrial][]*commitSample{}
	for _, s := range samples {
		groups[s.commitTrial] = append(groups[s.commitTrial], s)
	}
	var rows []*commitRow
	for _, group := range groups {
		rows = append(rows, newCommitRow(group, samples))
	}
	slices.SortFunc(rows, func(a, b *commitRow) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Committers, b.Committers),
			cmp.Compare(slices.Index(stores, a.Subject), slices.Index(stores, b.Subject)))
	})
	return rows
}

func newCommitRow(group, all []*commitSample) *commitRow {
	r := &commitRow{
		commitTrial: group[0].commitTrial,
		Rate:        figureOf(each(group, (*commitSample).rate)),
		CPU:         figureOf(each(group, (*commitSample).cpu)),
		P50:         figureOf(each(group, (*commitSample).p50)),
		P99:         figureOf(each(group, (*commitSample).p99)),
		Written:     median(each(group, (*commitSample).written)),
		OnDisk:      median(each(group, (*commitSample).onDisk)),
		Flushes:     median(each(group, (*commitSample).flushes)),
	}
	against := func(subject string, value func(*commitSample) float64) *figure {
		return compare(group, value, func(s *commitSample) *commitSample {
			i := slices.IndexFunc(all, func(o *commitSample) bool {
				return o.Subject == subject && o.commitCell == s.commitCell && o.round == s.round
			})
			if s.Subject == subject || i < 0 {
				return nil
			}
			return all[i]
		})
	}
	r.RateToLog = against(storeLog, (*commitSample).rate)
	r.RateToPebble = against(storePebble, (*commitSample).rate)
	r.P50ToLog = against(storeLog, (*commitSample).p50)
	return r
}

func (rep *report) writeCommits(w io.Writer) error {
	fmt.Fprint(w, "A commit is a body and an entry of 900 bytes. CPU is that of the process, its callers included. \"written\" is what it made dirty in\n"+
		"the page cache, which recent kernels count in folios of many pages; \"disk\" and \"flushes\" are the disk's own counters, which count\n"+
		"everybody. /log and /pebble are of the same round.\n\n")
	t := &table{}
	t.add("store", "size", "committers", "commits/s", "/log", "/pebble", "CPU us", "p50", "/log", "p99", "written KB", "disk KB", "flushes")
	for i, r := range rep.Commits {
		if i > 0 && r.commitCell != rep.Commits[i-1].commitCell {
			t.add("")
		}
		t.add(r.Subject, formatSize(r.Size), strconv.Itoa(r.Committers), withSpread(r.Rate), optional(r.RateToLog), optional(r.RateToPebble),
			withSpread(r.CPU), short(r.P50.Median), optional(r.P50ToLog), short(r.P99.Median),
			known(r.Written/1024), known(r.OnDisk/1024), known(r.Flushes))
	}
	return t.write(w)
}

// writeSpoolSVG plots the rate over the size, for each number of committers.
func writeSpoolSVG(path string, rows []*commitRow) error {
	var panels []*panel
	index := map[int]*panel{}
	var sizes []int
	for _, r := range rows {
		p := index[r.Committers]
		if p == nil {
			p = &panel{title: fmt.Sprintf("commits a second: %d committers", r.Committers), xLabel: "size of the body", format: number}
			index[r.Committers] = p
			panels = append(panels, p)
		}
		p.add(r.Subject, point{sizeAt(r.Size), r.Rate.Median})
		sizes = append(sizes, r.Size)
	}
	var drawn []panel
	for _, p := range panels {
		p.xTicks = sizeTicks(sizes)
		drawn = append(drawn, *p)
	}
	return writeSVG(path, drawn)
}
