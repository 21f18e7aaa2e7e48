package boltspool

import (
	"context"
	"errors"
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
)

// A unit is a spool.Unit on its way through the committer.
type unit struct {
	changes []change
	block   []byte // the changes as they stand in the log
	grows   bool   // it needs new space: an insert or a body
	fresh   bool   // it neither changes nor ends what is stored: new mail
	growth  int64  // how many bytes it adds, at most
	memory  int64  // of that, bodies in memory
	invalid error  // found before the committer saw it
	err     error  // the outcome
}

// A change is a spool.Change with its record encoded.
type change struct {
	op     spool.Op
	entry  *spool.Entry // of the caller, who waits: Rev and Size are set there
	stage  *writer
	keep   bool
	at     int // where the record begins in the block of the unit
	length int // of the record

	// What the committer found out.
	old  shadow  // of Update, Remove and Release: the entry before
	body bodyUse // of Insert and Update
	size int64   // of the content
	gone bool    // a Remove of what is not stored
}

// puts reports whether the change stores an entry.
func (c *change) puts() bool { return c.op == spool.Insert || c.op == spool.Update }

func (u *unit) settleStages(state stageState) {
	for i := range u.changes {
		if w := u.changes[i].stage; w != nil && w.state == staging {
			w.settle(state)
		}
	}
}

// Apply makes each unit durable, or nothing of it; see spool.Spool. It waits
// for the next group commit, which is one sync of the log. Big bodies are synced
// before that, by the caller's goroutine. ctx counts until the committer takes
// the units up. While 4096 calls or 64 MiB are waiting, those that do nothing but
// insert are answered with spool.ErrBusy; while four times as much is, all are.
// Releases that no other unit precedes wait for nothing, unless the entry is being
// changed.
func (s *Spool) Apply(ctx context.Context, units ...spool.Unit) []error {
	if err := s.writable(); err != nil {
		return repeat(err, len(units))
	}
	if err := ctx.Err(); err != nil {
		return repeat(err, len(units))
	}
	n, errs := s.release(units)
	if n == len(units) {
		return errs
	}
	rest := s.commit(ctx, units[n:])
	switch {
	case rest == nil:
		return errs
	case errs == nil:
		errs = make([]error, len(units))
	}
	copy(errs[n:], rest)
	return errs
}

// commit has units applied by the committer, and waits for it.
func (s *Spool) commit(ctx context.Context, units []spool.Unit) []error {
	r := s.inbox.requests.get(len(units))
	for i := range units {
		u := &r.units[i]
		u.invalid = s.prepare(u, units[i])
		r.add(u)
	}
	if err := s.inbox.submit(ctx, r); err != nil {
		return repeat(err, len(units))
	}
	errs := r.errors()
	s.inbox.requests.put(r)
	return errs
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// prepare checks what can be checked without the state of the spool, encodes
// the changes, and makes big bodies durable.
func (s *Spool) prepare(u *unit, su spool.Unit) error {
	u.fresh = true
	if u.changes = u.changes[:0]; cap(u.changes) < len(su) {
		u.changes = make([]change, 0, len(su))
	}
	u.changes = u.changes[:len(su)]
	if err := s.prepareChanges(u, su); err != nil {
		u.changes, u.block = u.changes[:0], nil
		return err
	}
	var last *writer
	for i := range u.changes {
		c := &u.changes[i]
		u.fresh = u.fresh && c.op == spool.Insert
		u.grows = u.grows || c.op == spool.Insert || c.stage != nil
		u.growth += int64(c.length)
		if c.stage == nil {
			continue
		}
		if c.stage != last {
			last = c.stage
			u.growth += last.size()
			u.memory += int64(len(last.bytes()))
		}
		if err := c.stage.prepare(); err != nil {
			return s.writeError(err)
		}
	}
	return nil
}

func (s *Spool) prepareChanges(u *unit, su spool.Unit) error {
	var seen map[spool.ID]bool
	if len(su) > 1 {
		seen = make(map[spool.ID]bool, len(su))
	}
	for i := range su {
		c := &u.changes[i]
		if err := s.prepareChange(c, &su[i]); err != nil {
			return err
		}
		if seen[c.entry.ID] {
			return fmt.Errorf("boltspool: a unit names entry %s twice: want each at most once", c.entry.ID)
		}
		if len(su) > 1 {
			seen[c.entry.ID] = true
		}
	}
	return u.encode()
}

func (s *Spool) prepareChange(c *change, sc *spool.Change) error {
	e := sc.Entry
	if e == nil {
		return errors.New("boltspool: a change has no entry")
	}
	*c = change{op: sc.Op, entry: e, keep: sc.Keep}
	switch sc.Op {
	case spool.Remove, spool.Release:
		return nil
	case spool.Insert, spool.Update:
	default:
		return fmt.Errorf("boltspool: entry %s: unknown operation %d", e.ID, sc.Op)
	}
	if err := checkEntry(e); err != nil {
		return err
	}
	if sc.Stage != nil {
		w, ok := sc.Stage.(*writer)
		switch {
		case !ok || w.s != s:
			return fmt.Errorf("boltspool: entry %s: its Stage is of another spool", e.ID)
		case w.id != e.Body:
			return fmt.Errorf("boltspool: entry %s: its Body is %s, but its Stage is %s", e.ID, e.Body, w.id)
		case w.state == aborted:
			return fmt.Errorf("boltspool: entry %s: its Stage was aborted: %w", e.ID, spool.ErrNotFound)
		}
		c.stage = w
	}
	return nil
}

func checkEntry(e *spool.Entry) error {
	switch {
	case e.ID.IsZero():
		return errors.New("boltspool: entry without ID")
	case e.Queue == "":
		return fmt.Errorf("boltspool: entry %s has no Queue", e.ID)
	case e.Class == "":
		return fmt.Errorf("boltspool: entry %s has no Class", e.ID)
	case e.State > spool.Final:
		return fmt.Errorf("boltspool: entry %s has the unknown state %d", e.ID, e.State)
	case e.Skip < 0:
		return fmt.Errorf("boltspool: entry %s has the negative Skip %d", e.ID, e.Skip)
	}
	return nil
}

// maxUnit bounds what a unit takes in the log beside its bodies: it must fit in
// one segment.
const maxUnit = 1 << 30

// encode makes the block of a unit. The entries that it stores have most of what
// they say in common: the first is written in full, and of the others what
// differs.
func (u *unit) encode() error {
	var base *spool.Entry
	baseAt := 0
	b := u.block[:0]
	for i := range u.changes {
		c := &u.changes[i]
		switch c.op {
		case spool.Remove:
			b = record.AppendRemove(b, c.entry.ID)
		case spool.Insert, spool.Update:
			if len(b)-baseAt > record.MaxEntry/2 {
				base = nil // it would be too far away
			}
			if cap(b) == 0 {
				b = make([]byte, 0, 1<<10)
			}
			b, c.at = record.AppendPut(b, c.entry, base, baseAt)
			if c.length = len(b) - c.at; c.length > record.MaxEntry {
				return fmt.Errorf("boltspool: entry %s takes %d bytes, of %d at most: %w", c.entry.ID, c.length, record.MaxEntry, spool.ErrTooLarge)
			}
			if base == nil {
				base, baseAt = c.entry, c.at
			}
		}
		if len(b) > maxUnit {
			return fmt.Errorf("boltspool: the entries of one unit take more than %d bytes: %w", maxUnit, spool.ErrTooLarge)
		}
	}
	u.block = b
	return nil
}
