package smtpserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBody(t *testing.T) {
	longLine := strings.Repeat("x", 998)
	hops := func(n int) string { return strings.Repeat("Received: x\r\n\ty\r\n", n) + "\r\n" }
	for _, tt := range []struct {
		name    string
		content string // without the final dot
		want    string // equal to content if empty
		refusal error
	}{
		{name: "empty"},
		{name: "plain", content: plain},
		{name: "unstuffed", content: "..\r\n...a\r\n.b\r\n", want: ".\r\n..a\r\nb\r\n"},
		{name: "CR CR LF", content: "a\r\r\n", refusal: replyLineEnding},
		{name: "bare LF", content: "a\nb\r\n", refusal: replyLineEnding},
		{name: "bare CR", content: "a\rb\r\n", refusal: replyLineEnding},
		{name: "smuggled end, bare LF", content: "a\n.\r\nMAIL FROM:<>\r\n", refusal: replyLineEnding},
		{name: "smuggled end, LF LF", content: "a\r\n.\nMAIL FROM:<>\r\n", refusal: replyLineEnding},
		{name: "smuggled end, CR", content: "a\r\n.\rMAIL FROM:<>\r\n", refusal: replyLineEnding},
		{name: "smuggled end, CR CR LF", content: "a\r\n.\r\r\nMAIL FROM:<>\r\n", refusal: replyLineEnding},
		{name: "NUL and 8 bit", content: "a\x00\xff\r\n"},
		{name: "longest line", content: longLine + "\r\n." + "." + longLine[1:] + "\r\n", want: longLine + "\r\n." + longLine[1:] + "\r\n"},
		{name: "line too long", content: longLine + "y\r\n", refusal: replyLineLength},
		{name: "line longer than the buffer", content: strings.Repeat("x", 3*readBuffer) + "\r\n", refusal: replyLineLength},
		{name: "largest", content: strings.Repeat("12345678\r\n", 500)},
		{name: "too large", content: strings.Repeat("12345678\r\n", 500) + "\r\n", refusal: replyTooLarge},
		{name: "hops", content: hops(5) + "Received: body\r\n"},
		{name: "too many hops", content: hops(6), refusal: replyHops},
	} {
		for _, dotted := range []bool{true, false} {
			if !dotted && (strings.Contains(tt.content, "\n.") || strings.HasPrefix(tt.content, ".")) {
				continue // differs by dot-stuffing
			}
			t.Run(fmt.Sprintf("%s/dotted=%v", tt.name, dotted), func(t *testing.T) {
				want := tt.want
				if want == "" {
					want = tt.content
				}
				in := tt.content
				if dotted {
					in += ".\r\nrest"
				}
				for _, src := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
					var out bytes.Buffer
					b := &bodyReader{dst: &out, dotted: dotted, maxSize: 5000, lineLength: 998, maxHops: 5}
					r := bufio.NewReaderSize(src, readBuffer)
					if err := b.read(r); err != nil || b.refusal != tt.refusal {
						t.Fatalf("read: %v, refusal %v; want %v", err, b.refusal, tt.refusal)
					}
					if rest, _ := io.ReadAll(r); dotted && string(rest) != "rest" {
						t.Errorf("behind the end is %q, want \"rest\"", rest)
					}
					if tt.refusal == nil && out.String() != want {
						t.Errorf("content %q, want %q", out.String(), want)
					}
				}
			})
		}
	}
}

func TestBodyIncomplete(t *testing.T) {
	for _, in := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\n.\r\n", "a\r.\r\n"} {
		b := &bodyReader{dst: io.Discard, dotted: true}
		if err := b.read(bufio.NewReaderSize(strings.NewReader(in), readBuffer)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("content %q: %v, want ErrUnexpectedEOF", in, err)
		}
	}
	b := &bodyReader{dst: io.Discard}
	if err := b.read(bufio.NewReader(strings.NewReader("a\r"))); err != nil || b.refusal != replyLineEnding {
		t.Errorf("a CR at the end of the last chunk: %v, %v", err, b.refusal)
	}
}

// TestBodyDrain: a refused message that does not end is given up.
func TestBodyDrain(t *testing.T) {
	b := &bodyReader{dst: io.Discard, dotted: true, maxSize: 10}
	endless := iotest.DataErrReader(strings.NewReader(strings.Repeat("12345678\r\n", minDrain/10+3)))
	if err := b.read(bufio.NewReader(endless)); err != errDrained {
		t.Errorf("%v, want errDrained", err)
	}
}

// FuzzBody compares with a straightforward reading of RFC 5321 on the whole input.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"", ".\r\n", "a\r\n.\r\nb", "..\r\n.\r\n", "a\n.\r\n\r\n.\r\n", "a\r\r\n.\r\n", "Received: a\r\n\r\n.\r\n"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var out bytes.Buffer
		b := &bodyReader{dst: &out, dotted: true, lineLength: 30, maxSize: 200}
		r := bufio.NewReaderSize(&stepReader{in, int(step%40) + 1}, 16)
		err := b.read(r)
		want, rest, ok := naiveBody(in)
		if !ok {
			if err == nil {
				t.Fatalf("%q is not complete", in)
			}
			return
		}
		if got, _ := io.ReadAll(r); err != nil || !bytes.Equal(got, rest) {
			t.Fatalf("%q: %v, rest %q, want %q", in, err, got, rest)
		}
		bad := naiveBad(want)
		if bad != (b.refusal != nil) {
			t.Fatalf("%q: refusal %v, want bad=%v", in, b.refusal, bad)
		}
		if !bad && !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%q: content %q, want %q", in, out.Bytes(), want)
		}
	})
}

type stepReader struct {
	rest []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// naiveBody finds CRLF.CRLF and takes away one dot behind each CRLF.
func naiveBody(in []byte) (content, rest []byte, ok bool) {
	in = append([]byte("\r\n"), in...)
	content, rest, ok = bytes.Cut(in, []byte("\r\n.\r\n"))
	if !ok {
		return nil, nil, false
	}
	content = bytes.ReplaceAll(append(bytes.Clone(content), "\r\n"...), []byte("\r\n."), []byte("\r\n"))
	return content[2:], rest, true
}

// naiveBad says whether content breaks the limits of FuzzBody.
func naiveBad(content []byte) bool {
	if len(content) > 200 {
		return true
	}
	for line := range bytes.SplitSeq(content, []byte("\r\n")) {
		if len(line) > 30 || bytes.ContainsAny(line, "\r\n") {
			return true
		}
	}
	return false
}
