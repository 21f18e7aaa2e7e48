package smtpserver

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
)

// A verdict is what becomes of a stream of octets.
type verdict struct {
	out     []byte // passed on; if refused, no more than this
	left    int    // octets of the stream that were consumed
	end     bool
	size    int64
	refusal error
}

// reference applies the rules to a stream, octet by octet and with the whole of
// it in view. What it returns is what a content must make of the stream, however
// that is cut into pieces.
func reference(c content, stream []byte) verdict {
	var v verdict
	received, complete := stream, !c.dotted
	v.left = len(stream)
	if c.dotted {
		received, v.left, v.end = unstuff(stream)
		complete = v.end
	}
	v.size = int64(len(received))
	r := referee{c: c}
	for i, b := range received {
		if c.maxSize > 0 && int64(i) >= c.maxSize {
			r.refuse(replyTooLarge)
		}
		before, behind := bytes.HasSuffix(received[:i], []byte("\r")), bytes.HasPrefix(received[i+1:], []byte("\n"))
		switch {
		case b == '\r' && !behind && !complete && i == len(received)-1:
			r.out = append(r.out, b) // it cannot be known yet what it is
		case b == '\r' && behind:
			r.out = append(r.out, b)
		case b == '\n' && before:
			r.out = append(r.out, b)
			r.lineEnd()
		case b == '\r':
			r.bareCR()
		case b == '\n':
			r.bareLF()
		default:
			r.octet(b)
		}
	}
	if complete && len(r.line) > 0 {
		r.lineEnd()
	}
	v.out, v.refusal = r.out, r.refusal
	return v
}

// unstuff finds the end of data and removes the dots behind CRLF. Without an end
// what might become one is left.
func unstuff(stream []byte) (received []byte, n int, end bool) {
	for i, b := range stream {
		if b == '.' && (i == 0 || i >= 2 && string(stream[i-2:i]) == "\r\n") {
			rest := stream[i:]
			switch {
			case bytes.HasPrefix(rest, []byte(".\r\n")):
				return received, i + 3, true
			case string(rest) == "." || string(rest) == ".\r":
				return received, i, false
			}
			continue
		}
		received = append(received, b)
	}
	return received, len(stream), false
}

// A referee judges the octets of a message.
type referee struct {
	c          content
	out, line  []byte
	headerDone bool
	hops       int
	refusal    error
}

var receivedStart = regexp.MustCompile(`^(?i:received)[ \t]*:`)

func (r *referee) refuse(err error) {
	if r.refusal == nil {
		r.refusal = err
	}
}

func (r *referee) fix() bool { return r.c.endings == Fix && !r.c.binary }

func (r *referee) deny() {
	if r.c.endings != Allow && r.c.endings != Fix && !r.c.binary {
		r.refuse(replyLineEnding)
	}
}

func (r *referee) octet(b byte) {
	r.out = append(r.out, b)
	r.line = append(r.line, b)
	if r.c.lineLength > 0 && !r.c.binary && len(r.line) > r.c.lineLength {
		r.refuse(replyLineLength)
	}
}

func (r *referee) bareCR() {
	r.deny()
	if r.fix() {
		r.out = append(r.out, "\r\n"...)
		r.lineEnd()
		return
	}
	r.octet('\r')
}

func (r *referee) bareLF() {
	r.deny()
	if r.fix() {
		r.out = append(r.out, '\r')
	}
	r.out = append(r.out, '\n')
	r.lineEnd()
}

func (r *referee) lineEnd() {
	if !r.headerDone && receivedStart.Match(r.line) {
		if r.hops++; r.c.maxHops > 0 && r.hops > r.c.maxHops {
			r.refuse(replyHops)
		}
	}
	r.headerDone = r.headerDone || len(r.line) == 0
	r.line = nil
}

// feed gives a stream to c in pieces of these sizes, again and again, as a
// connection does: what c leaves is presented again with the next piece. A size
// of 0 is all that is left.
func feed(c *content, stream []byte, sizes []int) (v verdict, err error) {
	var out bytes.Buffer
	c.dst = &out
	window := []byte{} // a copy, so that what is behind cannot be seen
	for i := 0; len(stream) > 0 && !v.end; i++ {
		size := len(stream)
		if s := sizes[i%len(sizes)]; s > 0 {
			size = min(s, size)
		}
		window = append(slices.Clone(window), stream[:size]...)
		stream = stream[size:]
		before := slices.Clone(window)
		var n int
		n, v.end = c.take(window)
		switch {
		case !bytes.Equal(window, before):
			return v, errors.New("take changed the window")
		case n > len(window), n < 0, !c.dotted && (n < len(window) || v.end), n == 0 && len(window) >= maxHeld:
			return v, fmt.Errorf("take(%q) = %d, %v", window, n, v.end)
		}
		v.left += n
		window = window[n:]
	}
	if !c.dotted {
		c.finish(window)
	}
	v.out, v.size, v.refusal = out.Bytes(), c.size, c.refusal
	return v, nil
}

// checkContent compares what a content makes of a stream with the reference.
func checkContent(t *testing.T, c content, stream []byte, sizes []int) {
	t.Helper()
	want := reference(c, stream)
	got, err := feed(&c, stream, sizes)
	same := bytes.Equal(got.out, want.out)
	if want.refusal != nil {
		same = bytes.HasPrefix(want.out, got.out)
	}
	if err != nil || !same || got.left != want.left || got.end != want.end || got.refusal != want.refusal || got.size != want.size {
		t.Fatalf("stream %.300q in pieces of %v, dotted %v, binary %v, endings %d, limits %d, %d, %d (error %v)\ngot  %s\nwant %s",
			stream, sizes, c.dotted, c.binary, c.endings, c.maxSize, c.lineLength, c.maxHops, err, got, want)
	}
}

func (v verdict) String() string {
	return fmt.Sprintf("%.300q, %d octets consumed, size %d, end %v, refusal %v", v.out, v.left, v.size, v.end, v.refusal)
}
