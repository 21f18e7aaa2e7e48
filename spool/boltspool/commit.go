package boltspool

import (
	"errors"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// maxLogKeep bounds logKeep.
	maxLogKeep = 1 << 20
	// probeInterval is how often a spool that has nothing to write looks at its disk.
	probeInterval = 250 * time.Millisecond
)

// logKeep is how much room new mail leaves in the log to what ends and changes
// stored messages. What brings something new along, such as a notice, leaves half of it
// to what does not.
func (s *Spool) logKeep() int64 { return min(s.opts.SegmentSize/2, maxLogKeep) }

// commitLoop is the committer: the only goroutine that writes to the log. It
// ends when the inbox is closed and empty.
func (s *Spool) commitLoop() {
	defer close(s.committerDone)
	var pace pacer
	var reqs []*request
	g := newGroup(s)
	probe := time.NewTicker(probeInterval)
	defer probe.Stop()
	for {
		pending, closed := s.inbox.state()
		if pending == 0 {
			if closed {
				return
			}
			s.idle(probe.C)
			continue
		}
		pace.linger(&s.inbox, pending)
		if reqs = s.inbox.take(reqs[:0]); len(reqs) == 0 {
			continue
		}
		start := time.Now()
		s.commitGroup(g, reqs)
		others, _ := s.inbox.state() // before those of the group come back
		pace.closed(len(reqs)+others, time.Since(start))
		for _, r := range reqs {
			r.done <- struct{}{} // from here on it is the client's
		}
		clear(reqs)
		s.keeper.look()
	}
}

// idle waits for a request, and meanwhile looks at the disk.
func (s *Spool) idle(probe <-chan time.Time) {
	select {
	case <-s.inbox.wake:
	case <-probe:
		s.watchSpace()
	}
}

// commitGroup makes a group durable and sets the error of each unit.
func (s *Spool) commitGroup(g *group, reqs []*request) {
	if err := s.failed(); err != nil {
		refuseAll(reqs, err)
		return
	}
	refuse := s.refuseGrowth(reqs)
	if err := s.failed(); err != nil { // the look for space may have found out
		refuseAll(reqs, err)
		return
	}
	for {
		err := g.commit(reqs, refuse)
		if err == nil {
			return
		}
		passing := s.passing(err)
		if passing == nil {
			refuseAll(reqs, s.fail(err))
			return
		}
		if refuse.growth != nil {
			refuseAll(reqs, passing)
			return
		}
		refuse.growth = passing
	}
}

// A refusal is why units of a group are refused for want of space.
type refusal struct {
	fresh  error // new mail, which must leave the reserve free
	growth error // all that needs new space, because there was none
}

func (r refusal) of(u *unit) error {
	switch {
	case !u.grows:
		return nil
	case r.growth != nil:
		return r.growth
	case u.fresh:
		return r.fresh
	}
	return nil
}

// refuseGrowth returns what is refused because the reserve is not free: new mail.
// What ends or changes a stored message may use the reserve with all that
// belongs to it, a notice for instance: else a full spool could not empty itself.
func (s *Spool) refuseGrowth(reqs []*request) (r refusal) {
	if s.short(shortBytes | shortInodes) {
		s.probeSpace() // a full spool that is busy is never idle
	}
	if grows(reqs) {
		r.fresh = s.checkSpace()
	}
	if !s.log.Allocates() {
		r.growth = r.fresh // nothing is allocated ahead for updates and removes: the reserve is all they have
	}
	return r
}

// grows reports whether there are units that need new space.
func grows(reqs []*request) bool {
	for _, r := range reqs {
		if len(r.moves) > 0 || slices.ContainsFunc(r.units, func(u unit) bool { return u.grows }) {
			return true
		}
	}
	return false
}

// refuseAll sets the error of every unit that was valid in itself. What was
// found against the others of the group no longer counts.
func refuseAll(reqs []*request, err error) {
	for _, r := range reqs {
		r.moveErr = err
		for i := range r.units {
			u := &r.units[i]
			if u.err = u.invalid; u.err == nil {
				u.err = err
			}
			if errors.Is(err, spool.ErrFailed) {
				u.settleStages(uncertain)
			}
		}
	}
}
