package spool

import (
	"bytes"
	"errors"
	"io"
)

// copyPiece is how much of a body is in memory.
const copyPiece = 64 << 10

// A sourceError is an error of a body of src.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// stage copies a body of src to a Writer of dst.
func (c *copier) stage(body ID) (w Writer, size int64, err error) {
	b, err := c.open(c.src, body)
	if err != nil {
		return nil, 0, &sourceError{err}
	}
	defer b.Close()
	if w, err = c.create(b.Size()); err != nil {
		return nil, 0, err
	}
	if c.buf == nil {
		c.buf = make([]byte, copyPiece)
	}
	for {
		n, rerr := b.Read(c.buf)
		if _, err = w.Write(c.buf[:n]); err != nil {
			break
		}
		if size += int64(n); rerr == io.EOF {
			return w, size, nil
		}
		if err = c.ctx.Err(); rerr != nil {
			err = &sourceError{rerr}
		}
		if err != nil {
			break
		}
	}
	w.Abort()
	return nil, 0, err
}

// create is Create of dst, as soon as that is not busy.
func (c *copier) create(size int64) (w Writer, err error) {
	err = c.patiently(func() error {
		w, err = c.dst.Create(c.ctx, size)
		return err
	})
	return w, err
}

// open is Open of a spool, as soon as that is not busy.
func (c *copier) open(sp Spool, id ID) (b Body, err error) {
	err = c.patiently(func() error {
		b, err = sp.Open(c.ctx, id)
		return err
	})
	return b, err
}

// twin returns the copy of a body that dst has, with no ID if it has none. One
// that an earlier Copy made is compared first: a handler may have changed it.
func (c *copier) twin(body ID) (twin, error) {
	t := c.bodies[body]
	if t.id.IsZero() || t.proven {
		return t, nil
	}
	same, err := c.same(body, t.id)
	if t.proven = same; !same {
		t = twin{}
	}
	if err == nil {
		c.bodies[body] = t
	}
	return t, err
}

// same compares a body of src with one of dst.
func (c *copier) same(body, other ID) (bool, error) {
	b, err := c.open(c.src, body)
	if err != nil {
		return false, &sourceError{err}
	}
	defer b.Close()
	o, err := c.open(c.dst, other)
	if err != nil {
		return false, harmless(err)
	}
	defer o.Close()
	if b.Size() != o.Size() {
		return false, nil
	}
	if c.buf == nil {
		c.buf = make([]byte, copyPiece)
	}
	if c.buf2 == nil {
		c.buf2 = make([]byte, copyPiece)
	}
	for left := b.Size(); left > 0; {
		n := min(left, copyPiece)
		if _, err := io.ReadFull(b, c.buf[:n]); err != nil {
			return false, &sourceError{err}
		}
		if _, err := io.ReadFull(o, c.buf2[:n]); err != nil {
			return false, harmless(err)
		}
		if !bytes.Equal(c.buf[:n], c.buf2[:n]) {
			return false, nil
		}
		if err := c.ctx.Err(); err != nil {
			return false, err
		}
		left -= n
	}
	return true, nil
}

// harmless takes the errors away for which another copy of the body helps.
func harmless(err error) error {
	if _, damaged := errors.AsType[*CorruptError](err); damaged || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// unwhole reads a body of dst to its end, and returns its damage, nil for none. One
// that is gone is none: with its entry, or that has another by now.
func (c *copier) unwhole(body ID) (*CorruptError, error) {
	if broken, known := c.read[body]; known {
		return broken, nil
	}
	err := c.readThrough(body)
	broken, damaged := errors.AsType[*CorruptError](err)
	if err != nil && !damaged {
		return nil, err
	}
	c.read[body] = broken
	return broken, nil
}

func (c *copier) readThrough(body ID) error {
	b, err := c.open(c.dst, body)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer b.Close()
	if c.buf == nil {
		c.buf = make([]byte, copyPiece)
	}
	for {
		if _, err := b.Read(c.buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
	}
}
