package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// What is wanted of steady.
const (
	steadyRate   = 1500 // messages a second, where the disk can do it
	steadyShare  = 0.8  // of the disk's own limit, where it cannot
	writtenTimes = 1.1  // what is written, of what was received: a body once, and what is known of it
	queuedTime   = 1.0  // seconds of work that may be queued at the end: more, and it does not keep up
)

// kumomtaRate is what KumoMTA publishes for 100 KB on 2 vCPU: 2.7 million an hour, not
// synced for each message.
const kumomtaRate = 2_700_000.0 / 3600

// A steadyResult is what steady measured. Where there were rounds, a figure is of all of them.
type steadyResult struct {
	Size     int     `json:"size"`
	Sessions int     `json:"sessions"`
	Seconds  float64 `json:"seconds"` // of one round

	Disk     figure `json:"disk_messages_per_second"` // that the disk alone makes durable
	Accepted figure `json:"accepted_per_second"`
	Removed  figure `json:"removed_per_second"`
	Queued   figure `json:"queued_at_the_end"`
	CPU      figure `json:"cpu_us"`                     // of the server, for a whole life
	Written  figure `json:"written_per_byte"`           // in pages by the server, per byte received; Linux counts a large folio as a whole
	Device   figure `json:"device_written_per_byte"`    // by the device; zero if it is not known
	Flushes  figure `json:"device_flushes_per_message"` // zero if it is not known

	P50     figure             `json:"p50_us"`
	P99     figure             `json:"p99_us"`
	P999    figure             `json:"p999_us"`
	Max     float64            `json:"max_us"`
	Latency *measure.Histogram `json:"latency"` // of all rounds
	Samples []steadySample     `json:"samples"` // of the first round

	disk, accepted, removed, queued, cpu, written, device, flushes []float64
	rounds                                                         []*measure.Histogram
}

// A steadySample is what was seen at a moment. Memory and disk space are in bytes.
type steadySample struct {
	At       float64 `json:"at_seconds"`
	Accepted float64 `json:"accepted_per_second"` // since the last one
	Removed  float64 `json:"removed_per_second"`
	Queued   int64   `json:"queued"`
	Anon     uint64  `json:"rss_anon"`
	File     uint64  `json:"rss_file"`
	Heap     uint64  `json:"heap"`
	Disk     int64   `json:"disk"`
}

func (r *steadyResult) add(m *steadyRun) {
	seconds := m.load.Elapsed.Seconds()
	used := m.after.Used.Since(m.before.Used)
	messages := float64(m.load.Messages)
	bytes := messages * float64(r.Size)
	r.accepted = append(r.accepted, messages/seconds)
	r.removed = append(r.removed, float64(m.after.Removed-m.before.Removed)/seconds)
	r.queued = append(r.queued, float64(m.after.Queued))
	r.cpu = append(r.cpu, microseconds(used.CPU)/messages)
	r.written = append(r.written, float64(used.Written)/bytes)
	r.device = append(r.device, float64(used.Device.Written)/bytes)
	r.flushes = append(r.flushes, float64(used.Device.Flushes)/messages)
	r.rounds = append(r.rounds, &m.load.Latency)
	if r.Samples == nil {
		r.Samples = m.samples
	}
}

func (r *steadyResult) sumUp() {
	r.Disk, r.Accepted, r.Removed, r.Queued = figureOf(r.disk), figureOf(r.accepted), figureOf(r.removed), figureOf(r.queued)
	r.CPU, r.Written, r.Device, r.Flushes = figureOf(r.cpu), figureOf(r.written), figureOf(r.device), figureOf(r.flushes)
	at := func(q float64) figure { return figureOf(quantiles(r.rounds, q)) }
	r.P50, r.P99, r.P999, r.Max = at(0.5), at(0.99), at(0.999), at(1).Max
	r.Latency = merged(r.rounds)
}

// sustained is what came in and was dealt with.
func (r *steadyResult) sustained() float64 { return min(r.Accepted.Median, r.Removed.Median) }

