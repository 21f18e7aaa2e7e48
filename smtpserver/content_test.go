package smtpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// contentModes are all that decides what becomes of a stream, but for limits.
func contentModes(f func(content)) {
	for _, dotted := range []bool{true, false} {
		for _, c := range []content{{endings: Deny}, {endings: Allow}, {endings: Fix}, {binary: true}} {
			c.dotted = dotted
			f(c)
		}
	}
}

func (c content) String() string {
	kind := map[LineEndings]string{0: "unset", Deny: "Deny", Allow: "Allow", Fix: "Fix"}[c.endings]
	if c.binary {
		kind = "binary"
	}
	return fmt.Sprintf("%s/dotted=%v", kind, c.dotted)
}

func TestContent(t *testing.T) {
	longLine := strings.Repeat("x", 998)
	hops := func(n int) string { return strings.Repeat("Received: x\r\n\ty\r\n", n) + "\r\n" }
	for _, tt := range []struct {
		name    string
		endings LineEndings
		content string // without the final dot
		want    string // equal to content if empty
		refusal error
	}{
		{name: "empty", endings: Deny},
		{name: "plain", endings: Deny, content: plain},
		{name: "NUL and 8 bit", endings: Deny, content: "a\x00\xff\r\n"},
		{name: "unset denies", content: "a\nb\r\n", refusal: replyLineEnding},
		{name: "bare LF denied", endings: Deny, content: "a\nb\r\n", refusal: replyLineEnding},
		{name: "bare CR denied", endings: Deny, content: "a\rb\r\n", refusal: replyLineEnding},
		{name: "CR CR LF denied", endings: Deny, content: "a\r\r\n", refusal: replyLineEnding},
		{name: "LF CR denied", endings: Deny, content: "a\n\rb\r\n", refusal: replyLineEnding},
		{name: "bare ones allowed", endings: Allow, content: "a\nb\rc\r\r\n\n\rd\r\n"},
		{name: "bare LF fixed", endings: Fix, content: "a\nb\r\n", want: "a\r\nb\r\n"},
		{name: "bare CR fixed", endings: Fix, content: "a\rb\r\n", want: "a\r\nb\r\n"},
		{name: "CR CR LF fixed", endings: Fix, content: "a\r\r\n", want: "a\r\n\r\n"},
		{name: "LF CR fixed", endings: Fix, content: "a\n\rb\r\n", want: "a\r\n\r\nb\r\n"},
		{name: "bare ones behind the header fixed", endings: Fix, content: "\r\na\r\nb\nc\rd\r\n", want: "\r\na\r\nb\r\nc\r\nd\r\n"},

		{name: "longest line", endings: Deny, content: longLine + "\r\n" + longLine + "\r\n"},
		{name: "longest line behind the header", endings: Deny, content: "\r\n" + longLine + "\r\n"},
		{name: "line too long", endings: Deny, content: longLine + "y\r\n", refusal: replyLineLength},
		{name: "line too long behind the header", endings: Deny, content: "\r\n" + longLine + "y\r\n", refusal: replyLineLength},
		{name: "line longer than all", endings: Deny, content: "\r\n" + strings.Repeat(longLine, 4) + "\r\n", refusal: replyLineLength},
		{name: "longest line before bare LF", endings: Allow, content: longLine + "\n" + longLine + "\r\n"},
		{name: "bare CR counts where allowed", endings: Allow, content: longLine + "\r\r\n", refusal: replyLineLength},
		{name: "bare CR ends the line where fixed", endings: Fix, content: longLine + "\r" + longLine + "\r\n", want: longLine + "\r\n" + longLine + "\r\n"},
		{name: "bare LF ends the line where fixed", endings: Fix, content: longLine + "\n" + longLine + "\r\n", want: longLine + "\r\n" + longLine + "\r\n"},

		{name: "largest", endings: Deny, content: strings.Repeat("12345678\r\n", 500)},
		{name: "largest behind the header", endings: Deny, content: "\r\n" + strings.Repeat("12345678\r\n", 499) + "123456\r\n"},
		{name: "too large", endings: Deny, content: strings.Repeat("12345678\r\n", 500) + "\r\n", refusal: replyTooLarge},
		{name: "too large behind the header", endings: Deny, content: "\r\n" + strings.Repeat("12345678\r\n", 499) + "1234567\r\n", refusal: replyTooLarge},
		{name: "largest before it is fixed", endings: Fix, content: strings.Repeat("123456789\n", 499) + "12345678\r\n", want: strings.Repeat("123456789\r\n", 499) + "12345678\r\n"},

		{name: "hops", endings: Deny, content: hops(5) + "Received: body\r\n"},
		{name: "too many hops", endings: Deny, content: hops(6), refusal: replyHops},
		{name: "hops in any case", endings: Deny, content: strings.Repeat("rEcEIVED: x\r\n", 6), refusal: replyHops},
		{name: "hops with space before the colon", endings: Deny, content: strings.Repeat("Received \t: x\r\n", 6), refusal: replyHops},
		{name: "not hops", endings: Deny, content: strings.Repeat("Received-SPF: x\r\nX-Received: x\r\nReceived\x1a x\r\n Received: x\r\nReceived x:\r\nRe ceived:\r\n", 6)},
		{name: "hops on lines with bare LF", endings: Allow, content: strings.Repeat("Received: x\n", 6) + "\r\n", refusal: replyHops},
		{name: "hops on lines with bare CR", endings: Fix, content: strings.Repeat("Received: x\r", 6) + "\r\n", refusal: replyHops},
		{name: "no hops on lines with bare CR", endings: Allow, content: strings.Repeat("Received: x\r", 6) + "\r\n"},
		{name: "no hops with bare CR in the name", endings: Allow, content: strings.Repeat("Rec\reived: x\r\n", 6)},
		{name: "header ends at bare LF", endings: Allow, content: "Subject: x\n\n" + strings.Repeat("Received: x\n", 6) + "\r\n"},

		{name: "size is first", endings: Deny, content: strings.Repeat("12345678\r\n", 500) + "a\nb\r\n", refusal: replyTooLarge},
		{name: "line ending is first", endings: Deny, content: "a\n" + strings.Repeat("12345678\r\n", 500), refusal: replyLineEnding},
		{name: "line length is first", endings: Deny, content: longLine + "y\rz\r\n", refusal: replyLineLength},
		{name: "hops are first", endings: Deny, content: hops(6) + "a\n\r\n", refusal: replyHops},
	} {
		for _, dotted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/dotted=%v", tt.name, dotted), func(t *testing.T) {
				want := tt.want
				if want == "" {
					want = tt.content
				}
				stream := tt.content
				if dotted {
					stream += ".\r\nrest"
				}
				for _, sizes := range [][]int{{0}, {1}, {2}, {3, 50}, {4096}} {
					c := content{dotted: dotted, endings: tt.endings, maxSize: 5000, lineLength: 998, maxHops: 5}
					v, err := feed(&c, []byte(stream), sizes)
					if err != nil || v.refusal != tt.refusal || v.end != dotted {
						t.Fatalf("pieces of %v: refusal %v, want %v; end %v, error %v", sizes, v.refusal, tt.refusal, v.end, err)
					}
					if rest := stream[v.left:]; dotted && rest != "rest" {
						t.Errorf("pieces of %v: behind the end is %q", sizes, rest)
					}
					if tt.refusal == nil && string(v.out) != want {
						t.Errorf("pieces of %v: content %q, want %q", sizes, v.out, want)
					}
				}
			})
		}
	}
}

