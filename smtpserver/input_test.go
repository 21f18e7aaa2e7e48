package smtpserver

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// chunkReader returns its pieces one by one.
type chunkReader [][]byte

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(*r) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*r)[0])
	if (*r)[0] = (*r)[0][n:]; len((*r)[0]) == 0 {
		*r = (*r)[1:]
	}
	return n, nil
}

func TestInputLines(t *testing.T) {
	text := "NOOP\r\n" + strings.Repeat("x", 5000) + "\r\n\r\nlast\n" + strings.Repeat("RSET\r\n", 20000)
	for name, src := range map[string]io.Reader{
		"at once":      strings.NewReader(text),
		"octets":       iotest.OneByteReader(strings.NewReader(text)),
		"halves":       iotest.HalfReader(strings.NewReader(text)),
		"with its end": iotest.DataErrReader(strings.NewReader(text)),
	} {
		in := input{src: src, shared: &buffers{}}
		begun := 0
		var got strings.Builder
		for {
			line, err := in.line(func() { begun++ })
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
			if n := bytes.IndexByte(line, '\n'); n != len(line)-1 {
				t.Fatalf("%s: line %q", name, line)
			}
			got.Write(line)
		}
		if got.String() != text {
			t.Errorf("%s: the lines are not the text", name)
		}
		if name == "octets" && begun == 0 {
			t.Error("nobody was told that lines had begun")
		}
		if len(in.buf) > lineBuffer {
			t.Errorf("%s: commands are read through %d octets", name, len(in.buf))
		}
	}
}

func TestInputLineTooLong(t *testing.T) {
	in := input{src: strings.NewReader(strings.Repeat("x", 2*lineBuffer)), shared: &buffers{}}
	if _, err := in.line(func() {}); !errors.Is(err, errLineTooLong) {
		t.Errorf("%v, want errLineTooLong", err)
	}
}

// TestInputBuffers: buffers grow with what comes at once, and only then.
func TestInputBuffers(t *testing.T) {
	src := chunkReader{[]byte("NOOP\r\n"), make([]byte, 4*contentBuffer), []byte("x"), []byte("NOOP\r\n"), []byte("NOOP\r\n")}
	in := input{src: &src, shared: &buffers{}}
	if _, err := in.line(func() {}); err != nil || len(in.buf) != idleBuffer {
		t.Fatalf("%d octets for a command, %v", len(in.buf), err)
	}
	for left := 4 * contentBuffer; left > 0; {
		if err := in.fill(contentBuffer); err != nil {
			t.Fatal(err)
		}
		left -= len(in.window())
		in.skip(len(in.window()))
	}
	if len(in.buf) != contentBuffer {
		t.Errorf("%d octets for much content", len(in.buf))
	}
	if err := in.fill(contentBuffer); err != nil || string(in.window()) != "x" {
		t.Fatalf("%q, %v", in.window(), err)
	}
	in.skip(1)
	if _, err := in.line(func() {}); err != nil || len(in.buf) != idleBuffer {
		t.Errorf("%d octets for a command behind much content, %v", len(in.buf), err)
	}
	in.release()
	if _, err := in.line(func() {}); err != nil {
		t.Errorf("behind release: %v", err)
	}
}

func TestInputNoProgress(t *testing.T) {
	in := input{src: iotest.TimeoutReader(iotest.ErrReader(nil)), shared: &buffers{}}
	if err := in.fill(lineBuffer); !errors.Is(err, io.ErrNoProgress) && !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("%v, want an end", err)
	}
}
