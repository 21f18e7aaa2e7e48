package queue

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	trace   = "Received: from a\r\n\tby b; now\r\n"
	message = "From: a@b\r\nSubject: hello\r\n  world\r\nX-Odd : kept  \r\nTo: c@d\r\nsubject: again\r\n\r\nbody: text\r\n"
)

// content is the message that a header and the body behind it make.
func content(h *Header, section []byte) string {
	front, n := h.encode()
	return string(front) + string(section[n:])
}

func TestHeaderEdits(t *testing.T) {
	const received = "Received: from a\r\n\tby b; now\r\n"
	tests := []struct {
		name           string
		front, section string
		edit           func(h *Header)
		want           string // the content
		n              int    // how much of section was copied
	}{
		{"nothing", trace, message, func(h *Header) {}, trace + message, 0},
		{"reading", trace, message, func(h *Header) { h.Get("Subject"); h.Values("To") }, trace + message, 0},
		{"deleting what is not there", trace, message, func(h *Header) { h.Del("Bcc"); h.Del("body"); h.Del("") }, trace + message, 0},

		{"prepend", trace, message, func(h *Header) { h.Prepend("X-A", "1"); h.Prepend("X-B", "2") },
			"X-B: 2\r\nX-A: 1\r\n" + trace + message, 0},
		{"prepend without trace", "", message, func(h *Header) { h.Prepend("X-A", "1") }, "X-A: 1\r\n" + message, 0},
		{"prepend raw", trace, message, func(h *Header) { h.PrependRaw([]byte("DKIM-Signature : v=1;\r\n\tb= a\t\r\n")) },
			"DKIM-Signature : v=1;\r\n\tb= a\t\r\n" + trace + message, 0},
		{"prepend raw, no line ending", trace, message, func(h *Header) { h.PrependRaw([]byte("A: b\n c")) }, "A: b\n c\r\n" + trace + message, 0},
		{"edit of a trace field", trace, message, func(h *Header) { h.Set("received", "x") }, "received: x\r\n" + message, 0},
		{"delete a trace field", trace, message, func(h *Header) { h.Del("RECEIVED") }, message, 0},

		{"set in place", trace, "A: 1\r\nB: 2\r\nC: 3\r\n\r\nbody", func(h *Header) { h.Set("b", "new") }, received + "A: 1\r\nb: new\r\nC: 3\r\n\r\nbody", 18},
		{"set deletes the others", trace, message, func(h *Header) { h.Set("Subject", "new") },
			trace + "From: a@b\r\nSubject: new\r\nX-Odd : kept  \r\nTo: c@d\r\n\r\nbody: text\r\n", len(message) - len("\r\nbody: text\r\n")},
		{"set appends", trace, message, func(h *Header) { h.Set("Cc", "e@f") },
			trace + strings.Replace(message, "\r\n\r\n", "\r\nCc: e@f\r\n\r\n", 1), len(message) - len("\r\nbody: text\r\n")},
		{"delete all", trace, "A: 1\r\nB: 2\r\na : 3\r\n\r\nbody", func(h *Header) { h.Del("A") }, trace + "B: 2\r\n\r\nbody", 19},
		{"white space before the colon", "", message, func(h *Header) { h.Set("x-odd", "even") }, strings.Replace(message, "X-Odd : kept  ", "x-odd: even", 1), len(message) - len("\r\nbody: text\r\n")},
		{"first in trace, others in the body", "A: 0\r\n", "A: 1\r\nB: 2\r\n\r\n", func(h *Header) { h.Set("A", "x") }, "A: x\r\nB: 2\r\n\r\n", 12},
		{"a field that was just added", trace, message, func(h *Header) { h.Prepend("X-A", "1"); h.Set("X-A", "2"); h.Prepend("X-B", "3"); h.Del("X-B") },
			"X-A: 2\r\n" + trace + message, 0},

		{"bare LF", "", "A: 1\nB: 2\n\nbody\r\n", func(h *Header) { h.Append("C", "3") }, "A: 1\nB: 2\nC: 3\n\nbody\r\n", 10},
		{"bare LF, prepend", trace, "A: 1\nB: 2\n\nbody", func(h *Header) { h.Prepend("C", "3") }, "C: 3\n" + trace + "A: 1\nB: 2\n\nbody", 0},
		{"mixed endings", "", "A: 1\nB: 2\r\n\nbody", func(h *Header) { h.Append("C", "3") }, "A: 1\nB: 2\r\nC: 3\r\n\nbody", 11},
		{"LF and no header", trace, "\nbody\r\n", func(h *Header) { h.Append("C", "3") }, trace + "C: 3\n\nbody\r\n", 0},
		{"header in front, as after an edit", "A: 1\nB: 2\n", "\nbody", func(h *Header) { h.Del("A"); h.Append("C", "3") }, "B: 2\nC: 3\n\nbody", 0},
		{"bare CR is no line ending", "", "A: 1\rB: 2\r\n\r\n", func(h *Header) { h.Set("B", "x") }, "A: 1\rB: 2\r\nB: x\r\n\r\n", 11},

		{"malformed line", "", "A: 1\r\nno field\r\n at all\r\nB: 2\r\n\r\nbody", func(h *Header) { h.Set("B", "x") }, "A: 1\r\nno field\r\n at all\r\nB: x\r\n\r\nbody", 31},
		{"empty name", "", ": 1\r\nB: 2\r\n\r\n", func(h *Header) { h.Del("") }, ": 1\r\nB: 2\r\n\r\n", 0},
		{"mbox line", "", "From a@b Mon Jan  1 00:00:00 2026\r\nB: 2\r\n\r\n", func(h *Header) { h.Append("C", "3") }, "From a@b Mon Jan  1 00:00:00 2026\r\nB: 2\r\nC: 3\r\n\r\n", 41},
		{"8-bit", "", "A: \xff\xfe\r\n\xe4: 1\r\n\r\n", func(h *Header) { h.Append("C", "\xe4") }, "A: \xff\xfe\r\n\xe4: 1\r\nC: \xe4\r\n\r\n", 13},
		{"continuation first", "", " odd\r\nA: 1\r\n\r\n", func(h *Header) { h.Append("C", "3") }, " odd\r\nA: 1\r\nC: 3\r\n\r\n", 12},

		{"no empty line", "", "A: 1\r\nB: 2\r\n", func(h *Header) { h.Append("C", "3") }, "A: 1\r\nB: 2\r\nC: 3\r\n", 12},
		{"no empty line and no ending", "", "A: 1\r\nB: 2", func(h *Header) { h.Append("C", "3") }, "A: 1\r\nB: 2\r\nC: 3\r\n", 10},
		{"no empty line, mbox line", "", "From a@b\r\nA: 1\r\ntext", func(h *Header) { h.Append("C", "3") }, "From a@b\r\nA: 1\r\nC: 3\r\ntext", 16},
		{"no empty line, then text", "", "A: 1\r\n x\r\nsome text\r\nB: 2\r\n", func(h *Header) { h.Append("C", "3"); h.Del("B") }, "A: 1\r\n x\r\nC: 3\r\nsome text\r\nB: 2\r\n", 10},
		{"only text", trace, "some text\r\nB: 2\r\n", func(h *Header) { h.Append("C", "3") }, trace + "C: 3\r\nsome text\r\nB: 2\r\n", 0},
		{"only indented text", trace, " text\r\nB: 2\r\n", func(h *Header) { h.Append("C", "3") }, trace + "C: 3\r\n\r\n text\r\nB: 2\r\n", 0},
		{"only indented text, prepend", "", " text\r\n", func(h *Header) { h.Prepend("C", "3") }, "C: 3\r\n\r\n text\r\n", 0},
		{"only indented text, nothing left", trace, " text\r\n", func(h *Header) { h.Del("Received") }, " text\r\n", 0},
		{"no header", trace, "\r\nbody: 1\r\n", func(h *Header) { h.Append("C", "3"); h.Del("body") }, trace + "C: 3\r\n\r\nbody: 1\r\n", 0},
		{"no message", "", "", func(h *Header) { h.Append("C", "3") }, "C: 3\r\n", 0},
		{"empty line in front", "A: 1\n\nB: 2\n", "C: 3\r\n\r\n", func(h *Header) { h.Append("D", "4"); h.Del("B"); h.Del("C") }, "A: 1\nD: 4\n\nB: 2\nC: 3\r\n\r\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			front, section := []byte(tt.front), []byte(tt.section)
			h := parseHeader(front, section)
			tt.edit(h)
			got, n := h.encode()
			if whole := string(got) + tt.section[n:]; whole != tt.want || n != tt.n {
				t.Errorf("n = %d, %q\nwant %d, %q", n, whole, tt.n, tt.want)
			}
			if changed := tt.want != tt.front+tt.section; changed && !h.edited() || !h.edited() && n != 0 {
				t.Errorf("edited() = %v", h.edited())
			}
			if err := h.refused(); err != nil {
				t.Errorf("refused: %v", err)
			}
			if string(front) != tt.front || string(section) != tt.section {
				t.Error("the bytes handed in were changed")
			}
		})
	}
}

