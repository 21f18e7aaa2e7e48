package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// acceptedSize is the size of the bodies that are accepted and drained.
const acceptedSize = 4 << 10

// scaleTimeout bounds the part.
const scaleTimeout = time.Hour

// A scaleRow is what was measured of a spool with many messages.
type scaleRow struct {
	Entries  int     `json:"entries"`
	Files    int64   `json:"files_bytes"`
	FillRate float64 `json:"filled_per_second"` // many messages at once
	Open     figure  `json:"open_seconds"`
	Cold     float64 `json:"open_cold_seconds,omitempty"` // 0 if it could not be measured
	Heap     figure  `json:"heap_bytes_per_entry"`        // after Open
	Anon     float64 `json:"rss_anon_bytes"`
	File     float64 `json:"rss_file_bytes"`

	Workers       int        `json:"workers"`
	Accept        *commitRow `json:"accept"`
	Drain         *commitRow `json:"drain"`        // in batches
	Singly        *commitRow `json:"drain_singly"` // one by one
	DrainToAccept figure     `json:"drain_to_accept"`
}

// drainBatch is how many messages a worker removes with one Apply.
const drainBatch = 64

// scale measures a spool with b.flags.entries messages.
func (b *spoolBench) scale(ctx context.Context) (_ *scaleRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, scaleTimeout)
	defer cancel()
	config := scaleConfig{Dir: filepath.Join(b.dir, "scale"), Workers: b.flags.workers, Size: acceptedSize}
	if err := os.Mkdir(config.Dir, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(config.Dir)) }()
	row := &scaleRow{Entries: b.flags.entries, Workers: b.flags.workers}
	for _, step := range []func(context.Context, scaleConfig, *scaleRow) error{b.fill, b.open, b.acceptAndDrain, b.openCold} {
		if err := step(ctx, config, row); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// withScale starts a process with the spool open, and stops it after use.
func withScale(ctx context.Context, config scaleConfig, use func(*child, scaleOpened) error) error {
	var opened scaleOpened
	c, err := startChild(ctx, scaleProcess, config, &opened)
	if err != nil {
		return err
	}
	if err := use(c, opened); err != nil {
		c.kill()
		return err
	}
	return c.stop()
}

// fillSteps is how often filling says how far it is.
const fillSteps = 10

func (b *spoolBench) fill(ctx context.Context, config scaleConfig, row *scaleRow) error {
	begin := time.Now()
	err := withScale(ctx, config, func(c *child, _ scaleOpened) error {
		for i := range fillSteps {
			n := b.flags.entries*(i+1)/fillSteps - b.flags.entries*i/fillSteps
			if n == 0 {
				continue
			}
			if err := c.call(scaleRequest{Fill: n}, nil); err != nil {
				return fmt.Errorf("filling the spool: %w", err)
			}
			fmt.Fprintf(b.progress, "%3d%% filling a spool with %d messages\n", 100*(i+1)/fillSteps, b.flags.entries)
		}
		row.FillRate = float64(b.flags.entries) / time.Since(begin).Seconds()
		return nil
	})
	if err != nil {
		return err
	}
	row.Files, err = filesSize(config.Dir)
	return err
}

// filesSize adds up the files under dir. What is deleted meanwhile does not count.
func filesSize(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && d.Type().IsRegular() {
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}

// open opens the spool as often as there are rounds, each time in a new process.
func (b *spoolBench) open(ctx context.Context, config scaleConfig, row *scaleRow) error {
	var took, heap, anon, file []float64
	for range b.rounds {
		err := withScale(ctx, config, func(_ *child, o scaleOpened) error {
			if o.Entries != b.flags.entries {
				return fmt.Errorf("bench: %d messages are in a spool that was filled with %d", o.Entries, b.flags.entries)
			}
			fmt.Fprintf(b.progress, "     opened in %v\n", o.Took.Round(time.Millisecond))
			took, heap = append(took, o.Took.Seconds()), append(heap, float64(o.Heap)/float64(b.flags.entries))
			anon, file = append(anon, float64(o.Memory.Anon)), append(file, float64(o.Memory.File))
			return nil
		})
		if err != nil {
			return err
		}
	}
	row.Open, row.Heap, row.Anon, row.File = figureOf(took), figureOf(heap), median(anon), median(file)
	return nil
}

// openCold comes last: what is read anew lies in the page cache in another way.
func (b *spoolBench) openCold(ctx context.Context, config scaleConfig, row *scaleRow) error {
	err := errors.New("bench: not asked for (-cold=false)")
	if b.flags.cold {
		err = dropCaches()
	}
	if err != nil {
		b.absent["opening with a cold page cache"] = err
		return nil
	}
	return withScale(ctx, config, func(_ *child, o scaleOpened) error {
		fmt.Fprintf(b.progress, "     opened in %v, with a cold page cache\n", o.Took.Round(time.Millisecond))
		row.Cold = o.Took.Seconds()
		return nil
	})
}

// acceptAndDrain does both by turns, in one process: what was accepted in a
// round is drained in it, half of it one by one.
func (b *spoolBench) acceptAndDrain(ctx context.Context, config scaleConfig, row *scaleRow) error {
	var accepted, drained, singly []*commitSample
	err := withScale(ctx, config, func(c *child, _ scaleOpened) error {
		for round := -1; round < b.rounds; round++ {
			phase := b.flags.phase()
			if round < 0 {
				phase = b.flags.warmup()
			}
			_, single, err := b.passThrough(c, phase, round, "one by one", 1)
			if err != nil {
				return err
			}
			accept, drain, err := b.passThrough(c, phase, round, "drain", drainBatch)
			if err != nil {
				return err
			}
			if round < 0 {
				continue
			}
			accepted, drained, singly = append(accepted, accept), append(drained, drain), append(singly, single)
			fmt.Fprintf(b.progress, "%v  %d workers: accepted %.0f/s, drained %.0f/s, one by one %.0f/s\n",
				turn{round, b.rounds, 100 * (round + 1) / b.rounds}, b.flags.workers, accept.rate(), drain.rate(), single.rate())
		}
		return nil
	})
	if err != nil {
		return err
	}
	row.sumUp(accepted, drained, singly)
	return nil
}

// passThrough accepts messages and drains them.
func (b *spoolBench) passThrough(c *child, phase commits.Phase, round int, name string, batch int) (accept, drain *commitSample, err error) {
	accept, drain = b.scaleSample("accept", round), b.scaleSample(name, round)
	if err := c.call(scaleRequest{Accept: &phase}, &accept.Result); err != nil {
		return nil, nil, fmt.Errorf("accepting: %w", err)
	}
	if err := c.call(scaleRequest{Drain: batch}, &drain.Result); err != nil {
		return nil, nil, fmt.Errorf("draining: %w", err)
	}
	if drain.Messages != accept.Messages {
		return nil, nil, fmt.Errorf("bench: %d messages were accepted and %d drained", accept.Messages, drain.Messages)
	}
	return accept, drain, nil
}

// sumUp takes one sample of each from each round, in their order.
func (r *scaleRow) sumUp(accepted, drained, singly []*commitSample) {
	r.Accept, r.Drain, r.Singly = newCommitRow(accepted, nil), newCommitRow(drained, nil), newCommitRow(singly, nil)
	r.DrainToAccept = *compare(drained, (*commitSample).rate, func(s *commitSample) *commitSample { return accepted[s.round] })
}

func (b *spoolBench) scaleSample(subject string, round int) *commitSample {
	return &commitSample{commitTrial{subject, commitCell{b.flags.workers, acceptedSize}}, round, commits.Result{}}
}

func (r *scaleRow) write(w io.Writer) error {
	fmt.Fprintf(w, "\nA spool with %d messages in one queue, of %d tenants, with bodies of %d bytes. Heap and memory are those of a process that\n"+
		"has just opened it; RssFile are pages of the index, which belong to the page cache too.\n\n", r.Entries, fillTenants, fillBody)
	t := &table{}
	t.add("messages", "files MB", "filled/s", "open", "cold", "heap B each", "RssAnon MB", "RssFile MB")
	cold := "-"
	if r.Cold > 0 {
		cold = short(r.Cold * 1e6)
	}
	t.add(strconv.Itoa(r.Entries), number(float64(r.Files)/(1<<20)), number(r.FillRate), short(r.Open.Median*1e6), cold,
		withSpread(r.Heap), known(r.Anon/(1<<20)), known(r.File/(1<<20)))
	if err := t.write(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nWith these in it, %d workers accept messages of %s, and then drain them: claim, read and remove, each %d with one\n"+
		"Apply; beside it one by one, where as many wait for a flush as when they are accepted. Drain to accept: %s\n\n",
		r.Workers, formatSize(acceptedSize), drainBatch, withSpread(r.DrainToAccept))
	t = &table{}
	t.add("", "messages/s", "CPU us", "p50", "p99", "written KB", "disk KB", "flushes")
	for _, c := range []*commitRow{r.Accept, r.Drain, r.Singly} {
		t.add(c.Subject, withSpread(c.Rate), withSpread(c.CPU), short(c.P50.Median), short(c.P99.Median),
			known(c.Written/1024), known(c.OnDisk/1024), known(c.Flushes))
	}
	return t.write(w)
}

// What is wanted of a spool with many messages.
const (
	openSeconds  = 2.5   // for a million, with a warm page cache
	heapPerEntry = 105.0 // bytes
	drainRate    = 2.0   // of the rate of accepting
)

// scaleTargets judges r; nil if it was not asked for.
func scaleTargets(r *scaleRow) []target {
	if r == nil {
		return nil
	}
	perMillion := r.Open.Median / float64(r.Entries) * 1e6
	return []target{
		{Name: "open, seconds per million messages", Value: &perMillion, Want: openSeconds, AtMost: true},
		{Name: "heap, bytes per message", Value: &r.Heap.Median, Want: heapPerEntry, AtMost: true},
		{Name: fmt.Sprintf("%d workers, %s: rate of draining / accepting", r.Workers, formatSize(acceptedSize)), Value: &r.DrainToAccept.Median, Want: drainRate},
	}
}