// TestContentUnstuff: one dot is taken away at the beginning of a line, and is
// not part of its length or of the size.
func TestContentUnstuff(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{".\r\n", ""},
		{"..\r\n.\r\n", ".\r\n"},
		{"...a\r\n.\r\n", "..a\r\n"},
		{".a\r\n.b\r\n.\r\n", "a\r\nb\r\n"},
		{"\r\n..12345678\r\n.123456789\r\n.\r\n", "\r\n.12345678\r\n123456789\r\n"},
		{"a.\r\n.\r\n", "a.\r\n"},
		{".Received: a\r\n.\r\n", "Received: a\r\n"},
	} {
		c := content{dotted: true, endings: Deny, maxSize: int64(max(len(tt.want), 1)), lineLength: 11}
		v, err := feed(&c, []byte(tt.in), []int{1})
		if err != nil || v.refusal != nil || !v.end || string(v.out) != tt.want || v.size != int64(len(tt.want)) {
			t.Errorf("%q: %s, error %v; want %q", tt.in, v, err, tt.want)
		}
	}
}

// TestContentFinish: content that is not dotted ends anywhere, also behind CR.
func TestContentFinish(t *testing.T) {
	for _, tt := range []struct {
		c       content
		in      string
		want    string
		refusal error
	}{
		{content{endings: Deny}, "a", "a", nil},
		{content{endings: Deny}, "a\r", "", replyLineEnding},
		{content{endings: Deny}, ".\r\n", ".\r\n", nil},
		{content{endings: Allow}, "a\r", "a\r", nil},
		{content{endings: Allow, lineLength: 1}, "a\r", "", replyLineLength},
		{content{endings: Fix}, "a\r", "a\r\n", nil},
		{content{endings: Fix}, "a", "a", nil},
		{content{binary: true, lineLength: 1}, "\r\naa\r\r\nb\nc\r", "\r\naa\r\r\nb\nc\r", nil},
		{content{binary: true, endings: Fix}, "a\rb\nc\r", "a\rb\nc\r", nil},
		{content{binary: true, maxSize: 9}, "\r\n\x00\x01\x02\x03\x04\x05\x06", "\r\n\x00\x01\x02\x03\x04\x05\x06", nil},
		{content{binary: true, maxSize: 9}, "\r\n\x00\x01\x02\x03\x04\x05\x06\x07", "", replyTooLarge},
		{content{binary: true, maxHops: 1}, "Received: a\r\nReceived: b\r\n\r\n", "", replyHops},
		{content{endings: Deny, maxHops: 1}, "Received: a\r\nReceived: b", "", replyHops},
		{content{endings: Fix, maxHops: 1}, "Received: a\r\nReceived: b\r", "", replyHops},
	} {
		for held := range min(len(tt.in), 3) { // finish takes what is left
			var out bytes.Buffer
			c := tt.c
			c.dst = &out
			n, end := c.take([]byte(tt.in[:len(tt.in)-held]))
			c.finish([]byte(tt.in[n:]))
			if end || c.refusal != tt.refusal || c.refusal == nil && out.String() != tt.want {
				t.Errorf("%s: %q with %d octets left: %q, refusal %v; want %q, %v", c, tt.in, held, &out, c.refusal, tt.want, tt.refusal)
			}
		}
	}
}

