package smtpserver

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// The sizes that the buffer of an input has: what an idle connection keeps, what
// a command line may need, and what content is read through.
const (
	idleBuffer    = 1 << 10
	lineBuffer    = 16 << 10 // RFC 4954, section 4, wants 12,288 octets for AUTH
	contentBuffer = 64 << 10
)

var errLineTooLong = errors.New("smtpserver: command line too long")

// buffers are shared by the inputs of a listener.
type buffers struct{ line, content sync.Pool }

// get returns a buffer of one of the larger sizes above.
func (b *buffers) get(size int) *[]byte {
	pool := b.pool(size)
	if buf, ok := pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, size)
	return &buf
}

// put takes a buffer back; nil is none.
func (b *buffers) put(buf *[]byte) {
	if buf != nil {
		b.pool(len(*buf)).Put(buf)
	}
}

func (b *buffers) pool(size int) *sync.Pool {
	if size == lineBuffer {
		return &b.line
	}
	return &b.content
}

// An input holds what was read from a client and not taken yet. Its buffer grows
// with what the client sends at once, and is given back when nothing is left, so
// that neither an idle client nor a slow one costs much.
type input struct {
	src    io.Reader
	shared *buffers
	idle   []byte  // kept for when nothing larger is needed
	large  *[]byte // what buf is otherwise, to be given back
	buf    []byte
	r, w   int
	filled bool // the last read took all the room that there was
}

// window returns what can be taken. It is valid until the next fill.
func (in *input) window() []byte { return in.buf[in.r:in.w] }

// skip takes n octets of the window.
func (in *input) skip(n int) {
	if in.r += n; in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// fill reads once. Without an error it adds at least one octet to the window,
// which must be shorter than largest, the size that the buffer may grow to.
func (in *input) fill(largest int) error {
	if in.buf == nil || in.filled || in.w-in.r == len(in.buf) {
		in.grow(largest)
	}
	if in.r > 0 {
		in.w = copy(in.buf, in.window())
		in.r = 0
	}
	in.filled = false
	for range 100 {
		n, err := in.src.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			in.filled = in.w == len(in.buf)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (in *input) grow(largest int) {
	for _, size := range []int{idleBuffer, lineBuffer, contentBuffer} {
		if size > len(in.buf) && size <= largest {
			in.resize(size)
			return
		}
	}
}

// reserve makes the buffer at least so large: one of the sizes above.
func (in *input) reserve(size int) {
	if len(in.buf) < size {
		in.resize(size)
	}
}

func (in *input) resize(size int) {
	old := in.large
	buf := in.idle
	if in.large = nil; size > idleBuffer {
		in.large = in.shared.get(size)
		buf = *in.large
	} else if buf == nil {
		buf = make([]byte, idleBuffer)
		in.idle = buf
	}
	w := copy(buf, in.window())
	in.shared.put(old)
	in.buf, in.r, in.w = buf, 0, w
}

// rest gives a larger buffer back if nothing is left in it.
func (in *input) rest() {
	if in.r == in.w && (len(in.buf) > lineBuffer || len(in.buf) > idleBuffer && !in.filled) {
		in.filled = false
		in.resize(idleBuffer)
	}
}

// release gives the buffer back for good.
func (in *input) release() {
	in.shared.put(in.large)
	in.large, in.buf, in.r, in.w = nil, nil, 0, 0
}

// line takes the next line with its LF. It is valid until the next fill. begun is
// called before each read that must complete a line.
func (in *input) line(begun func()) ([]byte, error) {
	for searched := 0; ; {
		p := in.window()
		if i := bytes.IndexByte(p[searched:], '\n'); i >= 0 {
			line := p[:searched+i+1]
			in.skip(len(line))
			return line, nil
		}
		if searched = len(p); searched >= lineBuffer {
			return nil, errLineTooLong
		}
		if searched == 0 {
			in.rest()
		} else {
			begun()
		}
		if err := in.fill(lineBuffer); err != nil {
			return nil, err
		}
	}
}
