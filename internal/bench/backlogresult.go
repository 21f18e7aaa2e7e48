package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
)

// What is wanted of backlog, with a million messages.
const (
	backlogQueued = 1_000_000
	backlogCost   = 1.2   // CPU of accepting and injecting, of that with none
	backlogMemory = 150.0 // bytes of RssAnon per message, garbage collected
	backlogFirst  = 3.0   // seconds from the start of the process to the first call of the callback
)

// A backlogResult is what backlog measured.
type backlogResult struct {
	Size    int           `json:"size"`
	Workers int           `json:"workers"`
	Rows    []*backlogRow `json:"rows"`
}

// A backlogRow is one number of queued messages. Memory is measured after the restart.
type backlogRow struct {
	Queued   int     `json:"queued"`
	FillRate float64 `json:"filled_per_second"`
	Files    int64   `json:"files_bytes"`

	Open  figure  `json:"open_seconds"`
	First figure  `json:"first_inject_seconds"`
	Cold  float64 `json:"first_inject_cold_seconds,omitempty"` // 0 if it could not be measured
	Heap  figure  `json:"heap_bytes"`
	Anon  figure  `json:"rss_anon_bytes"`       // as it stands
	Freed figure  `json:"rss_anon_freed_bytes"` // once garbage was collected, and memory given back to the system
	File  figure  `json:"rss_file_bytes"`       // then

	// Of a process behind one that was killed; as they stand.
	KilledFirst figure `json:"first_inject_killed_seconds"`
	KilledAnon  figure `json:"rss_anon_killed_bytes"`

	AcceptRate figure `json:"accept_messages_per_second"`
	AcceptCPU  figure `json:"accept_cpu_us"`
	InjectRate figure `json:"inject_messages_per_second"`
	InjectCPU  figure `json:"inject_cpu_us"`

	// Compared with the row of none, round by round; nil there.
	AcceptToNone *figure `json:"accept_cpu_to_none,omitempty"`
	InjectToNone *figure `json:"inject_cpu_to_none,omitempty"`
	// Above what the process with none has, per message; nil there.
	HeapEach  *float64 `json:"heap_bytes_per_message,omitempty"`
	AnonEach  *float64 `json:"rss_anon_bytes_per_message,omitempty"`
	FreedEach *float64 `json:"rss_anon_freed_bytes_per_message,omitempty"`
	FileEach  *float64 `json:"rss_file_bytes_per_message,omitempty"`

	open, first, heap, anon, freed, file         []float64
	killedFirst, killedAnon                      []float64
	acceptRate, acceptCPU, injectRate, injectCPU []float64
}

func (r *backlogRow) opened(o *queuedOpened) {
	r.open, r.first = append(r.open, o.Open.Seconds()), append(r.first, o.First.Seconds())
	r.heap = append(r.heap, float64(o.Heap))
	r.anon, r.freed = append(r.anon, float64(o.Memory.Anon)), append(r.freed, float64(o.Freed.Anon))
	r.file = append(r.file, float64(o.Freed.File))
}

func (r *backlogRow) openedKilled(o *queuedOpened) {
	r.killedFirst = append(r.killedFirst, o.First.Seconds())
	r.killedAnon = append(r.killedAnon, float64(o.Memory.Anon))
}

func (r *backlogRow) add(accepted, injected *commits.Result) {
	r.acceptRate, r.injectRate = append(r.acceptRate, accepted.Rate()), append(r.injectRate, injected.Rate())
	r.acceptCPU = append(r.acceptCPU, accepted.Per(microseconds(accepted.Used.CPU)))
	r.injectCPU = append(r.injectCPU, injected.Per(microseconds(injected.Used.CPU)))
}

func (r *backlogRow) sumUp(none *backlogRow) {
	r.Open, r.First, r.KilledFirst = figureOf(r.open), figureOf(r.first), figureOf(r.killedFirst)
	r.Heap, r.Anon, r.Freed, r.KilledAnon, r.File = figureOf(r.heap), figureOf(r.anon), figureOf(r.freed), figureOf(r.killedAnon), figureOf(r.file)
	r.AcceptRate, r.AcceptCPU = figureOf(r.acceptRate), figureOf(r.acceptCPU)
	r.InjectRate, r.InjectCPU = figureOf(r.injectRate), figureOf(r.injectCPU)
	if r.Queued == 0 {
		return
	}
	r.AcceptToNone, r.InjectToNone = quotients(r.acceptCPU, none.acceptCPU), quotients(r.injectCPU, none.injectCPU)
	each := func(f, of figure) *float64 {
		v := (f.Median - of.Median) / float64(r.Queued)
		return &v
	}
	r.HeapEach = each(r.Heap, none.Heap)
	if r.Anon.Median > 0 {
		r.AnonEach, r.FreedEach, r.FileEach = each(r.Anon, none.Anon), each(r.Freed, none.Freed), each(r.File, none.File)
	}
}

