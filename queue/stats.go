package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Stats is a snapshot of a Scheduler's work.
type Stats struct {
	Ready     int64 // due and in memory, waiting for a slot
	Scheduled int64 // in the spool: due later, or not claimed yet
	Held      int64 // waiting for an operator
	Final     int64 // ended, the record not yet taken
	Running   int   // handlers running, overdue ones included
	Overdue   int   // handlers running past their deadline
	Unrouted  int64 // in queues that have no handler
	Kept      int64 // accepted by Transaction.Keep and not stored: what a crash loses
	KeptBytes int64 // their bodies, and about what is known of them

	// OldestWaiting is when the longest waiting message in the spool was
	// received, or a time before that; zero if there is none.
	OldestWaiting time.Time

	Outcomes map[RecordType]int64 // records taken since the Scheduler was made
	Records  int64                // records waiting to be taken
	Dropped  int64                // Rejection records that found no room
	Damaged  int64                // damaged entries found

	Queues []QueueStats // by name

	// Err says why what the spool counts is missing; usually nil.
	Err error
}

// QueueStats is a snapshot of one queue. Its numbers are those of [Stats].
type QueueStats struct {
	Name                          string
	Ready, Scheduled, Held, Final int64
	Bytes                         int64 // the sizes of all of them
	Running, Overdue              int
	Handler                       bool // whether it has one
	OldestWaiting                 time.Time
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
		if !info.Oldest.IsZero() && (q.OldestWaiting.IsZero() || info.Oldest.Before(q.OldestWaiting)) {
			q.OldestWaiting = info.Oldest
		}
	}
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
	if !q.OldestWaiting.IsZero() && (st.OldestWaiting.IsZero() || q.OldestWaiting.Before(st.OldestWaiting)) {
		st.OldestWaiting = q.OldestWaiting
	}
	st.Queues = append(st.Queues, *q)
}

// counts is the part of Stats that is in memory.
func (s *Scheduler) counts() Stats {
	st := Stats{Outcomes: map[RecordType]int64{}, Records: s.recorder.waiting.Load(), Dropped: s.recorder.dropped.Load()}
	for t, n := range s.recorder.taken {
		if v := n.Load(); v > 0 {
			st.Outcomes[t] = v
		}
	}
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
