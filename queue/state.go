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
// wait. What it knows of the spool are hints: others may work on it, too.
type state struct {
	mu struct {
		sync.Mutex
		phase   phase
		started time.Time
		queues  map[string]*queueState // those in use

		deadlines jobHeap   // running jobs by their deadline
		later     jobHeap   // owned jobs that must not run yet
		throttled queueHeap // queues that wait for their rate

		suspended map[string]suspension // by the name of the queue
		resumeAt  time.Time             // when the first of these ends; zero: none does

		// Claiming: at most one claim or plan is under way.
		claiming  bool
		nextClaim time.Time // when to claim next; zero: when something changes
		nextPlan  time.Time // when to plan next; zero: when something changes
		planFrom  time.Time // but not before
		bytes     int64     // of all entries in memory
		starved   bool      // a claim waits for bytes to become free
		shedAt    time.Time // since when queues may be short of which nothing is left; zero: none is
		tick      uint64    // counts claims and plans

		full       map[*queueState]struct{} // those that claims leave out
		backlogged map[*queueState]struct{} // those with a backlog
		hints      map[queueClass]time.Time // when to claim from groups of queues that are full
		nextHint   time.Time                // the first of these; zero: there is none

		// Operators: entries may be on their way between spool and memory while none looks.
		working map[spool.ID]int // jobs that have a slot
		passing int              // claims and releases under way
		looking int              // operators that wait for them, or keep new ones from setting out
		passed  chan struct{}    // closed when passing is 0; nil: nobody waits

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

func (s *state) init() {
	s.mu.tick = 1
	s.mu.queues = map[string]*queueState{}
	s.mu.working = map[spool.ID]int{}
	s.mu.full = map[*queueState]struct{}{}
	s.mu.backlogged = map[*queueState]struct{}{}
	s.mu.hints = map[queueClass]time.Time{}
	s.mu.unrouted = map[string]bool{}
}

// A queueState is one queue in use. It is forgotten when nothing of it is in
// memory any more, so that an idle queue costs nothing.
type queueState struct {
	name    string
	config  Config
	handler Handler
	ready   readyList
	running int // slots taken
	overdue int // of them, handlers past their deadline
	limit   int // how many may be in ready; at most config.MaxReady
	full    bool
	short   bool // with full: for want of memory
	backlog backlog
	waiting rotation
	leftOut uint64 // the tick of the last claim that left it out

	limiter   *limiter  // nil: no rate
	wakeAt    time.Time // its place in state.throttled
	wakeIndex int       // in that heap; -1: not there
}

// A job is an entry in memory that this process owns.
type job struct {
	entry *spool.Entry
	body  *keptBody // what the entry is stored with first; nil: it is stored
	queue *queueState
	size  int64
	at    time.Time // its place in the heap it is in
	index int       // in that heap; -1: in none
	place int       // in readyClass.later

	// While it runs:
	message *Message
	timeout time.Duration
	cancel  context.CancelCauseFunc
	decided bool         // by the handler's return or by its deadline, whichever was first
	overdue bool         // the deadline came first
	halves  int          // of an overdue job: the verdict is stored, the handler has returned
	kept    *spool.Entry // of an overdue job: what is to be released when both are done
}

func (q *queueState) configure(c Config, now time.Time) {
	q.config = c.withDefaults(q.name)
	q.limit = q.config.MaxReady
	q.ready.setWeights(q.config.Weights)
	switch {
	case q.limiter == nil || q.config.Rate.N == 0:
		q.limiter = newLimiter(q.config.Rate)
	default:
		q.limiter.set(q.config.Rate, now)
	}
}

func (q *queueState) inUse() bool {
	return q.ready.len() > 0 || q.ready.total() > 0 || q.running > 0 || q.full || q.backlog.any()
}

// queue returns the state of a queue, made at first use. mu is held.
func (s *Scheduler) queue(name string, h Handler) *queueState {
	q := s.mu.queues[name]
	if q == nil {
		q = &queueState{name: name, handler: h, wakeIndex: -1}
		q.configure(s.opts.Configure(name), time.Now())
		s.mu.queues[name] = q
	}
	return q
}

// forget drops the state of a queue that is not in use. With a rate that is when
// its bucket is full again: until then a new state would allow too much. mu is held.
func (s *Scheduler) forget(q *queueState) {
	if q.inUse() || s.mu.queues[q.name] != q {
		return
	}
	if q.limiter != nil {
		now := time.Now()
		if wait := q.limiter.until(q.config.Rate.Burst, now); wait > 0 {
			s.wakeQueue(q, now.Add(wait))
			return
		}
	}
	s.unthrottle(q)
	delete(s.mu.queues, q.name)
}

// enqueue takes an owned entry into memory. mu is held.
func (s *Scheduler) enqueue(q *queueState, e *spool.Entry, notBefore time.Time) *job {
	j := &job{entry: e, queue: q, size: entrySize(e), at: notBefore, index: -1}
	s.mu.bytes += j.size
	switch {
	case e.State == spool.Final:
		q.ready.pushFinal(j)
	case notBefore.IsZero():
		q.ready.push(j)
	default:
		q.ready.putOff(j)
		heap.Push(&s.mu.later, j)
	}
	return j
}

// mature lets the jobs run whose time has come. mu is held.
func (s *Scheduler) mature(now time.Time) {
	for len(s.mu.later) > 0 && !s.mu.later[0].at.After(now) {
		j := heap.Pop(&s.mu.later).(*job)
		j.queue.ready.mature(j)
		s.dispatch(j.queue)
	}
}

// giveBack takes all but keep of what waits in a queue out of memory and returns
// what is to be released. mu is held.
func (s *Scheduler) giveBack(q *queueState, keep int) []*spool.Entry {
	back := s.drop(q.ready.cut(keep))
	for _, e := range back {
		s.noteBacklog(q, e.Class)
	}
	return back
}

// take takes the jobs that want says yes to out of what waits in memory: of one
// queue, or of all if queue is empty. Their entries are still owned by this process:
// who takes them changes or releases them. mu is held.
func (s *Scheduler) take(queue string, want func(*job) bool) (out []*job) {
	for name, q := range s.mu.queues {
		if queue != "" && name != queue {
			continue
		}
		if jobs := q.ready.take(want); len(jobs) > 0 {
			s.drop(jobs)
			out = append(out, jobs...)
			s.reopen(q)
			s.forget(q)
		}
	}
	s.fed()
	return out
}

// drop forgets jobs that were taken out of their list. mu is held.
func (s *Scheduler) drop(jobs []*job) (entries []*spool.Entry) {
	for _, j := range jobs {
		if j.index >= 0 {
			heap.Remove(&s.mu.later, j.index)
		}
		s.mu.bytes -= j.size
		entries = append(entries, j.entry)
	}
	return entries
}

// takeWaiting empties the memory of what does not run yet. mu is held.
func (s *Scheduler) takeWaiting() []*spool.Entry {
	var entries []*spool.Entry
	for _, q := range s.mu.queues {
		for _, j := range q.ready.all() {
			entries = append(entries, j.entry)
			s.mu.bytes -= j.size
		}
	}
	s.mu.later = nil
	return entries
}

// release gives entries back to the spool, to be claimed when they are due.
func (s *Scheduler) release(entries []*spool.Entry) {
	if len(entries) == 0 {
		return
	}
	units, changes := make([]spool.Unit, len(entries)), make(spool.Unit, len(entries))
	for i, e := range entries {
		changes[i] = spool.Change{Op: spool.Release, Entry: e}
		units[i] = changes[i : i+1 : i+1]
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
	s.noteReleased(units)
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