func TestHeaderGet(t *testing.T) {
	h := parseHeader([]byte(trace), []byte("Subject: =?utf-8?q?=C3=A4?=\r\n   \t two\n three \t\r\nX-Empty:\r\nx-odd \t:  1\r\nX-Odd: 2\r\nK: 3\r\n\r\nX-Odd: body\r\n"))
	tests := []struct {
		name string
		want []string
	}{
		{"subject", []string{"=?utf-8?q?=C3=A4?=   \t two three"}},
		{"Received", []string{"from a\tby b; now"}},
		{"X-ODD", []string{"1", "2"}},
		{"X-Empty", []string{""}},
		{"\u212A", nil}, // the Kelvin sign, which folds to k
		{"X-Odd ", nil},
		{"X-None", nil},
		{"", nil},
	}
	for _, tt := range tests {
		if got := h.Values(tt.name); !slices.Equal(got, tt.want) {
			t.Errorf("Values(%q) = %q, want %q", tt.name, got, tt.want)
		}
		first := ""
		if len(tt.want) > 0 {
			first = tt.want[0]
		}
		if got := h.Get(tt.name); got != first {
			t.Errorf("Get(%q) = %q, want %q", tt.name, got, first)
		}
	}
}

func TestHeaderFolding(t *testing.T) {
	word := func(n int) string { return strings.Repeat("w", n) }
	tests := []struct{ name, value, want string }{
		{"empty", "", "X:\r\n"},
		{"only white space", " \t ", "X:\r\n"},
		{"trimmed", "  a  b\t", "X: a  b\r\n"},
		{"fits", word(75), "X: " + word(75) + "\r\n"},
		{"one long word", word(200), "X: " + word(200) + "\r\n"},
		{"fits with a second", word(70) + " 1234", "X: " + word(70) + " 1234\r\n"},
		{"does not fit", word(70) + " 12345", "X: " + word(70) + "\r\n 12345\r\n"},
		{"tab", word(70) + "\t12345", "X: " + word(70) + "\r\n\t12345\r\n"},
		{"three lines", word(70) + " " + word(70) + "  " + word(70), "X: " + word(70) + "\r\n " + word(70) + "\r\n  " + word(70) + "\r\n"},
		{"word that fills a line", word(995), "X: " + word(995) + "\r\n"},
		{"word that needs its own line", word(997), "X:\r\n " + word(997) + "\r\n"},
		{"line break", "a\r\nBcc: x", "X: a Bcc: x\r\n"},
		{"folded already", "a\r\n b\n\tc", "X: a b\tc\r\n"},
		{"end of header", "a\r\n\r\nbody", "X: a body\r\n"},
		{"CR, LF, NUL", "a\rb\nc\x00d", "X: a b c d\r\n"},
		{"break at both ends", "\r\na\r\n", "X: a\r\n"},
		{"nothing but breaks", "\r\n\r\n", "X:\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := parseHeader(nil, []byte("\r\n"))
			h.Append("X", tt.value)
			if front, _ := h.encode(); string(front) != tt.want {
				t.Errorf("got %q\nwant %q", front, tt.want)
			}
		})
	}
}