// TestContentIncomplete: what is not the end of data does not end it.
func TestContentIncomplete(t *testing.T) {
	for _, in := range []string{"", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\n.\r\n", "a\r.\r\n", ".\n", ".\r", "..\r\n"} {
		contentModes(func(c content) {
			if v, err := feed(&c, []byte(in), []int{1}); c.dotted && (v.end || err != nil) {
				t.Errorf("%s: %q: end %v, error %v", c, in, v.end, err)
			}
		})
	}
}

// TestContentExcess: a refused message that does not end is given up, but not
// before a client had room to end it.
func TestContentExcess(t *testing.T) {
	for _, maxSize := range []int64{0, 100, 2 * minExcess} {
		c := content{dotted: true, dst: io.Discard, maxSize: maxSize, refusal: io.ErrClosedPipe}
		chunk, taken := []byte(strings.Repeat("12345678\r\n", 1000)), int64(0)
		for ; !c.excess(); taken += int64(len(chunk)) {
			if taken > 2*max(maxSize, minExcess) {
				t.Fatalf("limit %d: no end after %d octets", maxSize, taken)
			}
			c.take(chunk)
		}
		if taken < max(maxSize, minExcess) || c.refusal != io.ErrClosedPipe {
			t.Errorf("limit %d: given up after %d octets, refusal %v", maxSize, taken, c.refusal)
		}
	}
	c := content{dotted: true, dst: io.Discard}
	c.take(make([]byte, 2*minExcess))
	if c.excess() {
		t.Error("a message that was not refused is given up")
	}
}

// A failing writer takes some octets and then fails.
type failing struct {
	bytes.Buffer
	room int
	late int // writes after the failure
}

var errFailing = errors.New("no more")

func (f *failing) Write(p []byte) (int, error) {
	if f.room < 0 {
		f.late++
	}
	if f.room -= len(p); f.room < 0 {
		return 0, errFailing
	}
	return f.Buffer.Write(p)
}

// TestContentWriteError: the error of the spool is the refusal, nothing is
// written behind it, and the end of data is still found.
func TestContentWriteError(t *testing.T) {
	const stream = "\r\n..a\r\nplain\r\nb\n\n\rc\r\n.\r\nrest"
	for room := range len(stream) - len("rest") {
		for step := 1; step <= len(stream); step++ {
			c := content{dotted: true, endings: Fix}
			want := reference(c, []byte(stream))
			dst := &failing{room: room}
			c.dst = dst
			left, end := 0, false
			for upTo := 0; !end; {
				upTo = min(upTo+step, len(stream))
				var n int
				n, end = c.take([]byte(stream[left:upTo]))
				left += n
			}
			wantErr := errFailing
			if room >= len(want.out) {
				wantErr = nil
			}
			if stream[left:] != "rest" || c.refusal != wantErr || dst.late > 0 || !bytes.HasPrefix(want.out, dst.Bytes()) {
				t.Fatalf("room for %d, pieces of %d: wrote %q, refusal %v, %d writes behind it, %q left",
					room, step, dst, c.refusal, dst.late, stream[left:])
			}
		}
	}
}

