package boltspool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// A source is where a body is read from. readAt is safe for concurrent use and
// may return fewer bytes than asked for without an error, at the end io.EOF.
type source interface {
	readAt(p []byte, off int64) (int, error)
	len() int64
	close() error
}

// body is the spool.Body of every source.
type body struct {
	src    source
	off    int64
	closed sync.Once
}

func (b *body) Size() int64 { return b.src.len() }

func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.src.readAt(p, b.off)
	b.off += int64(n)
	return n, err
}

func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("boltspool: ReadAt: negative offset")
	}
	for n < len(p) && err == nil {
		var k int
		k, err = b.src.readAt(p[n:], off+int64(n))
		n += k
	}
	return n, err
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.off
	case io.SeekEnd:
		offset += b.Size()
	default:
		return 0, fmt.Errorf("boltspool: Seek: whence %d is none of io.SeekStart, io.SeekCurrent, io.SeekEnd", whence)
	}
	if offset < 0 {
		return 0, errors.New("boltspool: Seek: negative position")
	}
	b.off = offset
	return offset, nil
}

func (b *body) Close() error {
	err := os.ErrClosed
	b.closed.Do(func() { err = b.src.close() })
	return err
}

// memoryBody is a body that was read as a whole.
type memoryBody []byte

func (m memoryBody) readAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m)) {
		return 0, io.EOF
	}
	return copy(p, m[off:]), nil
}

func (m memoryBody) len() int64   { return int64(len(m)) }
func (m memoryBody) close() error { return nil }