func TestHeaderRefuses(t *testing.T) {
	tests := []struct {
		name string
		edit func(h *Header)
		want string
	}{
		{"empty name", func(h *Header) { h.Set("", "x") }, `Set: ""`},
		{"space", func(h *Header) { h.Append("X Y", "x") }, `Append: "X Y"`},
		{"colon", func(h *Header) { h.Prepend("X:", "x") }, `Prepend: "X:"`},
		{"line break", func(h *Header) { h.Prepend("X\r\nBcc", "x") }, `Prepend: "X\r\nBcc"`},
		{"not ASCII", func(h *Header) { h.Prepend("\u00c4", "x") }, "Prepend"},
		{"too long", func(h *Header) { h.Prepend(strings.Repeat("x", 997), "x") }, "Prepend"},
		{"raw, nothing", func(h *Header) { h.PrependRaw(nil) }, "PrependRaw"},
		{"raw, no field", func(h *Header) { h.PrependRaw([]byte("no field")) }, "PrependRaw"},
		{"raw, two fields", func(h *Header) { h.PrependRaw([]byte("A: 1\r\nB: 2\r\n")) }, "PrependRaw"},
		{"raw, with the body", func(h *Header) { h.PrependRaw([]byte("A: 1\r\n\r\n")) }, "PrependRaw"},
		{"raw, end of header at the end", func(h *Header) { h.PrependRaw([]byte("A: 1\r\n\n")) }, "PrependRaw"},
		{"raw, continuation first", func(h *Header) { h.PrependRaw([]byte(" A: 1\r\n")) }, "PrependRaw"},
		{"raw, line without field", func(h *Header) { h.PrependRaw([]byte("A: 1\r\nb\r\n")) }, "PrependRaw"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := parseHeader([]byte(trace), []byte(message))
			tt.edit(h)
			if got := content(h, []byte(message)); got != trace+message || h.edited() {
				t.Errorf("the message was changed to %q", got)
			}
			err := h.refused()
			if err == nil || !strings.HasPrefix(err.Error(), "queue: header edit left out: "+tt.want) {
				t.Errorf("refused() = %v, want one of %q", err, tt.want)
			}
		})
	}
}

