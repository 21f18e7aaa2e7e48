package spool

import (
	"context"
	"fmt"
	"time"
)

// Apply implements [Spool]. Units are applied in their order, each seeing what
// those before it did. It waits only as long as [Memory.SetDelay] says.
func (m *Memory) Apply(ctx context.Context, units ...Unit) (errs []error) {
	delay, err := m.takeUp(ctx)
	if err != nil {
		return sameError(err, len(units))
	}
	defer m.inFlight.Done()
	m.wait(delay)

	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.crashed {
		return sameError(ErrClosed, len(units))
	}
	errs = make([]error, len(units))
	failed := false
	for i, u := range units {
		if errs[i] = s.applyUnit(m, u); errs[i] != nil {
			failed = true
		}
	}
	if !failed {
		return nil
	}
	return errs
}

// takeUp is where the context of an Apply counts for the last time.
func (m *Memory) takeUp(ctx context.Context) (delay time.Duration, err error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	m.inFlight.Add(1)
	return m.store.faults.delay, nil
}

// wait is the time that a sync takes. The death of the process ends it.
func (m *Memory) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.gone:
	}
}

func sameError(err error, n int) []error {
	if n == 0 {
		return nil
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// applyUnit applies u whole, or nothing of it.
func (s *memStore) applyUnit(m *Memory, u Unit) error {
	if m.broken != nil { // while this waited, or by a unit before it
		return m.broken
	}
	if err := s.checkUnit(m, u); err != nil {
		return err
	}
	if durable(u) {
		switch s.faults.sync {
		case syncLost:
			s.fail()
			return ErrFailed
		case syncKept:
			s.changeAll(m, u)
			s.fail()
			return ErrFailed
		}
	}
	s.changeAll(m, u)
	for _, c := range u {
		if puts(c.Op) {
			stored := s.entries[c.Entry.ID]
			c.Entry.Rev, c.Entry.Size = stored.Rev, stored.Size
		}
	}
	return nil
}

// puts reports whether op stores an entry.
func puts(op Op) bool { return op == Insert || op == Update }

// durable reports whether u changes what a crash leaves.
func durable(u Unit) bool {
	for _, c := range u {
		if c.Op != Release {
			return true
		}
	}
	return false
}

// checkUnit says why u cannot be applied. It changes nothing.
func (s *memStore) checkUnit(m *Memory, u Unit) error {
	named := make(map[ID]bool, len(u))
	for _, c := range u {
		if err := checkForm(c); err != nil {
			return err
		}
		if named[c.Entry.ID] {
			return fmt.Errorf("spool: unit names entry %s twice: merge the changes into one", c.Entry.ID)
		}
		named[c.Entry.ID] = true
		if err := s.checkOwner(m, c); err != nil {
			return err
		}
		if puts(c.Op) {
			if err := s.checkBody(m, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkForm refuses what is wrong whatever is stored.
func checkForm(c Change) error {
	e := c.Entry
	switch {
	case e == nil:
		return fmt.Errorf("spool: change without an entry")
	case c.Op < Insert || c.Op > Release:
		return fmt.Errorf("spool: change of entry %s: op %d is none of Insert, Update, Remove, Release", e.ID, c.Op)
	case !puts(c.Op):
		return nil
	case e.ID.IsZero():
		return fmt.Errorf("spool: entry without an ID: set one by NewID")
	case e.Queue == "" || e.Class == "":
		return fmt.Errorf("spool: entry %s: queue %q, class %q: neither may be empty", e.ID, e.Queue, e.Class)
	case e.State > Final:
		return fmt.Errorf("spool: entry %s: state %d is none of Queued, Held, Final", e.ID, e.State)
	}
	return nil
}

// checkOwner refuses what the stored entry does not allow.
func (s *memStore) checkOwner(m *Memory, c Change) error {
	stored := s.entries[c.Entry.ID]
	switch {
	case c.Op == Insert:
		if stored != nil {
			return fmt.Errorf("%w: %s", ErrExists, c.Entry.ID)
		}
	case c.Op == Remove && stored == nil:
	case stored == nil:
		return fmt.Errorf("%w: %s is not stored", ErrFenced, c.Entry.ID)
	case stored.owner != m || stored.Rev != c.Entry.Rev:
		return fmt.Errorf("%w: %s at %d", ErrFenced, c.Entry.ID, c.Entry.Rev)
	}
	return nil
}

// checkBody refuses an entry whose body is not there or cannot be stored.
func (s *memStore) checkBody(m *Memory, c Change) error {
	e := c.Entry
	var size int64
	staged := false
	if c.Stage != nil {
		w, ok := c.Stage.(*memWriter)
		if !ok || w.owner != m {
			return fmt.Errorf("spool: entry %s: the stage was not created by this Spool", e.ID)
		}
		if w.id != e.Body {
			return fmt.Errorf("spool: entry %s: refers to body %s, but its stage is %s", e.ID, e.Body, w.id)
		}
		if w.aborted {
			return fmt.Errorf("%w: entry %s: its stage was aborted", ErrNotFound, e.ID)
		}
		staged = !w.committed
		size = int64(len(w.data))
	}
	if !staged {
		b := s.bodies[e.Body]
		if b == nil {
			return fmt.Errorf("%w: entry %s refers to body %s", ErrNotFound, e.ID, e.Body)
		}
		size = int64(len(b.data))
	}
	if e.Skip < 0 || e.Skip > size {
		return fmt.Errorf("spool: entry %s: skip %d is not within the %d bytes of its body", e.ID, e.Skip, size)
	}
	if s.faults.full && (c.Op == Insert || staged) {
		return ErrFull
	}
	return nil
}

// changeAll carries out a unit that was checked.
func (s *memStore) changeAll(m *Memory, u Unit) {
	// New references come first: the body of an entry that this unit removes
	// may live on in another.
	for _, c := range u {
		if puts(c.Op) {
			s.refer(c)
		}
	}
	hint := false
	for _, c := range u {
		switch c.Op {
		case Release:
			e := s.entries[c.Entry.ID]
			e.owner = nil
			s.index.settle(e)
			hint = true
		case Remove:
			s.remove(c.Entry.ID)
		default:
			s.put(m, c)
			hint = hint || !c.Keep && c.Entry.State != Held
		}
	}
	if hint {
		s.hint()
	}
}

// refer counts a reference to the body of c, and stores it if c brings it.
func (s *memStore) refer(c Change) {
	if w, ok := c.Stage.(*memWriter); ok && !w.committed {
		w.committed = true
		s.bodies[w.id] = &memBody{id: w.id, data: w.exact()}
	}
	s.bodies[c.Entry.Body].refs++
}

// put stores a clone of the entry of c in the place of what was there.
func (s *memStore) put(m *Memory, c Change) {
	s.remove(c.Entry.ID)
	e := c.Entry.Clone()
	// Stored times have no monotonic reading.
	e.Due, e.Received, e.Expires = e.Due.Round(0), e.Received.Round(0), e.Expires.Round(0)
	s.rev++
	e.Rev = s.rev
	body := s.bodies[e.Body]
	e.Size = int64(len(e.Header)) + int64(len(body.data)) - e.Skip
	stored := &memEntry{Entry: e, body: body}
	if c.Keep {
		stored.owner = m
	}
	s.entries[e.ID] = stored
	s.index.add(stored)
}

// remove deletes an entry, if it is stored, and its body with the last one.
func (s *memStore) remove(id ID) {
	e := s.entries[id]
	if e == nil {
		return
	}
	s.index.drop(e)
	delete(s.entries, id)
	e.body.refs--
	if e.body.refs == 0 {
		delete(s.bodies, e.body.id)
	}
}
