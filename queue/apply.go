package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// apply makes a unit durable. What passes by itself (no space, too much in
// flight, an outcome unknown) is waited for and repeated: the handler is never
// run again for it.
func (s *Scheduler) apply(unit spool.Unit) error {
	_, err := s.applyWith(unit, nil, 0, nil)
	return err
}

// applyWith is apply for a unit with notices. If there is no room for them, the unit is
// stored without after patience, when untell has changed it, and the result is false.
func (s *Scheduler) applyWith(unit, notices spool.Unit, patience time.Duration, untell func()) (bool, error) {
	const longest = 5 * time.Second
	told, begin := len(notices) > 0, time.Now()
	whole := slices.Concat(unit, notices)
	ambiguous, said := false, false
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, longest) {
		errs := s.spool.Apply(s.hard, whole)
		if len(errs) == 0 || errs[0] == nil {
			return told, nil
		}
		err := errs[0]
		switch {
		case told && errors.Is(err, spool.ErrFull) && !ambiguous && time.Since(begin) >= patience:
			s.untold(unit[0].Entry, err)
			untell()
			told, whole = false, unit
			continue
		case errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrBusy):
		case errors.Is(err, spool.ErrAmbiguous):
			ambiguous = true
		case ambiguous && (errors.Is(err, spool.ErrFenced) || errors.Is(err, spool.ErrExists)) && s.fatal(nil) == nil:
			s.reread(whole) // the first try had succeeded: it changed the revision
			return told, nil
		default:
			s.fail(err)
			return false, err
		}
		if delay == longest && !said {
			said = true
			s.log.Warn("queue: an outcome waits for the spool; its handler's slot waits with it", "id", unit[0].Entry.ID, "error", err)
		}
		if !sleep(s.hard, delay) {
			return false, fmt.Errorf("queue: gave up repeating: %w", errors.Join(err, context.Cause(s.hard)))
		}
	}
}

// reread brings the revisions of what a unit has left owned here up to date,
// after the answer to the Apply that set them was lost.
func (s *Scheduler) reread(unit spool.Unit) {
	for _, c := range unit {
		if c.Op == spool.Remove || !c.Keep {
			continue
		}
		for e, err := range s.spool.Scan(s.hard, spool.Query{After: before(c.Entry.ID)}) {
			if err != nil {
				s.log.Error("queue: looking for a message whose change was uncertain; it is found again when the spool is opened anew", "id", c.Entry.ID, "error", err)
			} else if e.ID == c.Entry.ID {
				c.Entry.Rev, c.Entry.Size = e.Rev, e.Size
			}
			break
		}
	}
}

// before returns the greatest ID that is less than id.
func before(id spool.ID) spool.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}
