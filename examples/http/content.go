package main

import (
	"bufio"
	"io"
)

// maxLine is how long a line may be, without its end (RFC 5322, section 2.1.1).
const maxLine = 998

// A contentError says what no mail may have, and what the next host would refuse.
type contentError string

func (e contentError) Error() string { return "the message has " + string(e) }

// content reads a message: it ends lines with CRLF, as mail has them, and looks at what
// passes.
type content struct {
	r      *bufio.Reader
	last   byte
	length int  // of the line so far
	body   bool // the header is over
	held   bool // a line feed that waits for room

	eightBit   bool // there are octets beyond ASCII
	utf8Header bool // and some are in the header
}

func newContent(r io.Reader) *content { return &content{r: bufio.NewReader(r)} }

func (c *content) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if c.held {
			p[n], c.held = '\n', false
			n++
			continue
		}
		if n > 0 && c.r.Buffered() == 0 {
			return n, nil
		}
		b, err := c.r.ReadByte()
		if err == io.EOF && c.last == '\r' {
			err = errLoneCR
		}
		if err == nil {
			err = c.look(b)
		}
		if err != nil {
			return n, err
		}
		if b == '\n' && c.last != '\r' {
			p[n], c.held = '\r', true
		} else {
			p[n] = b
		}
		n++
		c.last = b
	}
	return n, nil
}

const errLoneCR = contentError("a carriage return that ends no line")

// look takes note of one octet, behind c.last.
func (c *content) look(b byte) error {
	switch {
	case b == '\n':
		c.body = c.body || c.length == 0
		c.length = 0
		return nil
	case c.last == '\r':
		return errLoneCR
	case b == '\r':
		return nil
	case b == 0:
		return contentError("a NUL")
	case b >= 0x80:
		c.eightBit = true
		c.utf8Header = c.utf8Header || !c.body
	}
	if c.length++; c.length > maxLine {
		return contentError("a line of more than 998 octets")
	}
	return nil
}
