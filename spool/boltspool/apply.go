package boltspool

import (
	"context"
	"errors"
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A unit is a spool.Unit on its way through the committer.
type unit struct {
	changes []change
	grows   bool  // it needs new space: an insert or a body
	fresh   bool  // it neither changes nor ends what is stored: new mail
	growth  int64 // how many bytes it adds, at most
	invalid error // found before the committer saw it
	err     error // the outcome
}

// A change is a spool.Change with its record encoded.
type change struct {
	op    spool.Op
	entry *spool.Entry // of the caller, who waits: Rev and Size are set there
	stage *writer
	keep  bool
	rec   []byte

	size int64 // of the content, set by the committer
	old  brief // of Update and Remove
	was  int64 // bytes of the record that they replace
	gone bool  // a Remove of what is not stored
}

func (u *unit) settleStages(state stageState) {
	for i := range u.changes {
		if w := u.changes[i].stage; w != nil && w.state == staging {
			w.settle(state)
		}
	}
}

// Apply makes each unit durable, or nothing of it; see spool.Spool. It waits
// for the next group commit: one sync of the current segment, if bodies came,
// and one transaction of the index. Big bodies are synced before that, by the
// caller's goroutine. ctx counts until the committer takes the units up.
func (s *Spool) Apply(ctx context.Context, units ...spool.Unit) []error {
	if err := s.usable(); err != nil {
		return repeat(err, len(units))
	}
	r := &request{units: make([]unit, len(units)), done: make(chan struct{})}
	for i := range units {
		u := &r.units[i]
		u.invalid = s.prepare(u, units[i])
		r.changes += len(u.changes)
		for j := range u.changes {
			r.bytes += u.changes[j].bytes()
		}
	}
	if err := s.inbox.submit(ctx, r); err != nil {
		return repeat(err, len(units))
	}
	var errs []error
	for i := range r.units {
		if r.units[i].err == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(units))
		}
		errs[i] = r.units[i].err
	}
	return errs
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (c *change) bytes() int64 {
	n := int64(len(c.rec))
	if c.stage != nil && c.stage.big == nil {
		n += c.stage.size()
	}
	return n
}

// prepare checks what can be checked without the state of the spool, encodes
// the entries, and makes big bodies durable.
func (s *Spool) prepare(u *unit, su spool.Unit) error {
	u.changes, u.fresh = make([]change, len(su)), true
	var seen map[spool.ID]bool
	if len(su) > 1 {
		seen = make(map[spool.ID]bool, len(su))
	}
	for i := range su {
		c := &u.changes[i]
		if err := s.prepareChange(c, &su[i]); err != nil {
			u.changes = u.changes[:0]
			return err
		}
		u.grows = u.grows || c.op == spool.Insert || c.stage != nil
		if seen[c.entry.ID] {
			u.changes = u.changes[:0]
			return fmt.Errorf("boltspool: a unit names entry %s twice: want each at most once", su[i].Entry.ID)
		}
		if len(su) > 1 {
			seen[c.entry.ID] = true
		}
	}
	var last *writer
	for i := range u.changes {
		c := &u.changes[i]
		u.fresh = u.fresh && c.op == spool.Insert
		u.growth += int64(len(c.rec))
		if c.stage == nil {
			continue
		}
		if c.stage != last {
			u.growth += c.stage.size()
			last = c.stage
		}
		if err := c.stage.prepare(); err != nil {
			return s.writeError(err)
		}
	}
	return nil
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
	c.rec = appendRecord(make([]byte, 0, 512+len(e.Header)+len(e.Outcome)), e)
	if len(c.rec) > maxRecord {
		return fmt.Errorf("boltspool: entry %s takes %d bytes, of %d at most: %w", e.ID, len(c.rec), maxRecord, spool.ErrTooLarge)
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
