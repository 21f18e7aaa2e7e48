package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A dropSpool is a spool that accepts everything and keeps nothing, so that
// what is measured is reception alone. It says of all that it is stored.
type dropSpool struct {
	changed chan struct{}
}

func newDropSpool() *dropSpool { return &dropSpool{changed: make(chan struct{})} }

func (s *dropSpool) Create(context.Context, int64) (spool.Writer, error) {
	return &dropWriter{id: spool.NewID()}, nil
}

func (s *dropSpool) Claim(context.Context, spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	return nil, time.Time{}, nil
}

func (s *dropSpool) Apply(_ context.Context, units ...spool.Unit) []error {
	for _, u := range units {
		for _, c := range u {
			if w, ok := c.Stage.(*dropWriter); ok {
				stored(c.Entry, w.size)
			}
		}
	}
	return nil
}

func (s *dropSpool) Open(_ context.Context, body spool.ID) (spool.Body, error) {
	return nil, fmt.Errorf("bench: body %s was dropped: %w", body, spool.ErrNotFound)
}

func (s *dropSpool) Scan(context.Context, spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(func(*spool.Entry, error) bool) {}
}

func (s *dropSpool) Queues(context.Context) iter.Seq2[spool.QueueInfo, error] {
	return func(func(spool.QueueInfo, error) bool) {}
}

func (s *dropSpool) Changed() <-chan struct{} { return s.changed }
func (s *dropSpool) Health() error            { return nil }
func (s *dropSpool) Close() error             { return nil }

// stored sets what a spool sets.
func stored(e *spool.Entry, size int64) {
	e.Rev++
	e.Size = int64(len(e.Header)) + size - e.Skip
}

// A dropWriter counts.
type dropWriter struct {
	id   spool.ID
	size int64
}

func (w *dropWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	return len(p), nil
}

func (w *dropWriter) ID() spool.ID { return w.id }

func (w *dropWriter) Open() (spool.Body, error) {
	return nil, fmt.Errorf("bench: body %s was dropped: %w", w.id, spool.ErrNotFound)
}

func (w *dropWriter) Commit(_ context.Context, entries ...*spool.Entry) error {
	for _, e := range entries {
		stored(e, w.size)
	}
	return nil
}

func (w *dropWriter) Abort() error { return nil }