// targets judges the row with the most messages.
func (b *backlogResult) targets() []target {
	row := b.Rows[len(b.Rows)-1]
	note := ""
	if row.Queued != backlogQueued {
		note = fmt.Sprintf("of %d messages, not of a million", row.Queued)
	}
	var accept, inject *float64
	if row.AcceptToNone != nil {
		accept, inject = &row.AcceptToNone.Median, &row.InjectToNone.Median
	}
	anon := target{Name: "bytes of RssAnon per message, garbage collected", Value: row.FreedEach, Want: backlogMemory, AtMost: true, Note: note}
	if row.FreedEach == nil {
		anon.Note = "the system does not say"
	}
	return []target{
		{Name: "CPU of accepting, of that with an empty queue", Value: accept, Want: backlogCost, AtMost: true, Note: note},
		{Name: "CPU of injecting, of that with an empty queue", Value: inject, Want: backlogCost, AtMost: true, Note: note},
		anon,
		{Name: "seconds from the start of a process to its first inject", Value: &row.First.Median, Want: backlogFirst, AtMost: true, Note: note},
	}
}

func (rep *report) writeBacklog(w io.Writer) error {
	rep.heading(w)
	b := rep.Backlog
	fmt.Fprintf(w, "Messages wait in %d queues, half of them in the deferred queue, due hours later; bodies of %d bytes; boltspool. In each round a new\n"+
		"process opens the spool and injects the one message that is due; then %d callers accept messages of %s, and all are injected and dropped.\n"+
		"That process is killed (SIGKILL), and another one restarts on what it left behind: \"killed\". It stops cleanly, before the next round.\n\n",
		queuedQueues/2+1, fillBody, b.Workers, formatSize(b.Size))
	t := &table{}
	t.add("queued", "filled/s", "files MB", "open", "first inject", "killed", "cold")
	for _, r := range b.Rows {
		cold := "-"
		if r.Cold > 0 {
			cold = short(r.Cold * 1e6)
		}
		t.add(strconv.Itoa(r.Queued), known(r.FillRate), number(megabytes(uint64(r.Files))), seconds(r.Open), seconds(r.First), seconds(r.KilledFirst), cold)
	}
	err := errors.Join(t.write(w), b.writeMemory(w))
	fmt.Fprintln(w)
	t = &table{}
	t.add("queued", "accepted/s", "CPU us", "/none", "injected/s", "CPU us", "/none")
	for _, r := range b.Rows {
		t.add(strconv.Itoa(r.Queued), withSpread(r.AcceptRate), withSpread(r.AcceptCPU), optional(r.AcceptToNone),
			withSpread(r.InjectRate), withSpread(r.InjectCPU), optional(r.InjectToNone))
	}
	err = errors.Join(err, t.write(w), writeTargets(w, rep.Targets))
	rep.footer(w)
	return err
}

// writeMemory writes what a restart takes: as it stands, with what is garbage by
// then, and once that is gone.
func (b *backlogResult) writeMemory(w io.Writer) error {
	fmt.Fprint(w, "\nMemory right behind the first inject. \"as it stands\" is what top shows, garbage of reading the index included; \"collected\" is what is left\n"+
		"of it when garbage was collected and given back to the system (runtime/debug.FreeOSMemory). B each: beyond that with none, per message.\n\n")
	t := &table{}
	t.add("queued", "RssAnon MB as it stands", "killed", "collected", "heap MB", "RssFile MB", "RssAnon B each as it stands", "collected", "heap B each", "RssFile B each")
	mb := func(f figure) string { return known(f.Median / (1 << 20)) }
	for _, r := range b.Rows {
		t.add(strconv.Itoa(r.Queued), mb(r.Anon), mb(r.KilledAnon), mb(r.Freed), mb(r.Heap), mb(r.File),
			perMessage(r.AnonEach), perMessage(r.FreedEach), perMessage(r.HeapEach), perMessage(r.FileEach))
	}
	return t.write(w)
}

func seconds(f figure) string {
	return shortWithSpread(figure{f.Median * 1e6, f.Min * 1e6, f.Max * 1e6, f.Rounds})
}

func perMessage(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

// writeBacklogSVG plots CPU per message, and memory, over the number of queued messages.
func writeBacklogSVG(path string, b *backlogResult) error {
	cost := panel{title: "CPU per message of " + formatSize(b.Size), xLabel: "messages that are queued", format: short}
	memory := panel{title: "MB after a restart", xLabel: "messages that are queued", format: number}
	first := panel{title: "from the start of a process to its first inject", xLabel: "messages that are queued", format: short}
	for i, r := range b.Rows {
		x := float64(i)
		cost.xTicks = append(cost.xTicks, tick{x, strconv.Itoa(r.Queued)})
		cost.add("accepting", point{x, r.AcceptCPU.Median})
		cost.add("injecting", point{x, r.InjectCPU.Median})
		memory.add("RssAnon", point{x, r.Anon.Median / (1 << 20)})
		memory.add("collected", point{x, r.Freed.Median / (1 << 20)})
		memory.add("RssFile", point{x, r.File.Median / (1 << 20)})
		memory.add("heap", point{x, r.Heap.Median / (1 << 20)})
		first.add("warm page cache", point{x, r.First.Median * 1e6})
		first.add("killed", point{x, r.KilledFirst.Median * 1e6})
		if r.Cold > 0 {
			first.add("cold", point{x, r.Cold * 1e6})
		}
	}
	memory.xTicks, first.xTicks = cost.xTicks, cost.xTicks
	return writeSVG(path, []panel{cost, memory, first})
}
