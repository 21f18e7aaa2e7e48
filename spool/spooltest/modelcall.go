package spooltest

import (
	"context"
	"errors"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A mood says which outcomes of units the contract leaves open.
type mood uint8

const (
	calm    mood = iota // none
	closing             // the spool is closed meanwhile: ErrClosed, and not applied
	failing             // its next sync fails: ErrFailed and ErrAmbiguous say nothing
	dying               // its process dies meanwhile: no error says anything
)

// An applyCall is one Apply, or one Commit.
type applyCall struct {
	f      *fixture
	by     *owner
	units  []spool.Unit
	want   []error
	writer spool.Writer // whose Commit it is, nil if it is an Apply
	pace   *canceller   // by which it is cancelled, nil if it is not
	mood   mood

	errs []error
	open []spool.Unit // of which only the store can tell
}

// applying prepares some units for one Apply.
func (r *run) applying(by *owner) *applyCall {
	c := &applyCall{f: r.as(by), by: by}
	if r.chance(20) && len(r.m.entries) <= modelEntries {
		r.count("commit")
		u := r.message(by)
		for i := range u {
			u[i].Keep = true
		}
		c.add(r, u)
		c.writer = u[0].Stage
	} else {
		for range 1 + r.rng.IntN(3) {
			u := r.unit(by)
			if r.chance(12) {
				u = r.bad(by, u)
			}
			c.add(r, u)
		}
	}
	if r.chance(15) {
		c.pace = &r.pace
	}
	return c
}

func (c *applyCall) add(r *run, u spool.Unit) {
	c.units = append(c.units, u)
	c.want = append(c.want, r.m.judge(c.by, u))
}

func (c *applyCall) do() {
	apply := func(ctx context.Context) error {
		if c.writer == nil {
			c.errs = c.f.sp.Apply(ctx, c.units...)
			return nil
		}
		var entries []*spool.Entry
		for _, change := range c.units[0] {
			entries = append(entries, change.Entry)
		}
		if err := c.writer.Commit(ctx, entries...); err != nil {
			c.errs = []error{err}
		}
		return nil
	}
	if c.pace != nil {
		c.pace.cancelled(apply)
	} else {
		apply(c.f.ctx)
	}
}

func (c *applyCall) settle(r *run) {
	if c.errs != nil && (len(c.errs) != len(c.units) || errors.Join(c.errs...) == nil) {
		r.fail("Apply of %d units: got errs %v, want nil or one error per unit", len(c.units), c.errs)
	}
	for i, u := range c.units {
		var err error
		if c.errs != nil {
			err = c.errs[i]
		}
		c.settleUnit(r, u, err, c.want[i])
	}
}

func (c *applyCall) settleUnit(r *run, u spool.Unit, err, want error) {
	switch {
	case err == nil && want == nil:
		r.applied(c.by, u)
	case err == nil:
		r.fail("Apply answered nil, want %v: %s", want, describeUnit(u))
	case want != nil && errors.Is(err, want):
		r.count("refused")
		r.discard(u)
	case c.mood == dying || c.mood == failing && (errors.Is(err, spool.ErrFailed) || errors.Is(err, spool.ErrAmbiguous)):
		r.count("uncertain")
		if want == nil { // else it cannot have been applied
			c.open = append(c.open, u)
		}
	case c.mood == closing && errors.Is(err, spool.ErrClosed):
		r.count("closed")
		r.discard(u)
	case errors.Is(err, spool.ErrBusy), c.pace != nil && errors.Is(err, context.Canceled):
		r.count("cancelled")
		if c.mood == calm && want == nil {
			r.again(c.by, u)
		} else {
			r.discard(u)
		}
	default:
		r.fail("Apply answered %v, want %v: %s", err, want, describeUnit(u))
	}
}

// applied notes a unit that was.
func (r *run) applied(by *owner, u spool.Unit) {
	r.t.Helper()
	for _, c := range u {
		old := r.m.entries[c.Entry.ID]
		if !puts(c.Op) {
			continue
		}
		if c.Entry.Rev == 0 || old != nil && c.Entry.Rev <= old.e.Rev {
			r.fail("after a success Rev is %d; it grows with every durable change: %s", c.Entry.Rev, describe(c.Entry))
		}
		if want := int64(len(c.Entry.Header)+len(r.m.bodies[c.Entry.Body])) - c.Entry.Skip; c.Entry.Size != want {
			r.fail("after a success Size is %d, want %d: %s", c.Entry.Size, want, describe(c.Entry))
		}
	}
	r.m.apply(by, u)
}

// again applies a unit that was not taken up.
func (r *run) again(by *owner, u spool.Unit) {
	r.t.Helper()
	r.ok(r.as(by).try(u), "the same unit again, after it was not taken up")
	r.applied(by, u)
}

// discard aborts what a unit that was not applied would have brought.
func (r *run) discard(u spool.Unit) {
	for _, c := range u {
		if c.Stage != nil {
			c.Stage.Abort() // which may fail where the spool has ended
			r.lost(c.Stage.ID())
		}
	}
}

// lost notes a body that must not be found any more, and forgets others.
func (r *run) lost(body spool.ID) {
	delete(r.m.bodies, body)
	if r.gone = append(r.gone, body); len(r.gone) > 10 {
		r.gone = slices.Delete(r.gone, 0, 5)
	}
}

// describeUnit shows a unit.
func describeUnit(u spool.Unit) (s string) {
	for _, c := range u {
		op := [...]string{"?", "Insert", "Update", "Remove", "Release"}[min(c.Op, spool.Release)]
		s += "\n" + op + " " + describe(c.Entry)
		if c.Stage != nil {
			s += ", staged"
		}
		if c.Keep {
			s += ", kept"
		}
	}
	return s
}
