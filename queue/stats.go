package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Stats is a snapshot of a Scheduler's work. It is fit for [expvar]:
//
//	expvar.Publish("queue", expvar.Func(func() any { return sched.Stats() }))
type Stats struct {
	Time time.Time `json:"time"` // of the snapshot, in UTC

	Ready     int64 `json:"ready"`      // due and in memory, waiting for a slot
	Scheduled int64 `json:"scheduled"`  // in the spool: due later, or not claimed yet
	Held      int64 `json:"held"`       // waiting for an operator
	Final     int64 `json:"final"`      // ended, the record not yet taken
	Running   int   `json:"running"`    // handlers running, overdue ones included
	Overdue   int   `json:"overdue"`    // handlers running past their deadline
	Unrouted  int64 `json:"unrouted"`   // in queues that have no handler
	Kept      int64 `json:"kept"`       // accepted by Transaction.Keep and not stored: what a crash loses
	KeptBytes int64 `json:"kept_bytes"` // their bodies, and about what is known of them

	// OldestWaiting is when the longest waiting message in the spool was
	// received, or a time before that; zero if there is none.
	OldestWaiting time.Time `json:"-"`

	// UntilInject is how long messages waited from their reception to the first
	// call of the inject callback. It counts from Entry.Received, a moment before
	// the 250: to store the message is part of it. Without DeferredQueue there is
	// no such wait, and nothing is counted.
	UntilInject Histogram `json:"until_inject"`
	// InjectTime is how long calls of the inject callback took, those before the
	// reply included, and HandlerTime how long those of all other handlers did.
	// They are counted at the return, in time or not, whatever the verdict.
	InjectTime  Histogram `json:"inject_time"`
	HandlerTime Histogram `json:"handler_time"`

	// Rebound counts, of Outcomes[Delivery], the successes of the inject callback after
	// which the message went on to another queue. The others are ends: successes of
	// other handlers, or of the callback where there are none.
	Rebound int64 `json:"rebound"`

	Outcomes map[RecordType]int64   `json:"outcomes"` // records taken since the Scheduler was made
	Rates    map[RecordType]float64 `json:"rates"`    // of those, per second in the last minute, or since then if that is less
	Retries  map[RetryCause]int64   `json:"retries"`  // failed attempts whose message is tried again, since then

	Records int64 `json:"records_waiting"` // records waiting to be taken
	Dropped int64 `json:"records_dropped"` // Rejection records that found no room
	Damaged int64 `json:"damaged"`         // damaged entries found

	Queues []QueueStats `json:"queues"` // by name

	// Err says why what the spool counts is missing; usually nil.
	Err error `json:"-"`
}

// QueueStats is a snapshot of one queue. Its numbers are those of [Stats].
type QueueStats struct {
	Name          string    `json:"name"`
	Ready         int64     `json:"ready"`
	Scheduled     int64     `json:"scheduled"`
	Held          int64     `json:"held"`
	Final         int64     `json:"final"`
	Bytes         int64     `json:"bytes"` // the sizes of all of them
	Running       int       `json:"running"`
	Overdue       int       `json:"overdue"`
	Handler       bool      `json:"handler"` // whether it has one
	OldestWaiting time.Time `json:"-"`

	// Classes are up to 16 classes of which messages wait: those whose oldest one
	// waits longest, in this order. MoreClasses counts the others.
	Classes     []ClassStats `json:"classes"`
	MoreClasses int          `json:"more_classes,omitempty"`
}

// ClassStats is a snapshot of what waits of one class in one queue: see
// [spool.Entry], Class.
type ClassStats struct {
	Class         string    `json:"class"`
	Waiting       int64     `json:"waiting"` // due or not, in memory or not; not what is held
	OldestWaiting time.Time `json:"-"`
}

// Stats returns a snapshot. It asks the spool for its counts, which is cheap
// however much is queued, and does not stop the work; the parts of it may be of
// slightly different moments. Where several processes share a store, what is in
// the spool is what all of them have, and what runs is what this one does.
func (s *Scheduler) Stats() Stats {
	st := s.counts()
	queues := map[string]*QueueStats{}
	for i := range st.Queues {
		queues[st.Queues[i].Name] = &st.Queues[i]
	}
	for info, err := range s.spool.Queues(s.hard) {
		if err != nil {
			st.Err = err
			break
		}
		if info.Queue == Suspensions {
			continue
		}
		q := queues[info.Queue]
		if q == nil {
			q = &QueueStats{Name: info.Queue}
			queues[info.Queue] = q
		}
		q.count(info)
	}
	st.Queues = nil
	s.mu.Lock() // Handle may be called beside this before Run
	for _, q := range queues {
		q.Handler = s.handler(q.Name) != nil
		st.sum(q)
	}
	s.mu.Unlock()
	slices.SortFunc(st.Queues, func(a, b QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	return st
}

// count adds one line of the spool's counts.
func (q *QueueStats) count(info spool.QueueInfo) {
	q.Bytes += info.Bytes
	switch info.State {
	case spool.Held:
		q.Held += info.Entries
	case spool.Final:
		q.Final += info.Entries
	default:
		q.Scheduled += info.Entries
		q.OldestWaiting = older(q.OldestWaiting, info.Oldest)
		q.countClass(ClassStats{info.Class, info.Entries, info.Oldest})
	}
}

// maxClasses bounds QueueStats.Classes.
const maxClasses = 16

// countClass takes a class in, in its place, or instead of one that waits less.
func (q *QueueStats) countClass(c ClassStats) {
	if c.Waiting == 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(q.Classes, c, func(a, b ClassStats) int {
		return cmp.Or(a.OldestWaiting.Compare(b.OldestWaiting), cmp.Compare(a.Class, b.Class))
	})
	q.Classes = slices.Insert(q.Classes, at, c)
	if len(q.Classes) > maxClasses {
		q.Classes = q.Classes[:maxClasses]
		q.MoreClasses++
	}
}

// older returns the earlier of two times; zero is no time.
func older(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// sum adds a queue to the totals. Scheduled came in as all that is queued.
func (st *Stats) sum(q *QueueStats) {
	running := int64(q.Running)
	if q.Name == Deferred {
		running = max(running-st.Kept, 0) // those are not in the spool
	}
	q.Scheduled = max(q.Scheduled-q.Ready-running, 0)
	st.Ready += q.Ready
	st.Scheduled += q.Scheduled
	st.Held += q.Held
	st.Final += q.Final
	if !q.Handler {
		st.Unrouted += q.Ready + q.Scheduled + q.Held
	}
	st.OldestWaiting = older(st.OldestWaiting, q.OldestWaiting)
	st.Queues = append(st.Queues, *q)
}

// counts is the part of Stats that is in memory.
func (s *Scheduler) counts() Stats {
	st := Stats{Time: time.Now().UTC(), Records: s.recorder.waiting.Load(), Dropped: s.recorder.dropped.Load()}
	st.Outcomes, st.Rates, st.Rebound = s.recorder.counts()
	s.times.count(&st)
	st.Kept, st.KeptBytes = s.kept.counts()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Overdue, st.Damaged = s.mu.overdue, s.mu.damaged
	for _, q := range s.mu.queues {
		st.Running += q.running
		st.Queues = append(st.Queues, QueueStats{Name: q.name, Ready: int64(q.ready.len()), Running: q.running, Overdue: q.overdue})
	}
	return st
}