// TestContentAll compares with the reference on every stream of few octets.
func TestContentAll(t *testing.T) {
	longest := 5
	if *long {
		longest = 8
	}
	const octets = "\r\n.x"
	for _, begin := range []string{"", "\r\n", "\r\nx\r\n"} { // the second and third: behind the header
		stream := []byte(begin)
		var all func()
		all = func() {
			contentModes(func(c content) {
				for step := range len(stream) + 1 {
					checkContent(t, c, stream, []int{step})
				}
				c.maxSize, c.lineLength = int64(len(begin)+3), 2
				checkContent(t, c, stream, []int{0})
				checkContent(t, c, stream, []int{1})
			})
			if len(stream) == longest+len(begin) {
				return
			}
			for _, b := range []byte(octets) {
				stream = append(stream, b)
				all()
				stream = stream[:len(stream)-1]
			}
		}
		all()
	}
}

// TestContentLong compares with the reference on long messages with one flaw
// here or there, in windows as a connection has them.
func TestContentLong(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	message := []byte("Subject: x\r\n\r\n")
	for len(message) < 3*maxPlain {
		message = append(message, strings.Repeat("x", 1+rnd.IntN(100))+"\r\n"...)
	}
	flaws := []string{"", "\r", "\n", ".", "\r\n.", "\r\n.\r", "\r\n.\n", "\r\n.\r\n", "\n.\r\n", "\r\r\n.\r\n", strings.Repeat("y", 120), "\r\nReceived: x\r\n"}
	places := []int{0, 14, 20, maxPlain - 1, maxPlain, maxPlain + 1, maxPlain + 14, 2 * maxPlain, len(message) - 1, len(message)}
	random := 5
	if *long {
		random = 500
	}
	for range random {
		places = append(places, rnd.IntN(len(message)))
	}
	for _, flaw := range flaws {
		for _, place := range places {
			stream := slices.Insert(slices.Clone(message), place, []byte(flaw)...)
			stream = append(stream, ".\r\nrest"...)
			c := content{dotted: rnd.IntN(4) > 0, binary: rnd.IntN(8) == 0, endings: Deny + LineEndings(rnd.IntN(3)), lineLength: 110, maxHops: 1}
			if rnd.IntN(2) == 0 {
				c.maxSize = int64(len(message) - 20 + rnd.IntN(40))
			}
			checkContent(t, c, stream, []int{[]int{0, 64 << 10, 4096, maxPlain}[rnd.IntN(4)]})
		}
	}
}

// TestContentLinear: whatever a client sends, a large window takes no longer
// than small ones, as it would if the same octets were searched again and again.
func TestContentLinear(t *testing.T) {
	const size, tries = 1 << 19, 3
	for _, tt := range []struct {
		name, unit string
		c          content
	}{
		{"CR", "\r", content{endings: Fix}},
		{"LF", "\n", content{endings: Fix}},
		{"CR in lines", "x\ry\r\n", content{endings: Allow}},
		{"CR in denied lines", "x\ry\r\n", content{endings: Deny}},
		{"LF in lines", "x\ny\r\n", content{endings: Allow}},
		{"dots", "..\r\n", content{endings: Deny, dotted: true}},
		{"too large", "x\r\n", content{endings: Deny, maxSize: 100}},
		{"one line", "x", content{endings: Deny}},
		{"one line with CR", "x\r", content{endings: Allow}},
	} {
		in := []byte("\r\n" + strings.Repeat(tt.unit, size/len(tt.unit)))
		measure := func(window int) time.Duration {
			c := tt.c
			c.dst = io.Discard
			begin := time.Now()
			for p := range slices.Chunk(in, window) {
				c.take(p)
			}
			return time.Since(begin)
		}
		var small, large time.Duration
		for range tries {
			small, large = measure(256), measure(len(in))
			if large < 10*small+100*time.Millisecond {
				break
			}
		}
		if large >= 10*small+100*time.Millisecond {
			t.Errorf("%s: one window takes %v, small ones %v", tt.name, large, small)
		}
	}
}

// A countingWriter counts writes.
type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w++
	return len(p), nil
}

// TestContentRuns: what needs no change goes to the spool in one write per
// window, and a message costs no memory.
func TestContentRuns(t *testing.T) {
	in := []byte("Received: x\r\nSubject: y\r\n\r\n" + strings.Repeat("Some line of text\r\n", 3000) + endMark)
	var w countingWriter
	c := content{dst: &w, dotted: true, endings: Deny, maxSize: 1 << 20, lineLength: 998, maxHops: 10}
	if n, end := c.take(in); n != len(in) || !end || c.refusal != nil || w != 1 {
		t.Errorf("%d of %d octets, end %v, refusal %v, %d writes; want one write", n, len(in), end, c.refusal, w)
	}
	fix := []byte(strings.Repeat("..dots and\nbare\rones\r\n", 100) + endMark)
	contentModes(func(mode content) {
		c := &content{}
		if n := testing.AllocsPerRun(10, func() {
			*c = mode
			c.dst = &w
			c.take(in)
			*c = mode
			c.dst = &w
			c.take(fix)
		}); n > 0 {
			t.Errorf("%s: %v allocations", mode, n)
		}
	})
}
