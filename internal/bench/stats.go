package main

import (
	"math"
	"slices"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A figure is what several rounds measured of one thing.
type figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// figureOf sums up values; without any it is the zero figure.
func figureOf(values []float64) figure {
	if len(values) == 0 {
		return figure{}
	}
	return figure{median(values), slices.Min(values), slices.Max(values), len(values)}
}

// spread is half of what lies between the extremes, as a share of the median.
func (f figure) spread() float64 {
	if f.Median == 0 {
		return 0
	}
	return math.Abs((f.Max - f.Min) / 2 / f.Median)
}

// quantiles returns one of each round, in microseconds.
func quantiles(rounds []*measure.Histogram, q float64) []float64 {
	return each(rounds, func(h *measure.Histogram) float64 { return microseconds(h.Quantile(q)) })
}

// merged is all rounds together.
func merged(rounds []*measure.Histogram) *measure.Histogram {
	all := &measure.Histogram{}
	for _, h := range rounds {
		all.Merge(h)
	}
	return all
}

// quotients sums up the quotients of what belongs to the same round.
func quotients(a, b []float64) *figure {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = a[i] / b[i]
	}
	f := figureOf(values)
	return &f
}

// median returns the middle value, or the mean of the two in the middle; NaN
// without values. It leaves values as they are.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
