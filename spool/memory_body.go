package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

var errChecksum = errors.New("checksum does not match")

// A memWriter stages a body. Its data only grows, so that what Open returned
// keeps its bytes.
type memWriter struct {
	owner     *Memory
	id        ID
	data      []byte
	committed bool
	aborted   bool
}

func (w *memWriter) ID() ID { return w.id }

func (w *memWriter) Write(p []byte) (int, error) {
	m := w.owner
	m.store.mu.Lock()
	err := m.stageable(context.Background())
	m.store.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := w.open("Write"); err != nil {
		return 0, err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

// open says why nothing can be added to the stage, nil if it can.
func (w *memWriter) open(method string) error {
	switch {
	case w.committed:
		return fmt.Errorf("spool: %s: body %s was committed", method, w.id)
	case w.aborted:
		return fmt.Errorf("spool: %s: body %s was aborted", method, w.id)
	}
	return nil
}

func (w *memWriter) Open() (Body, error) {
	m := w.owner
	m.store.mu.Lock()
	err := m.readable(context.Background())
	m.store.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if w.aborted {
		return nil, w.open("Open")
	}
	return newMemReader(w.data, nil), nil
}

func (w *memWriter) Commit(ctx context.Context, entries ...*Entry) error {
	if len(entries) == 0 {
		return fmt.Errorf("spool: Commit: body %s: no entry refers to it", w.id)
	}
	u := make(Unit, len(entries))
	for i, e := range entries {
		u[i] = Change{Op: Insert, Entry: e, Stage: w, Keep: true}
	}
	if errs := w.owner.Apply(ctx, u); errs != nil {
		return errs[0]
	}
	return nil
}

func (w *memWriter) Abort() error {
	if !w.committed {
		w.aborted = true
		w.data = nil
	}
	return nil
}

// exact returns the data without what its growth left unused.
func (w *memWriter) exact() []byte {
	if unused := cap(w.data) - len(w.data); unused > len(w.data)/4 {
		w.data = bytes.Clone(w.data)
	}
	return w.data
}

// corrupt returns the error that reports the damage of b.
func (b *memBody) corrupt() error {
	return &CorruptError{ID: b.id, Part: "body", Err: errChecksum}
}

// A memReader reads a body, stored or staged.
type memReader struct {
	r      *bytes.Reader
	stored *memBody // nil: staged
	closed atomic.Bool
}

func newMemReader(data []byte, stored *memBody) *memReader {
	return &memReader{r: bytes.NewReader(data), stored: stored}
}

var errBodyClosed = errors.New("spool: body was closed")

// readable says why nothing is read, nil if it is.
func (b *memReader) readable() error {
	if b.closed.Load() {
		return errBodyClosed
	}
	if b.stored != nil && b.stored.damaged.Load() {
		return b.stored.corrupt()
	}
	return nil
}

func (b *memReader) Size() int64 { return b.r.Size() }

func (b *memReader) Read(p []byte) (int, error) {
	if err := b.readable(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b *memReader) ReadAt(p []byte, off int64) (int, error) {
	if err := b.readable(); err != nil {
		return 0, err
	}
	return b.r.ReadAt(p, off)
}

// WriteTo spares io.Copy its buffer.
func (b *memReader) WriteTo(w io.Writer) (int64, error) {
	if err := b.readable(); err != nil {
		return 0, err
	}
	return b.r.WriteTo(w)
}

func (b *memReader) Seek(offset int64, whence int) (int64, error) {
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	return b.r.Seek(offset, whence)
}

func (b *memReader) Close() error {
	b.closed.Store(true)
	return nil
}
