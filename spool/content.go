package spool

import "io"

// Content returns the content of an entry as one Body: header, then body from
// offset skip on. It owns body and closes it.
func Content(header []byte, body Body, skip int64) Body {
	if len(header) == 0 && skip == 0 {
		return body
	}
	parts := &parts{header: header, body: body, skip: min(skip, body.Size())}
	return &content{io.NewSectionReader(parts, 0, parts.size()), body}
}

// content reads the parts as one.
type content struct {
	*io.SectionReader
	body Body
}

func (c *content) Close() error { return c.body.Close() }

// parts are the header and what of the body follows it.
type parts struct {
	header []byte
	body   Body
	skip   int64
}

func (p *parts) size() int64 { return int64(len(p.header)) + p.body.Size() - p.skip }

func (p *parts) ReadAt(b []byte, off int64) (n int, err error) {
	if front := int64(len(p.header)); off < front {
		n = copy(b, p.header[off:])
		if n == len(b) {
			return n, nil
		}
	}
	m, err := p.body.ReadAt(b[n:], off+int64(n)-int64(len(p.header))+p.skip)
	return n + m, err
}
