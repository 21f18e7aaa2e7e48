package spool_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A hooked spool does something else before, or in the place of, a method.
type hooked struct {
	*spool.Memory
	create func() error
	apply  func(units []spool.Unit) (errs []error, done bool)
	open   func(id spool.ID) error
	claim  func() error
	scan   func() error
	after  int // entries, scan is asked
	limit  int // of a body
	most   int // the longest Write
	staged int // Writers that were not aborted, be it without effect
}

func (h *hooked) Create(ctx context.Context, size int64) (spool.Writer, error) {
	if h.create != nil {
		if err := h.create(); err != nil {
			return nil, err
		}
	}
	w, err := h.Memory.Create(ctx, size)
	if err != nil {
		return nil, err
	}
	h.staged++
	return &hookedWriter{Writer: w, h: h}, nil
}

func (h *hooked) Apply(ctx context.Context, units ...spool.Unit) []error {
	units = slices.Clone(units)
	for i := range units {
		units[i] = slices.Clone(units[i])
		for j := range units[i] {
			if w, ok := units[i][j].Stage.(*hookedWriter); ok {
				units[i][j].Stage = w.Writer
			}
		}
	}
	if h.apply != nil {
		if errs, done := h.apply(units); done {
			return errs
		}
	}
	return h.Memory.Apply(ctx, units...)
}

func (h *hooked) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	if h.open != nil {
		if err := h.open(id); err != nil {
			return nil, err
		}
	}
	return h.Memory.Open(ctx, id)
}

func (h *hooked) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	if h.claim != nil {
		if err := h.claim(); err != nil {
			return nil, time.Time{}, err
		}
	}
	return h.Memory.Claim(ctx, req)
}

func (h *hooked) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(yield func(*spool.Entry, error) bool) {
		n := 0
		for e, err := range h.Memory.Scan(ctx, q) {
			if n == h.after && h.scan != nil {
				if err := h.scan(); err != nil {
					yield(nil, err)
					return
				}
			}
			if n++; !yield(e, err) {
				return
			}
		}
	}
}

type hookedWriter struct {
	spool.Writer
	h       *hooked
	written int
}

func (w *hookedWriter) Write(p []byte) (int, error) {
	w.h.most = max(w.h.most, len(p))
	if w.written += len(p); w.h.limit > 0 && w.written > w.h.limit {
		return 0, spool.ErrTooLarge
	}
	return w.Writer.Write(p)
}

func (w *hookedWriter) Abort() error {
	w.h.staged--
	return w.Writer.Abort()
}
