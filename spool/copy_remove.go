package spool

import (
	"context"
	"errors"
	"fmt"
)

// claim makes src the owner of those entries that it can have, and returns them
// as they are now.
func (c *copier) claim(entries []*Entry) ([]*Entry, error) {
	ids := make([]ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	var claimed []*Entry
	err := c.patiently(func() (err error) {
		claimed, _, err = c.src.Claim(c.ctx, ClaimRequest{IDs: ids})
		return err
	})
	broken := corrupts(err)
	if err != nil && broken == nil {
		return nil, fmt.Errorf("spool: copy: claim in the source: %w", err)
	}
	for _, corrupt := range broken {
		c.damage(corrupt)
	}
	c.res.Owned += int64(len(entries) - len(claimed) - len(broken))
	for _, e := range claimed {
		c.mine[e.ID] = e
	}
	return claimed, nil
}

// corrupts returns the damage that is joined in an error.
func corrupts(err error) (list []*CorruptError) {
	switch err := err.(type) {
	case *CorruptError:
		return []*CorruptError{err}
	case interface{ Unwrap() []error }:
		for _, one := range err.Unwrap() {
			list = append(list, corrupts(one)...)
		}
	case interface{ Unwrap() error }:
		return corrupts(err.Unwrap())
	}
	return list
}

// removeMoved removes from src what is durable in dst. The context does not end
// it before one try: what is in both spools may be delivered twice.
func (c *copier) removeMoved() (err error) {
	moved := c.moved
	c.moved = nil
	if !c.Remove {
		return nil
	}
	for try := 1; len(moved) > 0; try++ {
		moved, err = c.remove(moved, try)
	}
	return err
}

// remove removes entries from src. It returns those to which that may or may not
// have happened, if they are to be tried again: to remove is idempotent.
func (c *copier) remove(moved []*Entry, try int) (again []*Entry, err error) {
	units := make([]Unit, len(moved))
	for i, e := range moved {
		units[i] = Unit{{Op: Remove, Entry: c.mine[e.ID]}}
	}
	for i, rerr := range c.apply(context.WithoutCancel(c.ctx), c.src, units) {
		switch {
		case rerr == nil:
			c.res.Removed++
			delete(c.mine, moved[i].ID)
		case errors.Is(rerr, ErrAmbiguous) && try < copyTries:
			again = append(again, moved[i])
		case err == nil:
			err = fmt.Errorf("spool: copy: entry %s is in both spools now: removing it from the source: %w", moved[i].ID, rerr)
		}
	}
	return again, err
}

// release gives back what was claimed and not removed. If that fails the end of
// src does it.
func (c *copier) release() {
	var units []Unit
	for _, e := range c.mine {
		units = append(units, Unit{{Op: Release, Entry: e}})
	}
	if units != nil {
		c.apply(context.WithoutCancel(c.ctx), c.src, units)
	}
	clear(c.mine)
}
