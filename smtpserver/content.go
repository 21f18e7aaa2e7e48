package smtpserver

import (
	"bytes"
	"io"
	"math"
	"strings"
)

const (
	// endMark ends the content of DATA where it stands behind CRLF, or at once.
	endMark = ".\r\n"

	// maxHeld is the size of a window from which take takes something in any case.
	maxHeld = len(endMark)

	// minExcess is how much of a refused message is read and thrown away at the
	// least, so that the client sees the reply.
	minExcess = 1 << 20

	// maxPlain is how much plain looks at in one go: it passes twice over it, the
	// second time out of the processor's nearest cache.
	maxPlain = 16 << 10
)

// Line endings as they are written. Nobody changes them.
var (
	crlf     = []byte("\r\n")
	lineFeed = crlf[1:]
)

// A content takes the octets of one message, checks them and passes them on, in
// runs as long as possible. It takes them in pieces of any size: what comes out
// and what is refused does not depend on where the pieces end.
//
// A line ends with LF, under Fix also with a CR that has no LF behind it. The CR
// of CRLF is not part of it, every other octet is. Its length and the number of
// Received fields are judged on those lines. Where several limits are broken the
// refusal is about the octet that came first, and then about the size, the line
// ending, the line length and the hops, in this order.
//
// It is not safe for concurrent use.
type content struct {
	dst     io.Writer   // the spool
	dotted  bool        // DATA: dot-stuffed and ended by endMark (RFC 5321, section 4.5.2)
	binary  bool        // BODY=BINARYMIME: only size and hops count (RFC 3030, section 3)
	endings LineEndings // anything but Allow and Fix denies

	// Limits; zero means none.
	maxSize    int64 // of the message as it was received, without stuffed dots
	lineLength int   // without the line ending
	maxHops    int

	refusal error // the first thing that was wrong; nothing is passed on from then on
	size    int64 // octets so far, refused ones too, as maxSize counts them
	refused int64 // octets taken since the refusal

	inLine  bool // the last octets were not CRLF: a dot is a dot
	cr      bool // the last octet was a CR, and the next one says what it means
	lineLen int  // octets of the line so far
	header  hopCounter
}

// A window is the piece that is looked at.
type window struct {
	p      []byte
	from   int // p[from:at] was looked at and is not yet passed on
	at     int
	cr, lf int // where the next CR and LF are, if not in front of at; len(p) if there is none
	rough  int // in front of this there is something that plain does not take
}

// take consumes from the front of p and says how much, and under DATA whether
// the end of data was the last of it; nothing behind the end is consumed. It
// consumes all but a possible beginning of endMark, which the caller presents
// again with more behind it; without dotted it consumes all of p. It blocks as
// dst.Write does, retains nothing of p and does not change it.
func (c *content) take(p []byte) (n int, end bool) {
	late := c.refusal != nil
	w := window{p: p, cr: -1, lf: -1}
	held := false
	for w.at < len(p) && !end && !held {
		switch {
		case c.cr:
			c.afterCR(&w)
		case c.dotted && !c.inLine && p[w.at] == '.':
			end, held = c.dot(&w)
		case !c.plain(&w):
			c.next(&w)
		}
	}
	c.pass(p[w.from:w.at])
	if end {
		w.at += len(endMark)
	}
	if late {
		c.refused += int64(w.at)
	}
	return w.at, end
}

// finish is the end of content that is not dotted. rest is what take has left;
// such content need not end with CRLF.
func (c *content) finish(rest []byte) {
	c.take(rest)
	if c.cr {
		c.bareCR(&window{})
	}
	if c.lineLen > 0 {
		c.lineEnd()
	}
}

// excess reports whether a refused message has gone on for so long that the
// connection is given up.
func (c *content) excess() bool { return c.refused > max(c.maxSize, minExcess) }

// dot takes a dot behind CRLF: it is the end of data, may become it, or is
// taken away.
func (c *content) dot(w *window) (end, held bool) {
	rest := w.p[w.at:min(w.at+len(endMark), len(w.p))]
	switch {
	case string(rest) == endMark:
		return true, false
	case strings.HasPrefix(endMark, string(rest)):
		return false, true
	}
	c.pass(w.p[w.from:w.at])
	w.at++
	w.from = w.at
	c.inLine = true
	return false, false
}

// plain takes what needs no closer look: lines behind the header that end with
// CRLF, have no other CR or LF, no dot in front, and keep within the limits. It
// says whether there were any. Binary content behind the header is one such.
func (c *content) plain(w *window) bool {
	if !c.header.done || c.lineLen > 0 || w.at < w.rough {
		return false
	}
	p := w.p[w.at:]
	n, ok := len(p), true
	if !c.binary || c.dotted {
		n, ok = c.plainLines(p)
	}
	switch {
	case n == 0:
		w.rough = w.find('\n', &w.lf) + 1
		return false
	case !ok, c.refusal == nil && c.maxSize > 0 && int64(n) > c.maxSize-c.size:
		w.rough = w.at + n
		return false
	}
	c.size += int64(n)
	c.inLine = false
	w.at += n
	return true
}

