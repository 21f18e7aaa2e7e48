package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"
)

// A panel is one diagram: lines over a linear x axis, whose ticks are given, and a
// logarithmic y axis.
type panel struct {
	title, xLabel string
	xTicks        []tick
	format        func(y float64) string // of the ticks of the y axis
	series        []series
}

type tick struct {
	at    float64
	label string
}

type series struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// The geometry of a panel, in pixels.
const (
	panelWidth, panelHeight = 520, 360
	plotLeft, plotTop       = 64, 36
	plotRight, plotBottom   = 30, 84
)

// colours can be told apart by most people (Okabe and Ito).
var colours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

// writeSVG writes panels side by side, two in a row, to a file; an empty path
// means that nobody asked.
func writeSVG(path string, panels []panel) error {
	if path == "" {
		return nil
	}
	var b strings.Builder
	rows := (len(panels) + 1) / 2
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", 2*panelWidth, rows*panelHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*panelWidth, i/2*panelHeight)
		panels[i].write(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// A scale maps data to pixels inside the panel.
type scale struct {
	x0, x1 float64
	y0, y1 float64 // powers of ten
}

func (s scale) x(v float64) float64 {
	return plotLeft + (v-s.x0)/(s.x1-s.x0)*(panelWidth-plotLeft-plotRight)
}

func (s scale) y(v float64) float64 {
	share := (math.Log10(v) - s.y0) / (s.y1 - s.y0)
	return panelHeight - plotBottom - share*(panelHeight-plotTop-plotBottom)
}

// scale fits all points and ticks. Points that are not positive do not count.
func (p *panel) scale() scale {
	s := scale{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
	for _, t := range p.xTicks {
		s.x0, s.x1 = min(s.x0, t.at), max(s.x1, t.at)
	}
	for _, line := range p.series {
		for _, pt := range line.points {
			if pt.y > 0 {
				s.x0, s.x1 = min(s.x0, pt.x), max(s.x1, pt.x)
				s.y0, s.y1 = min(s.y0, math.Log10(pt.y)), max(s.y1, math.Log10(pt.y))
			}
		}
	}
	s.y0, s.y1 = math.Floor(s.y0), math.Ceil(s.y1)
	if s.y0 >= s.y1 {
		s.y1 = s.y0 + 1
	}
	if s.x0 >= s.x1 {
		s.x0, s.x1 = s.x0-0.5, s.x0+0.5
	}
	return s
}

func (p *panel) write(w io.Writer) {
	s := p.scale()
	fmt.Fprintf(w, `<text x="%d" y="22" font-size="15">%s</text>`+"\n", plotLeft, html.EscapeString(p.title))
	if math.IsInf(s.y0, 0) {
		fmt.Fprintf(w, `<text x="%d" y="60">nothing was measured</text>`+"\n", plotLeft)
		return
	}
	for power := s.y0; power <= s.y1; power++ {
		v := math.Pow(10, power)
		fmt.Fprintf(w, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, plotLeft, panelWidth-plotRight, s.y(v), s.y(v))
		fmt.Fprintf(w, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft-6, s.y(v)+4, html.EscapeString(p.format(v)))
	}
	bottom := panelHeight - plotBottom
	for _, t := range p.xTicks {
		fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#888"/>`, s.x(t.at), s.x(t.at), bottom, bottom+4)
		fmt.Fprintf(w, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", s.x(t.at), bottom+18, html.EscapeString(t.label))
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+panelWidth-plotRight)/2, bottom+34, html.EscapeString(p.xLabel))
	at := legend(p.series)
	for i, line := range p.series {
		line.write(w, s, colours[i%len(colours)], at[i])
	}
}

// The geometry of a legend, in pixels.
const (
	legendBottom = panelHeight - 12 // of its last row
	legendRow    = 16
	legendMark   = 18 // a dash, and the room behind it
	legendGap    = 12
	legendLetter = 6.2 // on average, of 11 pixels
)

// A spot is where an entry of the legend begins, on its base line.
type spot struct{ x, y int }

// legend puts the entries side by side, in as many rows as they need: two at most
// do not meet the label of the axis.
func legend(lines []series) []spot {
	spots := make([]spot, len(lines))
	x, row := plotLeft, 0
	for i, l := range lines {
		width := legendMark + int(legendLetter*float64(utf8.RuneCountInString(l.name)))
		if x > plotLeft && x+width > panelWidth-plotRight/3 {
			x, row = plotLeft, row+1
		}
		spots[i] = spot{x, row}
		x += width + legendGap
	}
	for i := range spots {
		spots[i].y = legendBottom - legendRow*(row-spots[i].y)
	}
	return spots
}

// write draws one line, a dot for each point if there are few, and its entry in
// the legend.
func (l *series) write(w io.Writer, s scale, colour string, at spot) {
	var path strings.Builder
	for _, pt := range l.points {
		if pt.y <= 0 {
			continue
		}
		command := " L"
		if path.Len() == 0 {
			command = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", command, s.x(pt.x), s.y(pt.y))
		if len(l.points) <= 12 {
			fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, s.x(pt.x), s.y(pt.y), colour)
		}
	}
	fmt.Fprintf(w, `<path d="%s" fill="none" stroke="%s" stroke-width="1.8"/>`+"\n", path.String(), colour)
	fmt.Fprintf(w, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="3"/>`, at.x, at.x+legendMark-4, at.y-4, at.y-4, colour)
	fmt.Fprintf(w, `<text x="%d" y="%d" font-size="11">%s</text>`+"\n", at.x+legendMark, at.y, html.EscapeString(l.name))
}
