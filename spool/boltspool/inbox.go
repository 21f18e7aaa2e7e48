package boltspool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	maxGroupChanges = 1024
	maxGroupBytes   = 16 << 20
	maxLinger       = 2 * time.Millisecond

	// Beyond these new mail is ErrBusy, and beyond four times as much everything.
	maxWaiting      = 4096     // requests
	maxWaitingBytes = 64 << 20 // beside the bodies, which StageMemory bounds
)

// A request is one Apply that waits for the committer.
type request struct {
	units   []unit
	fresh   bool // nothing but new mail
	changes int
	bytes   int64 // in memory
	done    chan struct{}
	taken   atomic.Int32

	moves   []*move // instead of units
	moveErr error

	// What most requests need, so that they need nothing else.
	unit   [1]unit
	change [1]change
	block  []byte
}

const (
	waiting = iota
	taken
	givenUp
)

// requests are those that are not in use.
type requests struct{ pool sync.Pool }

// get returns a request of n units.
func (p *requests) get(n int) *request {
	r, ok := p.pool.Get().(*request)
	if !ok {
		r = &request{done: make(chan struct{}, 1)}
	}
	r.fresh = true
	if n != 1 {
		r.units = make([]unit, n)
		return r
	}
	r.unit[0] = unit{changes: r.change[:0], block: r.block}
	r.units = r.unit[:]
	return r
}

// maxKeptBlock is how large a block is that is kept for another request.
const maxKeptBlock = 16 << 10

// put takes a request back that the committer is done with.
func (p *requests) put(r *request) {
	block := r.block
	if len(r.units) == 1 {
		block = r.units[0].block
	}
	if cap(block) > maxKeptBlock {
		block = nil
	}
	*r = request{done: r.done, block: block[:0]}
	p.pool.Put(r)
}

// errors returns the error of each unit; nil if there is none.
func (r *request) errors() (errs []error) {
	for i := range r.units {
		if r.units[i].err == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(r.units))
		}
		errs[i] = r.units[i].err
	}
	return errs
}

// add counts a unit that was prepared.
func (r *request) add(u *unit) {
	r.fresh = r.fresh && u.fresh
	r.changes += len(u.changes)
	r.bytes += int64(len(u.block)) + u.memory
}

// inbox is where requests wait until the committer takes them up.
type inbox struct {
	requests requests
	mu       struct {
		sync.Mutex
		pending []*request
		bytes   int64
		closed  bool
		wanted  int // how many pending requests the committer waits for
	}
	bodies int64         // how many bytes of bodies may be in memory
	wake   chan struct{} // holds one hint that as many are there as are wanted
}

func (in *inbox) hint() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// submit waits until r was dealt with. After an error it was not taken up, and
// belongs to the inbox.
func (in *inbox) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	enough, err := in.add(r)
	if err != nil {
		return err
	}
	if enough {
		in.hint()
	}
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

func (in *inbox) add(r *request) (enough bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.closed {
		return false, spool.ErrClosed
	}
	n, bytes := len(in.mu.pending), in.mu.bytes
	if !r.fresh {
		n, bytes = n/4, bytes/4
	}
	if n >= maxWaiting || bytes >= maxWaitingBytes+in.bodies {
		return false, fmt.Errorf("boltspool: %d requests of %d bytes are waiting: %w", len(in.mu.pending), in.mu.bytes, spool.ErrBusy)
	}
	in.mu.pending = append(in.mu.pending, r)
	in.mu.bytes += r.bytes
	return len(in.mu.pending) == max(in.mu.wanted, 1), nil
}

func (in *inbox) close() {
	in.mu.Lock()
	in.mu.closed = true
	in.mu.Unlock()
	in.hint()
}

func (in *inbox) state() (pending int, closed bool) { return in.want(1) }

// want is state, and asks for a hint when n requests are pending.
func (in *inbox) want(n int) (pending int, closed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.wanted = n
	return len(in.mu.pending), in.mu.closed
}

// take adds the requests of the next group to group.
func (in *inbox) take(group []*request) []*request {
	in.mu.Lock()
	defer in.mu.Unlock()
	changes, bytes, n := 0, int64(0), 0
	for _, r := range in.mu.pending {
		if len(group) > 0 && (changes+r.changes > maxGroupChanges || bytes+r.bytes > maxGroupBytes) {
			break
		}
		n++
		in.mu.bytes -= r.bytes
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
		if n, closed := in.want(p.clients); closed || n >= p.clients {
			return
		}
		select {
		case <-timer.C:
			return
		case <-in.wake:
		}
	}
}
