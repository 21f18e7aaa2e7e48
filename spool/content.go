package spool

import (
	"errors"
	"fmt"
	"io"
)

// Content returns the content of an entry as one Body: header, then body from
// offset skip on. It owns body and closes it.
func Content(header []byte, body Body, skip int64) Body {
	if len(header) == 0 && skip == 0 {
		return body
	}
	return &content{header: header, body: body, skip: min(skip, body.Size())}
}

type content struct {
	header []byte
	body   Body
	skip   int64
	off    int64
}

func (c *content) Size() int64 { return int64(len(c.header)) + c.body.Size() - c.skip }

func (c *content) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.readSome(p, c.off)
	c.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: ReadAt: negative offset")
	}
	done := 0
	for done < len(p) {
		n, err := c.readSome(p[done:], off+int64(done))
		done += n
		if err != nil {
			if err == io.EOF && done == len(p) {
				err = nil
			}
			return done, err
		}
	}
	return done, nil
}

// readSome reads from one of the two parts.
func (c *content) readSome(p []byte, off int64) (int, error) {
	if off < int64(len(c.header)) {
		return copy(p, c.header[off:]), nil
	}
	return c.body.ReadAt(p, off-int64(len(c.header))+c.skip)
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += c.off
	case io.SeekEnd:
		offset += c.Size()
	default:
		return 0, fmt.Errorf("spool: Seek: whence %d is none of io.SeekStart, io.SeekCurrent, io.SeekEnd", whence)
	}
	if offset < 0 {
		return 0, errors.New("spool: Seek: negative position")
	}
	c.off = offset
	return offset, nil
}

func (c *content) Close() error { return c.body.Close() }
