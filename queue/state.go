package queue

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

type phase uint8

const (
	idle     phase = iota
	starting       // Run has begun, and nothing is worked on yet
	running
	stopping
)

// state is what a Scheduler knows at the moment. It is guarded by mu; the loop,
// the tasks and the acceptance of messages change it in short steps that never
// wait.
type state struct {
	mu struct {
		sync.Mutex
		phase   phase
		started time.Time
		queues  map[string]*queueState // those in use

		deadlines jobHeap // running jobs by their deadline
		later     jobHeap // owned jobs that must not run yet

		// Claiming: at most one claim is under way.
		claiming  bool
		nextClaim time.Time // when to claim next; zero: when something changes
		bytes     int64     // of all entries in memory
		starved   bool      // a claim waits for bytes to become free

		// Operators: entries may be on their way between spool and memory while none looks.
		working map[spool.ID]int // jobs that have a slot
		passing int              // claims and releases under way
		looking int              // operators that wait for them, or keep new ones from setting out
		passed  chan struct{}    // closed when passing is 0; nil: nobody waits

		suspended       map[string]suspension
		suspensionsAt   time.Time // when to look for what other processes have suspended
		suspensionsHint time.Time // and when to do so at the earliest
		suspensionsSync bool      // somebody does

		unrouted map[string]bool // queues found in the spool that have no handler
		overdue  int
		damaged  int64
		otherAt  time.Time // when otherQueues was last asked
		other    bool
	}
}

// A queueState is one queue in use. It is forgotten when nothing of it is in
// memory any more, so that an idle queue costs nothing.
type queueState struct {
	name    string
	config  Config
	handler Handler
	ready   readyList
	later   int // its jobs in state.later
	running int // slots taken
	overdue int // of them, handlers past their deadline
	limit   int // how many may be ready; at most config.MaxReady
	full    bool
	backlog bool // something due waits in the spool, as far as is known here
}

// A job is an entry in memory that this process owns.
type job struct {
	entry *spool.Entry
	body  *keptBody // what the entry is stored with first; nil: it is stored
	queue *queueState
	size  int64
	at    time.Time // its place in the heap it is in
	index int       // in that heap

	// While it runs:
	message *Message
	timeout time.Duration
	cancel  context.CancelCauseFunc
	decided bool         // by the handler's return or by its deadline, whichever was first
	overdue bool         // the deadline came first
	halves  int          // of an overdue job: the verdict is stored, the handler has returned
	kept    *spool.Entry // of an overdue job: what is to be released when both are done
}

func (q *queueState) configure(c Config) {
	q.config = c.withDefaults(q.name)
	q.limit = q.config.MaxReady
}

func (q *queueState) inUse() bool {
	return q.ready.len() > 0 || q.running > 0 || q.later > 0 || q.full || q.backlog
}

// queue returns the state of a queue, made at first use. mu is held.
func (s *Scheduler) queue(name string, h Handler) *queueState {
	q := s.mu.queues[name]
	if q == nil {
		q = &queueState{name: name, handler: h}
		q.configure(s.opts.Configure(name))
		s.mu.queues[name] = q
	}
	return q
}

// forget drops the state of a queue that is not in use. mu is held.
func (s *Scheduler) forget(q *queueState) {
	if !q.inUse() && s.mu.queues[q.name] == q {
		delete(s.mu.queues, q.name)
	}
}

// enqueue takes an owned entry into memory. mu is held.
func (s *Scheduler) enqueue(q *queueState, e *spool.Entry, notBefore time.Time) *job {
	j := &job{entry: e, queue: q, size: entrySize(e), at: notBefore}
	s.mu.bytes += j.size
	if notBefore.IsZero() {
		q.ready.push(j)
		return j
	}
	q.later++
	heap.Push(&s.mu.later, j)
	return j
}

// dispatch starts jobs of q in free slots. mu is held.
func (s *Scheduler) dispatch(q *queueState) {
	for s.mu.phase == running {
		j := s.next(q)
		if j == nil {
			return
		}
		s.pool.run(func() { s.work(j) })
	}
}

// next takes the next job of q and a slot for it; nil if there is none of
// either. mu is held.
func (s *Scheduler) next(q *queueState) *job {
	if s.mu.phase != running || q.ready.len() == 0 || q.running >= q.config.Concurrency {
		return nil
	}
	var j *job
	if s.isSuspended(q.name) {
		j = q.ready.popFinal()
	} else {
		j = q.ready.pop()
	}
	if j == nil {
		return nil
	}
	q.running++
	s.mu.working[j.entry.ID]++
	s.roomIn(q)
	return j
}

// roomIn has q claimed again that was full, if there is room. mu is held.
func (s *Scheduler) roomIn(q *queueState) {
	if q.full && q.ready.len()+q.later <= q.limit/2 {
		q.full = false
		s.claimAt(time.Time{})
	}
}

