package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	maxKeptBody    = 1 << 20  // bytes of a body, beyond which it is stored at once
	maxKeptEntries = 256      // of one body
	maxKeptBytes   = 64 << 20 // of all bodies with their entries
)

// ErrNotSaved is in the error of [Scheduler.Run] when messages that were accepted
// by [Transaction.Keep] could not be stored before it returned.
var ErrNotSaved = errors.New("queue: messages that were accepted in memory could not be saved")

// A keeper knows the bodies that were accepted and are not stored.
type keeper struct {
	mu struct {
		sync.Mutex
		open    bool // the scheduler runs and does not stop
		bodies  map[*keptBody]struct{}
		entries int
		bytes   int64
		failing int   // bodies that the spool did not take when it was last asked
		err     error // why, while failing is not 0
		saving  bool  // a task stores what no job waits for
	}
}

type keptState uint8

const (
	bodyKept      keptState = iota
	bodyUncertain           // the spool does not know whether it stored it
	bodyStored
	bodyLost // the scheduler ended first
)

// A keptBody is a body that was accepted without being stored, with the
// messages that refer to it. Its Writer is what keeps it.
type keptBody struct {
	bytes int64
	lock  chan struct{} // holds a token while somebody works on the five fields that follow

	writer spool.Writer
	state  keptState
	alive  []*spool.Entry // not done with
	idle   []*spool.Entry // of them, those that go back to the spool once it has them
	unit   spool.Unit     // what is being stored or is; it has clones of what was alive then

	// Guarded by keeper.mu:
	failing bool
	waiting bool // for the task that stores what no job waits for
	over    bool // the scheduler does not wait any longer
}

func newKeptBody(w spool.Writer, size int64, entries []*spool.Entry) *keptBody {
	b := &keptBody{bytes: size, lock: make(chan struct{}, 1), writer: w, alive: slices.Clone(entries)}
	for _, e := range entries {
		e.Size = int64(len(e.Header)) + size
		b.bytes += entrySize(e)
	}
	return b
}

// acquire waits for the lock as long as ctx stands. It is held while the spool
// stores the body, but not between two attempts at that.
func (b *keptBody) acquire(ctx context.Context) error {
	select {
	case b.lock <- struct{}{}:
		return nil
	default:
	}
	select {
	case b.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *keptBody) release() { <-b.lock }

// open reads the body, stored or not.
func (b *keptBody) open(ctx context.Context) (spool.Body, error) {
	if err := b.acquire(ctx); err != nil {
		return nil, err
	}
	defer b.release()
	return b.writer.Open()
}

// inserts is the unit that stores the body. It has clones, because the entries
// themselves belong to their jobs.
//
// It removes an entry that there never was, which does nothing but tell a spool
// that this is no new mail: its quota and its reserve of space are there to turn
// that away, and not what was accepted before it ran short.
func (b *keptBody) inserts() spool.Unit {
	unit := make(spool.Unit, 0, len(b.alive)+1)
	for _, e := range b.alive {
		unit = append(unit, spool.Change{Op: spool.Insert, Entry: e.Clone(), Stage: b.writer, Keep: true})
	}
	return append(unit, spool.Change{Op: spool.Remove, Entry: &spool.Entry{ID: spool.NewID()}})
}

// revise is adopt for those that do not hold the lock.
func (b *keptBody) revise(ctx context.Context, entries ...*spool.Entry) error {
	if err := b.acquire(ctx); err != nil {
		return err
	}
	defer b.release()
	b.adopt(entries...)
	return nil
}

// adopt tells entries of a stored body the revision at which they are owned.
func (b *keptBody) adopt(entries ...*spool.Entry) {
	for _, e := range entries {
		for _, c := range b.unit {
			if c.Entry.ID == e.ID {
				e.Rev, e.Size = c.Entry.Rev, c.Entry.Size
			}
		}
	}
}

// setOpen says whether bodies are kept.
func (k *keeper) setOpen(open bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.open = open
}

// add takes a body in, or says that it is to be stored at once.
func (k *keeper) add(b *keptBody) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.mu.open || k.mu.bytes+b.bytes > maxKeptBytes {
		return false
	}
	if k.mu.bodies == nil {
		k.mu.bodies = map[*keptBody]struct{}{}
	}
	k.mu.bodies[b] = struct{}{}
	k.mu.entries += len(b.alive)
	k.mu.bytes += b.bytes
	return true
}

