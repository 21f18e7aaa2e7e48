package queue

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A ledger is a spool that knows what became of every body that was staged, and
// that answers as it is told to.
type ledger struct {
	*spool.Memory
	mu       sync.Mutex
	staged   map[spool.ID]bool // neither committed nor aborted
	inserted map[spool.ID]bool // entries
	answer   func() (do bool, err error)
}

func newLedger(m *spool.Memory) *ledger {
	return &ledger{Memory: m, staged: map[spool.ID]bool{}, inserted: map[spool.ID]bool{}}
}

type ledgerWriter struct {
	spool.Writer
	l *ledger
}

func (l *ledger) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := l.Memory.Create(ctx, size)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.staged[w.ID()] = true
	return &ledgerWriter{w, l}, nil
}

func (w *ledgerWriter) Abort() error {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	delete(w.l.staged, w.ID())
	return w.Writer.Abort()
}

func (w *ledgerWriter) Commit(ctx context.Context, entries ...*spool.Entry) error {
	unit := make(spool.Unit, len(entries))
	for i, e := range entries {
		unit[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true}
	}
	if errs := w.l.Apply(ctx, unit); errs != nil {
		return errs[0]
	}
	return nil
}

func (l *ledger) Apply(ctx context.Context, units ...spool.Unit) (errs []error) {
	failed := false
	for _, u := range units {
		err := l.apply(ctx, u)
		errs = append(errs, err)
		failed = failed || err != nil
	}
	if !failed {
		return nil
	}
	return errs
}

func (l *ledger) apply(ctx context.Context, u spool.Unit) error {
	inner := make(spool.Unit, len(u))
	inserts := false
	for i, c := range u {
		if w, ok := c.Stage.(*ledgerWriter); ok {
			c.Stage = w.Writer
		}
		inserts = inserts || c.Op == spool.Insert
		inner[i] = c
	}
	var answer error
	l.mu.Lock()
	script := l.answer
	l.mu.Unlock()
	if inserts && script != nil {
		do, err := script()
		if !do && err != nil {
			return err
		}
		if answer = err; err != nil { // the caller does not learn what was done
			for i := range inner {
				inner[i].Entry = inner[i].Entry.Clone()
			}
		}
	}
	if errs := l.Memory.Apply(ctx, inner); errs != nil {
		return errs[0]
	}
	l.note(u)
	return answer
}

func (l *ledger) note(u spool.Unit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range u {
		if c.Stage != nil {
			delete(l.staged, c.Stage.ID())
		}
		if c.Op == spool.Insert {
			l.inserted[c.Entry.ID] = true
		}
	}
}

func (l *ledger) script(answer func() (do bool, err error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

// stored reports whether that entry ever was.
func (l *ledger) stored(id spool.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inserted[id]
}

// insertions counts the entries that were ever stored.
func (l *ledger) insertions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inserted)
}

// A keptWorld is a world whose messages are kept.
type keptWorld struct {
	*world
	ledger *ledger
}

// startKept starts a scheduler on a ledger. When the test is over nothing may be
// left in memory, nor a body that is neither stored nor aborted.
func startKept(t *testing.T, inject Handler, c setup) *keptWorld {
	t.Helper()
	if c.sp == nil {
		c.sp = spool.NewMemory()
	}
	l := newLedger(c.sp)
	c.wrap = func(*spool.Memory) spool.Spool { return l }
	w := &keptWorld{start(t, inject, c), l}
	synctest.Wait()
	t.Cleanup(func() {
		w.shutdown()
		synctest.Wait()
		w.wantEmpty()
	})
	return w
}

func (w *keptWorld) wantEmpty() {
	w.t.Helper()
	k := &w.sched.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.entries != 0 || k.mu.bytes != 0 || len(k.mu.bodies) != 0 || k.mu.failing != 0 || k.mu.err != nil || k.mu.saving {
		w.t.Errorf("left in memory: %+v", k.mu.bodies)
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	if n := len(w.ledger.staged); n != 0 {
		w.t.Errorf("%d bodies are neither stored nor aborted", n)
	}
}

// accept takes a body for these recipients in by Keep, and hands it over.
func (w *keptWorld) accept(rcpts ...string) []*spool.Entry {
	w.t.Helper()
	tx, entries := w.keep(rcpts...)
	tx.HandOver()
	tx.Abort()
	synctest.Wait()
	return entries
}

func (w *keptWorld) keep(rcpts ...string) (*Transaction, []*spool.Entry) {
	w.t.Helper()
	tx, entries, err := w.tryKeep(mail, rcpts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return tx, entries
}

func (w *keptWorld) tryKeep(body string, rcpts ...string) (*Transaction, []*spool.Entry, error) {
	tx, err := w.sched.Begin(context.Background(), 0)
	if err != nil {
		return nil, nil, err
	}
	if _, err := tx.Write([]byte(body)); err != nil {
		tx.Abort()
		return nil, nil, err
	}
	var entries []*spool.Entry
	for _, rcpt := range rcpts {
		entries = append(entries, &spool.Entry{ID: spool.NewID(), Header: []byte("X-Trace: 1\r\n"),
			Envelope: spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: rcpt}}}})
	}
	if err := tx.Keep(context.Background(), entries...); err != nil {
		tx.Abort()
		return nil, nil, err
	}
	return tx, entries, nil
}