// free gives back the memory and the slot of a job that is done, and returns
// the next one of its queue.
func (s *Scheduler) free(j *job) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := j.queue
	q.running--
	if s.mu.working[j.entry.ID]--; s.mu.working[j.entry.ID] == 0 {
		delete(s.mu.working, j.entry.ID)
	}
	s.mu.bytes -= j.size
	s.fed()
	next := s.next(q)
	if next == nil {
		s.forget(q)
	}
	return next
}

// fed has a claim made that waits for memory, if enough has become free. mu is held.
func (s *Scheduler) fed() {
	if s.mu.starved && s.mu.bytes < s.opts.MemoryLimit/4*3 {
		s.mu.starved = false
		s.claimAt(time.Time{})
	}
}

// claimAt asks for a claim at t, at once if t is zero or has passed. mu is held.
func (s *Scheduler) claimAt(t time.Time) {
	now := time.Now()
	if t.Before(now) {
		t = now
	}
	if s.mu.nextClaim.IsZero() || t.Before(s.mu.nextClaim) {
		s.mu.nextClaim = t
		s.kick()
	}
}

// takeWaiting empties the memory of what does not run yet. mu is held.
func (s *Scheduler) takeWaiting() []*spool.Entry {
	var entries []*spool.Entry
	for _, q := range s.mu.queues {
		for _, j := range q.ready.cut(0) {
			entries = append(entries, j.entry)
			s.mu.bytes -= j.size
		}
	}
	for _, j := range s.mu.later {
		entries = append(entries, j.entry)
		s.mu.bytes -= j.size
		j.queue.later--
	}
	s.mu.later = nil
	return entries
}

// handOver takes messages that were just stored and are owned, or that body
// keeps: in memory, if they are due, a slot is free and nothing waits before
// them, else back to the spool.
func (s *Scheduler) handOver(entries []*spool.Entry, body *keptBody) {
	var back []*spool.Entry
	s.mu.Lock()
	for _, e := range entries {
		h := s.handler(e.Queue)
		if s.mu.phase != running || h == nil || e.State != spool.Queued || e.Due.After(time.Now()) || s.isSuspended(e.Queue) {
			back = append(back, e)
			continue
		}
		q := s.queue(e.Queue, h)
		if q.backlog || q.ready.len() > 0 || q.running >= q.config.Concurrency {
			q.backlog = true
			back = append(back, e)
			continue
		}
		s.enqueue(q, e, time.Time{}).body = body
		s.dispatch(q)
	}
	s.mu.Unlock()
	if body != nil {
		s.handBack(body, back)
		return
	}
	s.release(back)
}

// release gives entries back to the spool, to be claimed when they are due.
func (s *Scheduler) release(entries []*spool.Entry) {
	if len(entries) == 0 {
		return
	}
	units := make([]spool.Unit, len(entries))
	for i, e := range entries {
		units[i] = spool.Unit{{Op: spool.Release, Entry: e}}
	}
	if rest := s.releaseOnce(units); len(rest) > 0 {
		s.pool.run(func() { s.releaseRest(rest) })
	}
}

// releaseRest gives back what the spool did not take at first. Nobody else
// would: an entry that stays owned is not claimed as long as the process lives.
func (s *Scheduler) releaseRest(units []spool.Unit) {
	for delay := 10 * time.Millisecond; len(units) > 0; delay = min(2*delay, 5*time.Second) {
		if !sleep(s.hard, delay) {
			return
		}
		units = s.releaseOnce(units)
	}
}

// releaseOnce gives entries back and returns the units that are to be tried again.
func (s *Scheduler) releaseOnce(units []spool.Unit) (rest []spool.Unit) {
	soonest := units[0][0].Entry.Due
	for _, u := range units {
		if due := u[0].Entry.Due; due.Before(soonest) {
			soonest = due
		}
	}
	var failure error
	for i, err := range s.spool.Apply(s.hard, units...) {
		switch {
		case err == nil:
		case errors.Is(err, spool.ErrBusy), errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrAmbiguous):
			rest = append(rest, units[i])
		default:
			failure = err
		}
	}
	if failure != nil && s.hard.Err() == nil {
		s.log.Warn("queue: giving entries back to the spool; they are found again when it is opened anew", "error", failure)
		s.fail(failure)
	}
	s.mu.Lock()
	s.claimAt(soonest)
	s.mu.Unlock()
	return rest
}

// jobHeap orders jobs by their time.
type jobHeap []*job

func (h jobHeap) Len() int           { return len(h) }
func (h jobHeap) Less(i, k int) bool { return h[i].at.Before(h[k].at) }
func (h jobHeap) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}
func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.index = len(*h)
	*h = append(*h, j)
}
func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.index = -1
	return j
}
