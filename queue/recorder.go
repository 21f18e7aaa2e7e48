package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A recorder calls Options.Record: in order for one message, concurrently for
// different ones, and again until the record is taken. The records of a
// message all pass the same lane.
type recorder struct {
	record     func(ctx context.Context, r Record) error
	log        *slog.Logger
	pool       *pool
	limit      int64
	nodeID     string
	waiting    atomic.Int64
	dropped    atomic.Int64
	rejections atomic.Int64 // Rejection records among those waiting
	patterns   *patterns    // fixed once Run began
	taken      map[RecordType]*meter
	rebound    meter // of Delivery, what taken has not
	began      time.Time
	observers  []func(Record) // fixed once Run began
	failing    atomic.Bool    // Record failed and has not succeeded since

	ctx   context.Context // ends when the scheduler gives up waiting
	lanes [messageLanes + 1]lane
}

const (
	messageLanes  = 16
	rejectionLane = messageLanes // Rejection records are no message's, and no message waits for them
)

type lane struct {
	mu struct {
		sync.Mutex
		queue  []pending
		active bool // somebody is calling Record for this lane
		open   bool // the scheduler runs
	}
}

// A pending record waits to be taken. That of a reception is made when its turn
// comes: it must not delay the reply to the client, and would take more room
// than the entry that there is anyway.
type pending struct {
	record    *Record
	received  *spool.Entry // instead of record
	size      int64        // of received
	headers   map[string]string
	taken     chan<- bool // nil: nobody waits
	rejection bool        // counted among rejections
}

func newRecorder(ctx context.Context, opts *Options, pool *pool) *recorder {
	r := &recorder{
		record: opts.Record, log: opts.Logger, pool: pool,
		limit: int64(opts.RecordBuffer), nodeID: opts.NodeID, ctx: ctx,
		taken: map[RecordType]*meter{}, began: time.Now(),
	}
	for _, t := range []RecordType{Reception, Delivery, Bounce, TransientFailure, Expiration, AdminBounce, AdminRebind, Rejection, Delayed} {
		r.taken[t] = new(meter)
	}
	return r
}

// full reports whether so many records wait that no more messages should be accepted.
func (r *recorder) full() bool { return r.waiting.Load() >= r.limit }

func (r *recorder) lane(rec *Record) *lane { return &r.lanes[laneOf(rec.ID)] }

func laneOf(id spool.ID) byte { return id[len(id)-1] % messageLanes }

// open starts the lanes: what was posted before Run is recorded now.
func (r *recorder) open() {
	for i := range r.lanes {
		l := &r.lanes[i]
		l.mu.Lock()
		l.mu.open = true
		r.startLocked(l)
		l.mu.Unlock()
	}
}

// post queues a record and does not wait. Before Run records are only queued.
func (r *recorder) post(rec Record) { r.enqueue(r.lane(&rec), pending{record: &rec}) }

// postReception is post for the Reception record of e, which came into the
// deferred queue and does not change any more but for its Rev and Size.
func (r *recorder) postReception(e *spool.Entry, headers map[string]string) {
	r.enqueue(&r.lanes[laneOf(e.ID)], pending{received: e, size: e.Size, headers: headers})
}

func (r *recorder) enqueue(l *lane, p pending) {
	r.waiting.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.queue = append(l.mu.queue, p)
	r.startLocked(l)
}

func (r *recorder) startLocked(l *lane) {
	if l.mu.open && !l.mu.active && len(l.mu.queue) > 0 {
		l.mu.active = r.pool.run(func() { r.drain(l) })
	}
}

// write records rec and waits until it was taken. false: the scheduler gave up first.
func (r *recorder) write(rec Record) bool {
	l := r.lane(&rec)
	r.waiting.Add(1)
	l.mu.Lock()
	if !l.mu.active && len(l.mu.queue) == 0 {
		l.mu.active = true
		l.mu.Unlock()
		ok := r.deliver(rec)
		l.mu.Lock()
		l.mu.active = false
		r.startLocked(l)
		l.mu.Unlock()
		return ok
	}
	taken := make(chan bool, 1)
	l.mu.queue = append(l.mu.queue, pending{record: &rec, taken: taken})
	r.startLocked(l)
	l.mu.Unlock()
	select {
	case ok := <-taken:
		return ok
	case <-r.ctx.Done():
		return false
	}
}

// drain works a lane off; its caller has marked the lane active.
func (r *recorder) drain(l *lane) {
	for {
		l.mu.Lock()
		if len(l.mu.queue) == 0 || r.ctx.Err() != nil {
			l.mu.active = false
			l.mu.Unlock()
			return
		}
		p := l.mu.queue[0]
		l.mu.queue[0] = pending{}
		l.mu.queue = l.mu.queue[1:]
		l.mu.Unlock()
		var rec Record // not on the heap: there is one for each message
		if p.received != nil {
			rec = receptionRecord(p.received, Deferred, p.size, r.nodeID)
			rec.Headers = p.headers
		} else {
			rec = *p.record
		}
		ok := r.deliver(rec)
		if p.rejection {
			r.rejections.Add(-1)
		}
		if p.taken != nil {
			p.taken <- ok
		}
	}
}

// deliver calls Record until it takes rec.
func (r *recorder) deliver(rec Record) bool {
	defer r.waiting.Add(-1)
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, time.Minute) {
		err := r.call(rec)
		if err == nil {
			if r.failing.CompareAndSwap(true, false) {
				r.log.Info("queue: records are taken again")
			}
			r.count(&rec)
			for _, observe := range r.observers {
				observe(rec)
			}
			return true
		}
		if !r.failing.Swap(true) {
			r.log.Error("queue: Options.Record did not take a record; it is called again until it does", "error", err, "type", rec.Type, "id", rec.ID)
		}
		if !sleep(r.ctx, delay) {
			return false
		}
	}
}

// count counts a record that was taken. Where there are handlers the inject callback's
// success is not the end of the road: the message was rebound.
func (r *recorder) count(rec *Record) {
	n := r.taken[rec.Type]
	if rec.Type == Delivery && rec.Queue == Deferred && !r.patterns.empty() {
		n = &r.rebound
	}
	if n != nil { // another version may have stored another type
		n.add(time.Since(r.began))
	}
}

// counts returns how many records of each type were taken, how many per second of
// late, and how many of Delivery say that a message was rebound.
func (r *recorder) counts() (total map[RecordType]int64, rates map[RecordType]float64, rebound int64) {
	total, rates = map[RecordType]int64{}, map[RecordType]float64{}
	at := time.Since(r.began)
	for t, m := range r.taken {
		if n := m.total.Load(); n > 0 {
			total[t], rates[t] = n, m.rate(at)
		}
	}
	if rebound = r.rebound.total.Load(); rebound > 0 {
		total[Delivery] += rebound
		rates[Delivery] += r.rebound.rate(at)
	}
	return total, rates, rebound
}

func (r *recorder) call(rec Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("queue: Options.Record panicked: %v", p)
		}
	}()
	return r.record(r.ctx, rec)
}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
