package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// sizeTicks are the ticks of an axis of sizes, which is logarithmic.
func sizeTicks(sizes []int) []tick {
	var ticks []tick
	for _, size := range slices.Compact(slices.Sorted(slices.Values(sizes))) {
		ticks = append(ticks, tick{sizeAt(size), formatSize(size)})
	}
	return ticks
}

func sizeAt(size int) float64 { return math.Log2(float64(size)) }

// writeAcceptSVG plots throughput and CPU over the size, for each number of
// recipients and sessions.
func writeAcceptSVG(path string, results []*result) error {
	var panels []panel
	var seen []cell
	for _, r := range results {
		key := cell{r.Mode, 0, r.Sessions, r.Recipients}
		if slices.Contains(seen, key) {
			continue
		}
		seen = append(seen, key)
		circumstances := fmt.Sprintf("%s, %d sessions, %d recipients", key.Mode, key.Sessions, key.Recipients)
		panels = append(panels,
			acceptPanel("messages a second: "+circumstances, results, key, number, func(r *result) float64 { return r.Rate.Median }),
			acceptPanel("CPU per message: "+circumstances, results, key, short, func(r *result) float64 { return r.CPU.Median }))
	}
	return writeSVG(path, panels)
}

func acceptPanel(title string, results []*result, key cell, format func(float64) string, value func(*result) float64) panel {
	p := panel{title: title, xLabel: "size of the message", format: format}
	var sizes []int
	for _, r := range results {
		if (cell{r.Mode, 0, r.Sessions, r.Recipients}) != key {
			continue
		}
		sizes = append(sizes, r.Size)
		p.add(r.Subject, point{sizeAt(r.Size), value(r)})
	}
	p.xTicks = sizeTicks(sizes)
	return p
}

// add appends a point to the line of that name.
func (p *panel) add(name string, pt point) {
	i := slices.IndexFunc(p.series, func(s series) bool { return s.name == name })
	if i < 0 {
		i = len(p.series)
		p.series = append(p.series, series{name: name})
	}
	p.series[i].points = append(p.series[i].points, pt)
}

// writeReceptionSVG plots CPU over the size, for each mode and number of sessions.
func writeReceptionSVG(path string, rows []*receptionRow) error {
	var panels []panel
	var sizes []int
	index := map[cell]int{}
	for _, row := range rows {
		key := cell{row.Mode, 0, row.Sessions, row.Recipients}
		i, ok := index[key]
		if !ok {
			i = len(panels)
			index[key] = i
			title := fmt.Sprintf("CPU per message: %s, %d sessions", row.Mode, row.Sessions)
			panels = append(panels, panel{title: title, xLabel: "size of the message", format: short})
		}
		x := sizeAt(row.Size)
		panels[i].add("go-smtp", point{x, row.Stock.Median})
		panels[i].add("this library", point{x, row.Library.Median})
		panels[i].add("reading alone", point{x, row.Floor})
		sizes = append(sizes, row.Size)
	}
	for i := range panels {
		panels[i].xTicks = sizeTicks(sizes)
	}
	return writeSVG(path, panels)
}

// timelineSteps is how many points a line over time has.
const timelineSteps = 240

// clampLabels say in the plot what the variants are.
var clampLabels = map[string]string{
	variantInline: "callback, then 250", variantDeferred: "250, then callback", variantNothing: "nothing to do",
}

// writeClampSVG plots the latency of the 250 over time, and its distribution.
func writeClampSVG(path string, rows []*clampRow, duration time.Duration) error {
	over := panel{title: "longest wait for a 250, over time", xLabel: "seconds", format: short}
	share := panel{title: "latency of the 250", xLabel: "share of the messages answered by then", format: short}
	for i := range 5 {
		at := duration.Seconds() * float64(i) / 4
		over.xTicks = append(over.xTicks, tick{at, number(at)})
	}
	for i, label := range []string{"0", "90 %", "99 %", "99.9 %", "99.99 %"} {
		share.xTicks = append(share.xTicks, tick{float64(i), label})
	}
	for _, row := range rows {
		over.series = append(over.series, series{clampLabels[row.Variant], slowest(row.timeline, duration)})
		line := series{name: clampLabels[row.Variant]}
		for x := 0.0; x <= 4; x += 0.05 { // every 20th of a nine
			q := 1 - math.Pow(10, -x)
			line.points = append(line.points, point{x, microseconds(row.Latency.Quantile(q))})
		}
		share.series = append(share.series, line)
	}
	return writeSVG(path, []panel{over, share})
}

// slowest returns for each step the longest latency of the messages that were
// waiting for their 250 in it; steps in which none was are left out.
func slowest(timeline []moment, duration time.Duration) []point {
	worst := make([]time.Duration, timelineSteps)
	step := func(at time.Duration) int { return min(int(int64(at)*timelineSteps/int64(duration)), timelineSteps-1) }
	for _, m := range timeline {
		for i := step(m.At); i <= step(m.At+m.Latency); i++ {
			worst[i] = max(worst[i], m.Latency)
		}
	}
	var points []point
	for i, d := range worst {
		if d > 0 {
			points = append(points, point{duration.Seconds() * float64(i) / timelineSteps, microseconds(d)})
		}
	}
	return points
}
