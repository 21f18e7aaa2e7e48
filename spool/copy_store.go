package spool

import (
	"context"
	"errors"
	"fmt"
)

// A batch is one unit of dst: the entries of one body.
type batch struct {
	body    ID // in src
	entries []*Entry
	unit    Unit
	stage   Writer // nil: dst has the body
	size    int64  // of the body, if stage brings it
}

// store inserts entries that dst does not have. It returns those that are to be
// looked at once more.
func (c *copier) store(entries []*Entry, try int) (again []*Entry, err error) {
	var batches []*batch
	staged := int64(0)
	flush := func() error {
		more, err := c.insert(batches, try)
		again = append(again, more...)
		batches, staged = nil, 0
		return err
	}
	for _, b := range byBody(entries) {
		more, err := c.prepare(b, try)
		again = append(again, more...)
		if err != nil {
			ferr := flush() // what was staged before it is as good as ever
			return again, errors.Join(err, ferr)
		}
		if b.unit == nil {
			continue
		}
		batches = append(batches, b)
		if staged += b.size; staged >= copyStaged {
			if err := flush(); err != nil {
				return again, err
			}
		}
	}
	return again, flush()
}

// byBody sorts entries by their body, in the order in which these come first.
func byBody(entries []*Entry) (batches []*batch) {
	places := make(map[ID]*batch)
	for _, e := range entries {
		b := places[e.Body]
		if b == nil {
			b = &batch{body: e.Body}
			places[e.Body] = b
			batches = append(batches, b)
		}
		b.entries = append(b.entries, e)
	}
	return batches
}

// prepare makes the unit of a batch. It has none if its entries are left, or to
// be looked at again.
func (c *copier) prepare(b *batch, try int) (again []*Entry, err error) {
	t, err := c.twin(b.body)
	if err == nil && t.id.IsZero() {
		b.stage, b.size, err = c.stage(b.body)
	}
	switch bad := (*sourceError)(nil); {
	case errors.As(err, &bad):
		return c.unreadable(b, bad.err, try)
	case errors.Is(err, ErrTooLarge):
		c.leave(fmt.Errorf("spool: body %s: %w", b.body, err), b.entries...)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("spool: copy of body %s: %w", b.body, err)
	}
	id := t.id
	if b.stage != nil {
		id = b.stage.ID()
	}
	for _, e := range b.entries {
		e = e.Clone()
		e.Body = id
		b.unit = append(b.unit, Change{Op: Insert, Entry: e, Stage: b.stage})
	}
	return nil, nil
}

// unreadable deals with a body of src that is damaged, or is not there.
func (c *copier) unreadable(b *batch, err error, try int) (again []*Entry, _ error) {
	if corrupt, ok := errors.AsType[*CorruptError](err); ok {
		c.damage(corrupt)
		c.leave(corrupt, b.entries...)
		return nil, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("spool: copy: reading body %s: %w", b.body, err)
	}
	// Entries that nobody has claimed may have been removed or changed since.
	for _, e := range b.entries {
		now, err := c.look(e.ID)
		switch {
		case err != nil:
			return again, err
		case now == nil:
		case now.Body == e.Body && try >= copyTries:
			corrupt := &CorruptError{ID: b.body, Part: "body", Err: ErrNotFound}
			c.damage(corrupt)
			c.leave(corrupt, e)
		default:
			again = append(again, now)
		}
	}
	return again, nil
}

// look returns an entry of src, nil if it is not there any more.
func (c *copier) look(id ID) (found *Entry, err error) {
	err = c.patiently(func() error {
		for e, err := range c.src.Scan(c.ctx, Query{After: before(id)}) {
			if corrupt, ok := errors.AsType[*CorruptError](err); ok {
				c.damage(corrupt)
			} else if err != nil {
				return fmt.Errorf("spool: copy: scan of the source: %w", err)
			} else if e.ID == id {
				found = e
			}
			break
		}
		return nil
	})
	return found, err
}

// insert applies the units of batches, and takes note of each outcome.
func (c *copier) insert(batches []*batch, try int) (again []*Entry, err error) {
	units := make([]Unit, len(batches))
	for i, b := range batches {
		units[i] = b.unit
	}
	for i, uerr := range c.apply(c.ctx, c.dst, units) {
		b := batches[i]
		if b.stage != nil {
			defer b.stage.Abort() // without effect if it was committed
		}
		switch {
		case uerr == nil:
			c.inserted(b)
		case errors.Is(uerr, ErrTooLarge):
			c.leave(fmt.Errorf("spool: entry %s: %w", b.entries[0].ID, uerr), b.entries...)
		case try < copyTries && b.retry(uerr):
			if b.stage == nil {
				delete(c.bodies, b.body)
			}
			again = append(again, b.entries...)
		case err == nil:
			err = fmt.Errorf("spool: copy of entry %s: %w", b.entries[0].ID, uerr)
		}
	}
	return again, err
}

// retry reports whether the state of dst was another one than it seemed: the
// entry has come, or the body has gone.
func (b *batch) retry(err error) bool {
	if errors.Is(err, ErrExists) || errors.Is(err, ErrAmbiguous) {
		return true
	}
	_, damaged := errors.AsType[*CorruptError](err)
	return b.stage == nil && (damaged || errors.Is(err, ErrNotFound))
}

func (c *copier) inserted(b *batch) {
	c.res.Entries += int64(len(b.entries))
	c.moved = append(c.moved, b.entries...)
	if b.stage != nil {
		c.res.Bodies++
		c.res.Bytes += b.size
		c.bodies[b.body] = twin{b.stage.ID(), true}
	}
}

// apply makes units durable, again and again as long as the spool is busy. It
// returns one error for each.
func (c *copier) apply(ctx context.Context, sp Spool, units []Unit) []error {
	errs := make([]error, len(units))
	if len(units) == 0 {
		return errs
	}
	rest := make([]int, len(units)) // those that are not answered
	for i := range rest {
		rest[i] = i
	}
	c.patiently(func() error {
		some := make([]Unit, len(rest))
		for k, i := range rest {
			some[k] = units[i]
		}
		got := sp.Apply(ctx, some...)
		var busy []int
		for k, i := range rest {
			if errs[i] = nil; got != nil {
				errs[i] = got[k]
			}
			if errors.Is(errs[i], ErrBusy) {
				busy = append(busy, i)
			}
		}
		if rest = busy; rest != nil {
			return ErrBusy
		}
		return nil
	})
	return errs
}