// plainLines says how far p is plain lines, and whether it is true that no other
// CR stands in them.
func (c *content) plainLines(p []byte) (n int, ok bool) {
	longest := c.lineRoom()
	lines := 0
	for n < min(len(p), maxPlain) && (p[n] != '.' || !c.dotted) {
		lf := bytes.IndexByte(p[n:], '\n')
		if lf < 1 || p[n+lf-1] != '\r' || lf-1 > longest {
			break
		}
		n += lf + 1
		lines++
	}
	return n, bytes.Count(p[:n], crlf[:1]) == lines
}

// next takes the text up to the next CR or LF, and that.
func (c *content) next(w *window) {
	stop := min(w.find('\r', &w.cr), w.find('\n', &w.lf))
	c.text(w.p[w.at:stop])
	w.at = stop
	switch {
	case stop == len(w.p):
		return
	case w.p[stop] == '\r':
		c.count(1)
		c.cr = true
	default:
		c.bareLF(w)
	}
	w.at++
	c.inLine = true
}

// find returns where the next b is. It remembers it in known, so that all calls
// together pass once over the window.
func (w *window) find(b byte, known *int) int {
	if *known < w.at {
		*known = len(w.p)
		if i := bytes.IndexByte(w.p[w.at:], b); i >= 0 {
			*known = w.at + i
		}
	}
	return *known
}

// text takes octets of a line that are neither CR nor LF.
func (c *content) text(p []byte) {
	if len(p) == 0 {
		return
	}
	c.inLine = true
	// Of two limits the one that is reached first is what is wrong.
	if room := c.lineRoom(); len(p) > room {
		c.count(room + 1)
		c.refuse(replyLineLength)
		c.count(len(p) - room - 1)
	} else {
		c.count(len(p))
	}
	c.lineLen += len(p)
	if !c.header.done {
		c.header.text(p)
	}
}

// lineRoom returns how many octets the line may still get.
func (c *content) lineRoom() int {
	if c.lineLength == 0 || c.binary {
		return math.MaxInt
	}
	return max(c.lineLength-c.lineLen, 0)
}

// afterCR takes the octet behind a CR if that is LF. If not, the CR stood alone.
func (c *content) afterCR(w *window) {
	if w.p[w.at] != '\n' {
		c.bareCR(w)
		return
	}
	c.cr = false
	c.count(1)
	c.lineEnd()
	c.inLine = false
	w.at++
}

// bareCR is told of a CR in front of w.at, when it is known that no LF follows.
func (c *content) bareCR(w *window) {
	c.cr = false
	if !c.binary && c.endings == Fix {
		c.pass(w.p[w.from:w.at])
		w.from = w.at
		c.pass(lineFeed)
		c.lineEnd()
		return
	}
	c.denyEnding()
	if c.lineRoom() == 0 {
		c.refuse(replyLineLength)
	}
	c.lineLen++
	if !c.header.done {
		c.header.text(crlf[:1])
	}
}

// bareLF is told of an LF at w.at that has no CR in front.
func (c *content) bareLF(w *window) {
	c.count(1)
	if !c.binary && c.endings == Fix {
		c.pass(w.p[w.from:w.at])
		w.from = w.at + 1
		c.pass(crlf)
	} else {
		c.denyEnding()
	}
	c.lineEnd()
}

func (c *content) denyEnding() {
	if !c.binary && c.endings != Allow {
		c.refuse(replyLineEnding)
	}
}

// lineEnd says that the line is complete.
func (c *content) lineEnd() {
	if !c.header.done {
		c.header.lineEnd(c.lineLen == 0)
		if c.maxHops > 0 && c.header.n > c.maxHops {
			c.refuse(replyHops)
		}
	}
	c.lineLen = 0
}

// count adds octets to the size.
func (c *content) count(n int) {
	c.size += int64(n)
	if c.maxSize > 0 && c.size > c.maxSize {
		c.refuse(replyTooLarge)
	}
}

// pass writes p unless something was wrong.
func (c *content) pass(p []byte) {
	if c.refusal != nil || len(p) == 0 {
		return
	}
	if _, err := c.dst.Write(p); err != nil {
		c.refuse(err)
	}
}

// refuse remembers the first thing that was wrong.
func (c *content) refuse(err error) {
	if c.refusal == nil {
		c.refusal = err
	}
}
