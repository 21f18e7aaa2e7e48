package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A result is what all rounds of a trial measured. CPU is in microseconds per
// message, latencies are in microseconds; the latter are of all rounds together.
type result struct {
	trial
	Rate       figure  `json:"messages_per_second"`
	CPU        figure  `json:"cpu_us"`
	ClientCPU  figure  `json:"client_cpu_us"`
	Allocs     float64 `json:"allocs,omitempty"` // and the following: medians, per message
	AllocBytes float64 `json:"alloc_bytes,omitempty"`
	Reads      float64 `json:"reads,omitempty"`
	Writes     float64 `json:"writes,omitempty"`
	Messages   int     `json:"messages"`

	// What a boltspool did in each round; nil without.
	Checkpoints *figure `json:"checkpoints_per_round,omitempty"`
	Syncs       *figure `json:"log_syncs_per_round,omitempty"`

	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	MaxLatency float64 `json:"max_us"`

	// Against another subject in the same round and cell.
	RateToStock   *figure `json:"rate_to_stock,omitempty"`
	CPUToStock    *figure `json:"cpu_to_stock,omitempty"`
	RateToPostfix *figure `json:"rate_to_postfix,omitempty"`

	SourceRate *figure `json:"smtp_source_messages_per_second,omitempty"`
	SourceCPU  *figure `json:"smtp_source_cpu_us,omitempty"`

	latency measure.Histogram
}

// results sums samples up, in the order in which their trials came first.
func results(samples []*sample) []*result {
	var out []*result
	for _, group := range groupTrials(samples) {
		out = append(out, newResult(group, samples))
	}
	slices.SortStableFunc(out, func(a, b *result) int { return compareCells(a.cell, b.cell) })
	return out
}

func compareCells(a, b cell) int {
	return cmp.Or(
		cmp.Compare(slices.Index(modes, a.Mode), slices.Index(modes, b.Mode)), cmp.Compare(a.Size, b.Size),
		cmp.Compare(a.Recipients, b.Recipients), cmp.Compare(a.Sessions, b.Sessions))
}

// groupTrials puts the samples of each trial together.
func groupTrials(samples []*sample) [][]*sample {
	var groups [][]*sample
	index := map[trial]int{}
	for _, s := range samples {
		i, ok := index[s.trial]
		if !ok {
			i = len(groups)
			index[s.trial] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s)
	}
	return groups
}

func newResult(group, all []*sample) *result {
	r := &result{
		trial:     group[0].trial,
		Rate:      figureOf(each(group, (*sample).rate)),
		CPU:       figureOf(each(group, (*sample).cpu)),
		ClientCPU: figureOf(each(group, func(s *sample) float64 { return s.perMessage(microseconds(s.client)) })),
	}
	for f, count := range map[*float64]func(usage) uint64{
		&r.Allocs:     func(u usage) uint64 { return u.Allocs },
		&r.AllocBytes: func(u usage) uint64 { return u.AllocBytes },
		&r.Reads:      func(u usage) uint64 { return u.Reads },
		&r.Writes:     func(u usage) uint64 { return u.Writes },
	} {
		*f = median(each(group, func(s *sample) float64 { return s.perMessage(float64(count(s.used))) }))
	}
	for _, s := range group {
		r.Messages += s.messages
		r.latency.Merge(s.latency)
	}
	r.P50, r.P99 = microseconds(r.latency.Quantile(0.5)), microseconds(r.latency.Quantile(0.99))
	r.P999, r.MaxLatency = microseconds(r.latency.Quantile(0.999)), microseconds(r.latency.Max())
	r.RateToStock = ratio(group, all, "stock", (*sample).rate)
	r.CPUToStock = ratio(group, all, "stock", (*sample).cpu)
	r.RateToPostfix = ratio(group, all, "postfix", (*sample).rate)
	r.addSource(group)
	if group[0].used.Spool {
		checkpoints := figureOf(each(group, func(s *sample) float64 { return float64(s.used.Checkpoints) }))
		syncs := figureOf(each(group, func(s *sample) float64 { return float64(s.used.Syncs) }))
		r.Checkpoints, r.Syncs = &checkpoints, &syncs
	}
	return r
}

// withoutCheckpoint reports whether a round of boltspool had none: deferredspool
// needs none.
func (r *result) withoutCheckpoint() bool {
	return r.Subject == subjectBoltspool && r.Checkpoints != nil && r.Checkpoints.Min == 0
}

func (r *result) addSource(group []*sample) {
	if group[0].source == nil {
		return
	}
	rate := figureOf(each(group, func(s *sample) float64 { return s.source.Rate }))
	cpu := figureOf(each(group, func(s *sample) float64 { return s.source.CPU }))
	r.SourceRate, r.SourceCPU = &rate, &cpu
}

// ratio compares each sample with that of another subject in the same round and
// cell. nil if there is none.
func ratio(group, all []*sample, subject string, value func(*sample) float64) *figure {
	return compare(group, value, func(s *sample) *sample {
		if s.Subject == subject {
			return nil
		}
		return find(all, trial{subject, s.cell}, s.round)
	})
}

// compare sums up the ratios of samples to others. nil if there are none.
func compare[S any](samples []*S, value func(*S) float64, other func(*S) *S) *figure {
	var values []float64
	for _, s := range samples {
		if o := other(s); o != nil {
			values = append(values, value(s)/value(o))
		}
	}
	if len(values) == 0 {
		return nil
	}
	f := figureOf(values)
	return &f
}

func find(samples []*sample, t trial, round int) *sample {
	for _, s := range samples {
		if s.trial == t && s.round == round {
			return s
		}
	}
	return nil
}

func each[S any](samples []*S, value func(*S) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return values
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
