package boltspool

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	maxGroupChanges = 1024
	maxGroupBytes   = 16 << 20
	maxLinger       = 2 * time.Millisecond
	// probeInterval is how often a spool that has nothing to write looks at its disk.
	probeInterval = 250 * time.Millisecond
)

// A request is one Apply that waits for the committer.
type request struct {
	units   []unit
	changes int
	bytes   int64
	done    chan struct{}
	taken   atomic.Int32
}

const (
	waiting = iota
	taken
	givenUp
)

// inbox is where requests wait until the committer takes them up.
type inbox struct {
	mu struct {
		sync.Mutex
		pending []*request
		closed  bool
	}
	wake chan struct{} // holds one hint that mu has changed
}

func (in *inbox) hint() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// submit waits until r was dealt with. After an error it was not taken up.
func (in *inbox) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in.mu.Lock()
	if in.mu.closed {
		in.mu.Unlock()
		return spool.ErrClosed
	}
	in.mu.pending = append(in.mu.pending, r)
	in.mu.Unlock()
	in.hint()

	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	if r.taken.CompareAndSwap(waiting, givenUp) {
		return ctx.Err()
	}
	<-r.done
	return nil
}

func (in *inbox) close() {
	in.mu.Lock()
	in.mu.closed = true
	in.mu.Unlock()
	in.hint()
}

func (in *inbox) state() (pending int, closed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.mu.pending), in.mu.closed
}

// take returns the requests of the next group.
func (in *inbox) take() (group []*request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	changes, bytes, n := 0, int64(0), 0
	for _, r := range in.mu.pending {
		if len(group) > 0 && (changes+r.changes > maxGroupChanges || bytes+r.bytes > maxGroupBytes) {
			break
		}
		n++
		if r.taken.CompareAndSwap(waiting, taken) {
			group = append(group, r)
			changes += r.changes
			bytes += r.bytes
		}
	}
	rest := copy(in.mu.pending, in.mu.pending[n:])
	clear(in.mu.pending[rest:])
	in.mu.pending = in.mu.pending[:rest]
	return group
}

// commitLoop is the committer: the only goroutine that writes to the segments
// and the index. It ends when the inbox is closed and empty.
func (s *Spool) commitLoop() {
	defer close(s.committerDone)
	debug.SetPanicOnFault(true) // tryGroup recovers
	var pace pacer
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
		group := s.inbox.take()
		if len(group) == 0 {
			continue
		}
		start := time.Now()
		s.commitGroup(group)
		for _, r := range group {
			close(r.done)
		}
		left, _ := s.inbox.state()
		pace.closed(len(group)+left, time.Since(start))
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

// A pacer decides how long a group is collected. The clients whose requests
// were answered together come back together: to wait for them a little makes
// groups larger, and one client alone never waits.
type pacer struct {
	clients int           // that were in flight when the last group closed
	commit  time.Duration // moving average of what a group takes
}

func (p *pacer) closed(clients int, took time.Duration) {
	p.clients = clients
	if p.commit == 0 {
		p.commit = took
	}
	p.commit += (took - p.commit) / 8
}

func (p *pacer) limit() time.Duration { return min(p.commit/4, maxLinger) }

func (p *pacer) linger(in *inbox, pending int) {
	if pending >= p.clients {
		return
	}
	timer := time.NewTimer(p.limit())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-in.wake:
		}
		if n, closed := in.state(); closed || n >= p.clients {
			return
		}
	}
}

// commitGroup makes a group durable and sets the error of each unit.
func (s *Spool) commitGroup(reqs []*request) {
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
		err := s.tryGroup(reqs, refuse)
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
	if !grows(reqs) {
		return r
	}
	r.fresh = s.checkSpace()
	if s.indexFile.unsupported {
		r.growth = r.fresh // nothing is allocated ahead for updates and removes: the reserve is all they have
	}
	return r
}

// grows reports whether there are units that need new space.
func grows(reqs []*request) bool {
	for _, r := range reqs {
		if slices.ContainsFunc(r.units, func(u unit) bool { return u.grows }) {
			return true
		}
	}
	return false
}

// refuseAll sets the error of every unit that was valid in itself. What was
// found against the others of the group no longer counts.
func refuseAll(reqs []*request, err error) {
	for _, r := range reqs {
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
