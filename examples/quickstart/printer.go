package main

import (
	"fmt"
	"io"
	"mime"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// A style is an SGR parameter of terminals (ECMA-48); plain is none.
type style string

const (
	plain style = ""
	bold  style = "1"
	faint style = "2"
	bad   style = "31"
	good  style = "32"
	warn  style = "33"
)

// A printer writes whole lines, in colour where the other end is a terminal
// that wants it (no-color.org).
type printer struct {
	colour bool
	mu     struct {
		sync.Mutex
		w io.Writer
	}
}

func newPrinter(w io.Writer) *printer {
	p := &printer{}
	p.mu.w = w
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		p.colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// paint puts text into a style.
func (p *printer) paint(s style, text string) string {
	if !p.colour || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// line writes one line. A terminal that is gone is no reason to stop mail.
func (p *printer) line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.mu.w, text+"\n")
}

// A column is a cell's width; negative: to the right.
type column int

// cells pads texts into columns; what is too long is cut.
func cells(columns []column, texts ...string) string {
	var b strings.Builder
	for i, text := range texts {
		width := int(max(columns[i], -columns[i]))
		if utf8.RuneCountInString(text) > width {
			text = string([]rune(text)[:width-1]) + "…"
		}
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(text))
		if columns[i] < 0 {
			b.WriteString(pad + text)
		} else {
			b.WriteString(text + pad)
		}
		b.WriteString("  ")
	}
	return b.String()
}

// title reads a Subject field for showing: decoded (RFC 2047), on one line, and
// nothing in it that a terminal would take for a command.
func title(subject string) string {
	decoded, err := (&mime.WordDecoder{}).DecodeHeader(subject)
	if err != nil {
		decoded = subject
	}
	if decoded = strings.TrimSpace(printable(decoded)); decoded == "" {
		return "(no subject)"
	}
	return decoded
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// short writes a duration as a reader wants it: two or three figures.
func short(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// bytesText is a size in KB, as mail programs show it.
func bytesText(n int) string { return fmt.Sprintf("%.1f KB", float64(n)/1000) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
