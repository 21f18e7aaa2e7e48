package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// clean makes text that others have sent harmless for a terminal.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unprintable(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// short cuts text to n characters.
func short(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// address writes one with its angle brackets.
func address(s string) string { return "<" + clean(s) + ">" }

// moment writes a time.
func (a *app) moment(t time.Time) string { return t.In(a.zone).Format("2006-01-02 15:04:05") }

// zoned writes a time with its zone, and how far away it is.
func (a *app) zoned(t time.Time) string {
	d := t.Sub(a.now)
	away := "in " + span(d)
	if d <= 0 {
		away = span(-d) + " ago"
	}
	return t.In(a.zone).Format("2006-01-02 15:04:05 -0700") + ", " + away
}

// span writes a duration in two of its units at most.
func span(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 24*3600:
		return fmt.Sprintf("%dh%dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%dh", s/24/3600, s/3600%24)
}

// tableRows is how many rows are aligned together: memory is bounded.
const tableRows = 500

// A table aligns its columns. It never makes one narrower again.
type table struct {
	a      *app
	widths []int
	rows   [][]string
	right  []bool // columns of numbers
}

// table returns one with these heads. Those that begin with > are of numbers.
func (a *app) table(heads ...string) *table {
	t := &table{a: a, widths: make([]int, len(heads))}
	for i, h := range heads {
		h, right := strings.CutPrefix(h, ">")
		heads[i], t.right = h, append(t.right, right)
	}
	t.rows = append(t.rows, heads)
	return t
}

func (t *table) add(cells ...string) {
	if t.rows = append(t.rows, cells); len(t.rows) >= tableRows {
		t.flush()
	}
}

func (t *table) flush() {
	for _, row := range t.rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString(cell + "  ")
		}
		t.a.stdout.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	t.rows = t.rows[:0]
}

// writeJSON writes a value in a line.
func (a *app) writeJSON(v any) error {
	b, err := marshal(v)
	if err == nil {
		_, err = a.stdout.Write(b)
	}
	return err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return escape(b.Bytes()), err
}

// escape has JSON be harmless for a terminal, too: what clean changes is written as an
// escape, which means the same.
func escape(b []byte) []byte {
	special := func(r rune) bool { return r > 0x7e && r != utf8.RuneError && unprintable(r) }
	if bytes.IndexFunc(b, special) < 0 {
		return b
	}
	var out []byte
	for _, r := range string(b) {
		if !special(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}
