package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A table is text in columns: the first on the left, the others on the right.
type table struct {
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write pads the columns to equal width, two blanks apart.
func (t *table) write(w io.Writer) error {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		line := ""
		for i, c := range row {
			blanks := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			switch i {
			case 0:
				line += c + blanks
			default:
				line += "  " + blanks + c
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// number formats v with three significant digits or all before the point.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// withSpread formats a figure and how far apart its rounds were, if there were several.
func withSpread(f figure) string {
	if f.Rounds < 2 {
		return number(f.Median)
	}
	return fmt.Sprintf("%s ±%.0f%%", number(f.Median), 100*f.spread())
}

// shortWithSpread is withSpread of microseconds, formatted as a duration.
func shortWithSpread(f figure) string {
	if f.Rounds < 2 {
		return short(f.Median)
	}
	return fmt.Sprintf("%s ±%.0f%%", short(f.Median), 100*f.spread())
}

// optional formats what may be unknown.
func optional(f *figure) string {
	if f == nil {
		return "-"
	}
	return number(f.Median)
}

// known formats a number of which 0 means that it is unknown.
func known(v float64) string {
	if v == 0 {
		return "-"
	}
	return number(v)
}

func knownWithSpread(f figure) string {
	if f.Median == 0 {
		return "-"
	}
	return withSpread(f)
}

// short formats microseconds as a duration.
func short(us float64) string {
	d := time.Duration(us * 1e3)
	switch {
	case d >= time.Second:
		return number(d.Seconds()) + "s"
	case d >= time.Millisecond:
		return number(float64(d)/1e6) + "ms"
	}
	return number(us) + "us"
}