// remove forgets a body that is stored or over. It reports whether the spool
// had refused bodies, and this was the last one of them.
func (k *keeper) remove(b *keptBody) (recovered bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.mu.bodies[b]; !ok {
		return false
	}
	delete(k.mu.bodies, b)
	k.mu.entries -= len(b.alive)
	k.mu.bytes -= b.bytes
	if b.failing {
		k.mu.failing--
		if k.mu.failing == 0 {
			k.mu.err = nil
			return true
		}
	}
	return false
}

// failed notes why a body could not be stored. It reports whether it is the
// first one.
func (k *keeper) failed(b *keptBody, err error) (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.err = err
	if b.failing {
		return false
	}
	b.failing = true
	k.mu.failing++
	return k.mu.failing == 1
}

// failure says why bodies are waiting to be stored; nil if none is.
func (k *keeper) failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.err == nil {
		return nil
	}
	return fmt.Errorf("queue: messages that were accepted in memory cannot be stored: %w", k.mu.err)
}

// next returns what a task is to store: what no job waits for, and at the stop
// of the scheduler everything. Without anything the task has ended.
func (k *keeper) next() (bodies []*keptBody) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.mu.bodies {
		if b.waiting || !k.mu.open {
			bodies = append(bodies, b)
		}
	}
	k.mu.saving = len(bodies) > 0
	return bodies
}

// begin reports whether a task is to be started that stores what no job waits
// for; b, if there is one, is such a body.
func (k *keeper) begin(b *keptBody) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b != nil {
		b.waiting = true
	}
	begin := !k.mu.saving && len(k.mu.bodies) > 0
	k.mu.saving = k.mu.saving || begin
	return begin
}

// end notes that the task has given up.
func (k *keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.saving = false
}

// rest returns what was not stored, and the last reason for that. Nobody waits
// for it any longer.
func (k *keeper) rest() ([]*keptBody, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.mu.bodies {
		b.over = true
	}
	return slices.Collect(maps.Keys(k.mu.bodies)), k.mu.err
}

func (k *keeper) counts() (entries, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return int64(k.mu.entries), k.mu.bytes
}

// entries returns clones of the messages that are in memory alone, or were so a
// moment ago, in the order of their IDs.
func (k *keeper) entries(ctx context.Context) (all []*spool.Entry, err error) {
	k.mu.Lock()
	bodies := slices.Collect(maps.Keys(k.mu.bodies))
	k.mu.Unlock()
	for _, b := range bodies {
		if err := b.acquire(ctx); err != nil { // whoever has it may write Rev and Size
			return nil, err
		}
		for _, e := range b.alive {
			all = append(all, e.Clone())
		}
		b.release()
	}
	slices.SortFunc(all, func(a, b *spool.Entry) int { return compareIDs(a.ID, b.ID) })
	return all, nil
}

// each calls f with every message that is in memory alone. f may read what never
// changes, and must not wait.
func (k *keeper) each(f func(e *spool.Entry)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.mu.bodies {
		for _, e := range b.alive {
			f(e)
		}
	}
}

// holder returns the body in memory of that message; nil if there is none.
func (k *keeper) holder(id spool.ID) *keptBody {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b := range k.mu.bodies {
		if slices.ContainsFunc(b.alive, func(e *spool.Entry) bool { return e.ID == id }) {
			return b
		}
	}
	return nil
}
