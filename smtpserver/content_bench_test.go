package smtpserver

import (
	"bufio"
	"bytes"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// BenchmarkContent takes a megabyte in windows of 64 KiB. The metric x-textproto
// says how many times faster that is than net/textproto's DotReader on the same
// octets, which neither checks nor counts anything.
func BenchmarkContent(b *testing.B) {
	const size, header = 1 << 20, "Received: from a by b\r\nSubject: x\r\n\r\n"
	lines := func(line string) string { return strings.Repeat(line, size/len(line)) }
	text := strings.Repeat("x", 998)
	for _, bb := range []struct {
		name string
		body string
		c    content
	}{
		{name: "76", body: lines(text[:76] + "\r\n"), c: content{dotted: true}},
		{name: "998", body: lines(text + "\r\n"), c: content{dotted: true}},
		{name: "10", body: lines(text[:10] + "\r\n"), c: content{dotted: true}},
		{name: "dots", body: lines(".." + text[:75] + "\r\n"), c: content{dotted: true}},
		{name: "Fix", body: lines(text[:76] + "\n"), c: content{dotted: true, endings: Fix}},
		{name: "Allow", body: lines(text[:76] + "\n"), c: content{dotted: true, endings: Allow}},
		{name: "chunk", body: lines(text[:76] + "\r\n")},
		{name: "binary", body: lines("\x00\r" + text[:76] + "\n"), c: content{binary: true}},
		// What would be quadratic if the same octets were searched again and again.
		{name: "CRs", body: lines("\r"), c: content{dotted: true, endings: Fix}},
		{name: "LFs", body: lines("\n"), c: content{dotted: true, endings: Fix}},
		{name: "refused", body: lines("\r\r\r\r" + text[:2] + "\r\n"), c: content{dotted: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			in := []byte(header + bb.body)
			if !bytes.HasSuffix(in, crlf) {
				in = append(in, crlf...)
			}
			in = append(in, endMark...)
			bb.c.maxSize, bb.c.lineLength, bb.c.maxHops = 4*size, 998, 100
			reference := timeDotReader(b, in)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			begin := time.Now()
			for b.Loop() {
				c := bb.c
				c.dst = &discard{}
				takeWindows(b, &c, in)
			}
			each := time.Since(begin) / time.Duration(b.N)
			b.ReportMetric(float64(reference)/float64(each), "x-textproto")
		})
	}
}

// A discard has no methods but Write, as a spool.
type discard struct{ n int64 }

func (d *discard) Write(p []byte) (int, error) {
	d.n += int64(len(p))
	return len(p), nil
}

func takeWindows(b *testing.B, c *content, in []byte) {
	const windowSize = 64 << 10
	for len(in) > 0 {
		n, end := c.take(in[:min(len(in), windowSize)])
		if in = in[n:]; end && len(in) > 0 || n == 0 {
			b.Fatalf("%d octets are left, end is %v", len(in), end)
		}
	}
}

// timeDotReader returns the time that the reference takes on an average.
func timeDotReader(b *testing.B, in []byte) time.Duration {
	const times = 5
	src := bytes.NewReader(in)
	buf := bufio.NewReaderSize(src, 64<<10)
	begin := time.Now()
	for range times {
		src.Reset(in)
		buf.Reset(src)
		if _, err := io.Copy(&discard{}, textproto.NewReader(buf).DotReader()); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin) / times
}