// TestHeaderLimit edits headers that go on behind the section.
func TestHeaderLimit(t *testing.T) {
	filler := "X-Fill: " + strings.Repeat("x", 70) + "\r\n"
	tests := []struct {
		name, tail string
		header     int // how much of tail is surely header
	}{
		{"in a field", "X-Last: cut of", 0},
		{"in a name", "X-La", 0},
		{"behind a field", "X-Last: complete\r\n", 0},
		{"in a continuation", "X-Last: a\r\n b\r\n\tc", 0},
		{"in the empty line", "X-Last: a\r\n\r", len("X-Last: a\r\n")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			head := strings.Repeat(filler, headerLimit/len(filler)-1)
			pad := headerLimit - len(head) - len(tt.tail) - len("Y: \r\n")
			head += "Y: " + strings.Repeat("y", pad) + "\r\n"
			section := []byte(head + tt.tail)
			if len(section) != headerLimit {
				t.Fatalf("the section has %d bytes, want %d", len(section), headerLimit)
			}
			h := parseHeader([]byte(trace), section)
			if known := len(h.Values("X-Last")) > 0; known != (tt.header > 0) {
				t.Errorf("the last field is known: %v", known)
			}
			h.Set("Received", "x")
			h.Append("Z", "1")
			cut := len(head) + tt.header
			want := "Received: x\r\n" + string(section[:cut]) + "Z: 1\r\n" + string(section[cut:])
			if got := content(h, section); got != want {
				t.Errorf("got ...%q, want ...%q", got[len(got)-60:], want[len(want)-60:])
			}
		})
	}
}

// An edits is a program of header edits, for fuzzing.
type edits struct {
	script []byte
	header *Header
	log    []string
}

var editNames = []string{"Subject", "X-A", "received", "to", "No Name", "X-Long-Name", "B", ""}

