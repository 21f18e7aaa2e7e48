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
	maxWaiting      = 4096 // requests
	maxWaitingBytes = 64 << 20
)

// A request is one Apply that waits for the committer.
type request struct {
	units   []unit
	fresh   bool // nothing but new mail
	changes int
	bytes   int64 // in memory
	done    chan struct{}
	taken   atomic.Int32
}

const (
	waiting = iota
	taken
	givenUp
)

func newRequest(n int) *request {
	return &request{units: make([]unit, n), fresh: true, done: make(chan struct{})}
}

// add counts a unit that was prepared.
func (r *request) add(u *unit) {
	r.fresh = r.fresh && u.fresh
	r.changes += len(u.changes)
	r.bytes += int64(len(u.block)) + u.memory
}

// inbox is where requests wait until the committer takes them up.
type inbox struct {
	mu struct {
		sync.Mutex
		pending []*request
		bytes   int64
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
	if err := in.add(r); err != nil {
		return err
	}
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

func (in *inbox) add(r *request) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.closed {
		return spool.ErrClosed
	}
	n, bytes := len(in.mu.pending), in.mu.bytes
	if !r.fresh {
		n, bytes = n/4, bytes/4
	}
	if n >= maxWaiting || bytes >= maxWaitingBytes {
		return fmt.Errorf("boltspool: %d requests of %d bytes are waiting: %w", len(in.mu.pending), in.mu.bytes, spool.ErrBusy)
	}
	in.mu.pending = append(in.mu.pending, r)
	in.mu.bytes += r.bytes
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
