package spooltest_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A bent spool is whole, but for what its hooks do in the place of a method.
type bent struct {
	*spool.Memory
	hooks
}

// hooks take the place of methods. Those that are nil take no place.
type hooks struct {
	apply   func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error
	claim   func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error)
	open    func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error)
	scan    func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error]
	queues  func(ctx context.Context, m *spool.Memory) iter.Seq2[spool.QueueInfo, error]
	started func(m *spool.Memory, ids []spool.ID)
	health  func(m *spool.Memory) error
	create  func(m *spool.Memory, w spool.Writer)
	write   func(w spool.Writer, p []byte) (int, error)
	staged  func(w spool.Writer, b spool.Body) spool.Body // by Writer.Open
	abort   func(w spool.Writer) error
}

func (b *bent) memory() *spool.Memory { return b.Memory }

// whole returns what is bent.
func whole(s spool.Spool) *spool.Memory { return s.(interface{ memory() *spool.Memory }).memory() }

func (b *bent) Apply(ctx context.Context, units ...spool.Unit) []error {
	// The whole spool knows its own Writers only.
	units = slices.Clone(units)
	for i := range units {
		units[i] = slices.Clone(units[i])
		for j := range units[i] {
			if w, ok := units[i][j].Stage.(*bentWriter); ok {
				units[i][j].Stage = w.Writer
			}
		}
	}
	if b.apply != nil {
		return b.apply(ctx, b.Memory, units)
	}
	return b.Memory.Apply(ctx, units...)
}

func (b *bent) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	if b.claim != nil {
		return b.claim(ctx, b.Memory, req)
	}
	return b.Memory.Claim(ctx, req)
}

func (b *bent) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	if b.open != nil {
		return b.open(ctx, b.Memory, id)
	}
	return b.Memory.Open(ctx, id)
}

func (b *bent) Scan(ctx context.Context, q spool.Query) iter.Seq2[*spool.Entry, error] {
	if b.scan != nil {
		return b.scan(ctx, b.Memory, q)
	}
	return b.Memory.Scan(ctx, q)
}

func (b *bent) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	if b.queues != nil {
		return b.queues(ctx, b.Memory)
	}
	return b.Memory.Queues(ctx)
}

func (b *bent) Started(ids ...spool.ID) {
	if b.started != nil {
		b.started(b.Memory, ids)
		return
	}
	b.Memory.Started(ids...)
}

func (b *bent) Health() error {
	if b.health != nil {
		return b.health(b.Memory)
	}
	return b.Memory.Health()
}

func (b *bent) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := b.Memory.Create(ctx, size)
	if err != nil {
		return nil, err
	}
	if b.create != nil {
		b.create(b.Memory, w)
	}
	return &bentWriter{w, b}, nil
}

type bentWriter struct {
	spool.Writer
	b *bent
}

func (w *bentWriter) Write(p []byte) (int, error) {
	if w.b.write != nil {
		return w.b.write(w.Writer, p)
	}
	return w.Writer.Write(p)
}

func (w *bentWriter) Open() (spool.Body, error) {
	b, err := w.Writer.Open()
	if err == nil && w.b.staged != nil {
		b = w.b.staged(w.Writer, b)
	}
	return b, err
}

// Commit is the Apply that it stands for, so that one hook has both.
func (w *bentWriter) Commit(ctx context.Context, entries ...*spool.Entry) error {
	u := make(spool.Unit, len(entries))
	for i, e := range entries {
		u[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true}
	}
	if errs := w.b.Apply(ctx, u); errs != nil {
		return errs[0]
	}
	return nil
}

func (w *bentWriter) Abort() error {
	if w.b.abort != nil {
		return w.b.abort(w.Writer)
	}
	return w.Writer.Abort()
}

// only returns a bend without state.
func only(h hooks) func() hooks { return func() hooks { return h } }

// each calls do for each unit by itself.
func each(units []spool.Unit, do func(u spool.Unit) error) (errs []error) {
	failed := false
	for _, u := range units {
		err := do(u)
		errs = append(errs, err)
		failed = failed || err != nil
	}
	if !failed {
		return nil
	}
	return errs
}

// one applies one unit.
func one(ctx context.Context, m *spool.Memory, u spool.Unit) error {
	if errs := m.Apply(ctx, u); errs != nil {
		return errs[0]
	}
	return nil
}