func (r *steadyResult) targets() []target {
	rate, queued := r.sustained(), r.Queued.Median/max(r.Removed.Median, 1)
	want := target{Name: "messages a second, accepted and removed", Value: &rate, Want: steadyRate}
	if allowed := steadyShare * r.Disk.Median; allowed < steadyRate {
		want.Want, want.Note = allowed, fmt.Sprintf("%.1f of what the disk alone can do", steadyShare)
	}
	written := target{Name: "bytes that the device wrote per byte received", Want: writtenTimes, AtMost: true}
	if written.Value = &r.Device.Median; r.Device.Median == 0 {
		written.Value, written.Note = nil, "the system does not say what the device wrote"
	}
	return []target{want, written, {Name: "queued at the end, in seconds of work", Value: &queued, Want: queuedTime, AtMost: true}}
}

func (rep *report) writeSteady(w io.Writer) error {
	rep.heading(w)
	r := rep.Steady
	fmt.Fprintf(w, "%s, %d sessions that send again when they have their reply, for %v; boltspool, every message synced before its 250\n",
		formatSize(r.Size), r.Sessions, time.Duration(r.Seconds*float64(time.Second)))
	fmt.Fprint(w, "a callback that reads the header and routes, a handler that reads all; CPU is the server's, for a whole life\n\n")
	t := &table{}
	t.add("", "msg/s", "MB/s", "CPU us", "p50", "p99", "p99.9", "max")
	mb := func(rate float64) string { return number(rate * megabytes(uint64(r.Size))) }
	t.add("the disk alone, synced writes", withSpread(r.Disk), mb(r.Disk.Median), "-", "-", "-", "-", "-")
	t.add("accepted", withSpread(r.Accepted), mb(r.Accepted.Median), withSpread(r.CPU),
		shortWithSpread(r.P50), shortWithSpread(r.P99), shortWithSpread(r.P999), short(r.Max))
	t.add("removed", withSpread(r.Removed), mb(r.Removed.Median), "-", "-", "-", "-", "-")
	err := t.write(w)
	fmt.Fprintf(w, "\nper byte received: %s written in pages of files, %s by the device; %s flushes of the device per message\n",
		knownWithSpread(r.Written), knownWithSpread(r.Device), knownWithSpread(r.Flushes))
	fmt.Fprintf(w, "for comparison, not measured here: KumoMTA publishes %s a second for 100 KB on 2 vCPU, not synced for each message\n", number(kumomtaRate))
	return errors.Join(err, r.writeSamples(w), writeTargets(w, rep.Targets))
}

// writeSamples shows some of the samples, the last among them.
func (r *steadyResult) writeSamples(w io.Writer) error {
	if len(r.Samples) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := &table{}
	t.add("second", "accepted/s", "removed/s", "queued", "RssAnon MB", "RssFile MB", "heap MB", "disk MB")
	step := max(len(r.Samples)/10, 1)
	for i := (len(r.Samples) - 1) % step; i < len(r.Samples); i += step {
		s := r.Samples[i]
		mb := func(n uint64) string { return number(megabytes(n)) }
		t.add(number(s.At), number(s.Accepted), number(s.Removed), fmt.Sprint(s.Queued), mb(s.Anon), mb(s.File), mb(s.Heap), mb(uint64(s.Disk)))
	}
	return t.write(w)
}

// writeSteadySVG plots rates, and memory and disk space, over time.
func writeSteadySVG(path string, r *steadyResult) error {
	rates := panel{title: "messages of " + formatSize(r.Size) + " a second", xLabel: "seconds", format: number}
	space := panel{title: "MB in memory and on disk", xLabel: "seconds", format: number}
	for i := range 5 {
		at := r.Seconds * float64(i) / 4
		rates.xTicks = append(rates.xTicks, tick{at, number(at)})
	}
	space.xTicks = rates.xTicks
	for _, s := range r.Samples {
		rates.add("accepted", point{s.At, s.Accepted})
		rates.add("removed", point{s.At, s.Removed})
		rates.add("queued", point{s.At, float64(s.Queued)})
		rates.add("the disk alone", point{s.At, r.Disk.Median})
		space.add("RssAnon", point{s.At, megabytes(s.Anon)})
		space.add("heap", point{s.At, megabytes(s.Heap)})
		space.add("RssFile", point{s.At, megabytes(s.File)})
		space.add("disk space", point{s.At, megabytes(uint64(s.Disk))})
	}
	return writeSVG(path, []panel{rates, space})
}
