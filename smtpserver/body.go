package smtpserver

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// minDrain is how much of a refused message is read and thrown away at the
// least, so that the client sees the reply.
const minDrain = 1 << 20

// errDrained says that a refused message did not end within the bound.
var errDrained = errors.New("smtpserver: refused message did not end")

// A bodyReader takes the content of one message from the client, checks it
// line by line and passes it on.
type bodyReader struct {
	dst    io.Writer
	dotted bool // DATA: dot-stuffed and ended by a dot (RFC 5321, section 4.5.2)

	// Limits; zero means none.
	maxSize    int64
	lineLength int
	maxHops    int

	refusal error // the first thing that was wrong; nothing is passed on from then on
	size    int64 // of the content so far
	drained int64 // octets read since the refusal

	inLine     bool // the last segment ended inside a line
	lineLen    int  // octets of that line so far, without line ending
	pendingCR  bool // that segment ended with a CR, whose LF may follow
	afterCRLF  bool // the last line ended with CRLF; so does, as it were, the line before the first
	headerDone bool
	hops       int
}

// read takes the whole content from src. It returns nil once that is complete,
// however bad it was: b.refusal says so. An error means that the content did
// not arrive as a whole.
func (b *bodyReader) read(src *bufio.Reader) error {
	b.afterCRLF = true
	for {
		part, err := src.ReadSlice('\n')
		switch {
		case err == nil || err == bufio.ErrBufferFull:
		case err == io.EOF && !b.dotted:
			b.segment(part)
			if b.pendingCR {
				b.refuse(replyLineEnding)
			}
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
		if b.dotted && !b.inLine && b.afterCRLF && string(part) == ".\r\n" {
			return nil
		}
		b.segment(part)
		if b.refusal != nil && b.dotted {
			if b.drained += int64(len(part)); b.drained > max(b.maxSize, minDrain) {
				return errDrained
			}
		}
	}
}

// segment takes a line, or a part of one that is longer than the buffer.
func (b *bodyReader) segment(part []byte) {
	if len(part) == 0 || b.refusal != nil {
		b.follow(part)
		return
	}
	if !b.inLine {
		if b.dotted && part[0] == '.' && b.afterCRLF {
			part = part[1:]
		}
		b.lineStart(part)
	}
	b.check(part)
	if b.refusal == nil {
		if _, err := b.dst.Write(part); err != nil {
			b.refuse(err)
		}
	}
}

// follow keeps track of where lines end in what is thrown away, so that the end
// of the message is found.
func (b *bodyReader) follow(part []byte) {
	if len(part) == 0 {
		return
	}
	crlf := bytes.HasSuffix(part, []byte("\r\n")) || b.pendingCR && string(part) == "\n"
	b.inLine = part[len(part)-1] != '\n'
	b.pendingCR = part[len(part)-1] == '\r'
	b.afterCRLF = crlf
}

// check looks at the line endings and the length of the line, and at the size.
func (b *bodyReader) check(part []byte) {
	text, ended := bytes.CutSuffix(part, []byte("\r\n"))
	if b.pendingCR {
		if string(part) != "\n" {
			b.refuse(replyLineEnding)
		}
		text, ended = nil, true
	}
	b.follow(part)
	if b.pendingCR && len(text) > 0 {
		text = text[:len(text)-1] // judged with what follows
	}
	if !ended && !b.inLine || bytes.IndexByte(text, '\r') >= 0 {
		b.refuse(replyLineEnding)
	}
	b.lineLen += len(text)
	if b.lineLength > 0 && b.lineLen > b.lineLength {
		b.refuse(replyLineLength)
	}
	if !b.inLine {
		b.lineLen = 0
	}
	if b.size += int64(len(part)); b.maxSize > 0 && b.size > b.maxSize {
		b.refuse(replyTooLarge)
	}
}

// lineStart counts the Received fields of the header.
func (b *bodyReader) lineStart(line []byte) {
	const field = "received:"
	switch {
	case b.headerDone:
	case string(line) == "\r\n":
		b.headerDone = true
	case len(line) >= len(field) && bytes.EqualFold(line[:len(field)], []byte(field)):
		if b.hops++; b.maxHops > 0 && b.hops > b.maxHops {
			b.refuse(replyHops)
		}
	}
}

// refuse remembers the first thing that was wrong.
func (b *bodyReader) refuse(err error) {
	if b.refusal == nil {
		b.refusal = err
	}
}