// run makes all edits of the script: one byte says which, one the name, one
// how long the value is.
func (e *edits) run(value string) {
	for ; len(e.script) >= 3; e.script = e.script[3:] {
		name := editNames[int(e.script[1])%len(editNames)]
		v := value[:min(len(value), int(e.script[2]))]
		switch e.script[0] % 6 {
		case 0:
			e.header.Set(name, v)
			if got := e.header.Values(name); validFieldName(name) && len(got) != 1 {
				e.log = append(e.log, fmt.Sprintf("after Set(%q) there are %d fields", name, len(got)))
			}
		case 1:
			e.header.Del(name)
			if got := e.header.Values(name); len(got) != 0 {
				e.log = append(e.log, fmt.Sprintf("after Del(%q) there are %d fields", name, len(got)))
			}
		case 2:
			e.header.Prepend(name, v)
		case 3:
			e.header.Append(name, v)
		case 4:
			e.header.PrependRaw([]byte(v))
		case 5:
			e.header.PrependRaw([]byte(name + ": " + v))
		}
	}
}

// FuzzHeader makes edits to odd messages. Nothing but the edits may change.
func FuzzHeader(f *testing.F) {
	f.Add(trace, message, "value of some length", []byte{0, 0, 5, 1, 1, 0, 2, 2, 9, 3, 3, 9, 4, 0, 20})
	f.Add("", " text\n", "a\r\n\r\nb", []byte{3, 1, 9})
	f.Add("A: 1\n\nB: 2\n", "no\r\n\r\n", "X: y\r\n z", []byte{4, 0, 200, 5, 1, 9})
	f.Add("", "From a@b\nB: 1\nfoo\n", "v", []byte{1, 6, 1})
	f.Fuzz(func(t *testing.T, front, section, value string, script []byte) {
		if front != "" && !strings.HasSuffix(front, "\n") {
			front += "\n" // front is complete lines
		}
		untouched := parseHeader([]byte(front), []byte(section))
		if got, n := untouched.encode(); string(got) != front || n != 0 || untouched.edited() {
			t.Fatalf("without edits: %q, %d", got, n)
		}
		h := parseHeader([]byte(front), []byte(section))
		before := rawItems(h)
		e := edits{script: script, header: h}
		e.run(value)
		if len(e.log) > 0 {
			t.Fatal(e.log)
		}
		got, n := h.encode()
		if n < 0 || n > untouched.length || n > 0 && !h.inner {
			t.Fatalf("n = %d of a header of %d", n, untouched.length)
		}
		if !h.edited() && (string(got) != front || n != 0) {
			t.Fatalf("encode changes what was not edited: %q", got)
		}
		checkSurvivors(t, before, rawItems(h))
		checkReparsed(t, h, got, []byte(section[n:]))
	})
}

func rawItems(h *Header) []string {
	var all []string
	for _, f := range h.items {
		all = append(all, string(f.raw))
	}
	return all
}

// checkSurvivors checks that lines that no edit can name are all there.
func checkSurvivors(t *testing.T, before, after []string) {
	t.Helper()
	i := 0
	for _, raw := range before {
		name, _ := fieldName([]byte(raw))
		if slices.ContainsFunc(editNames, func(n string) bool { return name > 0 && strings.EqualFold(n, raw[:name]) }) {
			continue
		}
		for i < len(after) && strings.TrimRight(after[i], "\r\n") != strings.TrimRight(raw, "\r\n") {
			i++
		}
		if i == len(after) {
			t.Fatalf("%q was lost or moved in %q", raw, after)
		}
		i++
	}
}

// checkReparsed checks that a reader of the edited message sees what h says.
func checkReparsed(t *testing.T, h *Header, front, section []byte) {
	t.Helper()
	again := parseHeader(front, section)
	if whole, n := again.encode(); !bytes.Equal(whole, front) || n != 0 {
		t.Fatalf("parsed again without edits: %q", whole)
	}
	for _, name := range editNames {
		got, want := again.Values(name), h.Values(name)
		if h.orphan || glued(h) {
			continue // the first line of the message continues whatever stands before it
		}
		if !slices.Equal(got, want) {
			t.Fatalf("Values(%q) = %q, want %q\nfront %q\nsection %q", name, got, want, front, section)
		}
	}
}

// glued reports whether an item begins with white space: the first of the
// message or of its body. Such a line is kept, wherever an edit leaves it.
func glued(h *Header) bool {
	return slices.ContainsFunc(h.items, func(f headerItem) bool { return isContinuation(f.raw) })
}
