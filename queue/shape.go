package queue

import (
	"container/heap"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Reconfigure asks [Options.Configure] again for every queue in use, and has what
// it says count at once for what is queued: a rate, Concurrency, MaxReady and
// Weights for what waits, and what comes of a failure for what runs. Running
// handlers keep their deadlines, and none is stopped for a lower Concurrency.
func (s *Scheduler) Reconfigure() {
	var back []*spool.Entry
	now := time.Now()
	s.mu.Lock()
	for _, q := range s.mu.queues {
		q.configure(s.opts.Configure(q.name), now)
		s.dispatch(q)
		if trimmed := s.trim(q); len(trimmed) > 0 {
			back = append(back, trimmed...)
		} else if q.full {
			s.takeIn(q)
		}
		s.forget(q)
	}
	s.claimAt(time.Time{})
	s.mu.Unlock()
	s.release(back)
}

// takeToken reports whether the rate of q allows a start now. If not, the loop
// comes back to q when it does. mu is held.
func (s *Scheduler) takeToken(q *queueState) bool {
	if q.limiter == nil {
		return true
	}
	now := time.Now()
	wait := q.limiter.take(now)
	if wait > 0 {
		s.wakeQueue(q, now.Add(wait))
	}
	return wait == 0
}

// wakeQueue has the loop come back to q at a time. mu is held.
func (s *Scheduler) wakeQueue(q *queueState, at time.Time) {
	q.wakeAt = at
	if q.wakeIndex < 0 {
		heap.Push(&s.mu.throttled, q)
	} else {
		heap.Fix(&s.mu.throttled, q.wakeIndex)
	}
	if q.wakeIndex == 0 {
		s.kick()
	}
}

func (s *Scheduler) unthrottle(q *queueState) {
	if q.wakeIndex >= 0 {
		heap.Remove(&s.mu.throttled, q.wakeIndex)
	}
}

// wakeQueues goes on with the queues whose rate allows it. mu is held.
func (s *Scheduler) wakeQueues(now time.Time) {
	for len(s.mu.throttled) > 0 && !s.mu.throttled[0].wakeAt.After(now) {
		q := heap.Pop(&s.mu.throttled).(*queueState)
		s.dispatch(q)
		s.forget(q)
	}
}

// queueHeap orders queues by when their rate allows something.
type queueHeap []*queueState

func (h queueHeap) Len() int           { return len(h) }
func (h queueHeap) Less(i, k int) bool { return h[i].wakeAt.Before(h[k].wakeAt) }
func (h queueHeap) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].wakeIndex, h[k].wakeIndex = i, k
}
func (h *queueHeap) Push(x any) {
	q := x.(*queueState)
	q.wakeIndex = len(*h)
	*h = append(*h, q)
}
func (h *queueHeap) Pop() any {
	old := *h
	q := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	q.wakeIndex = -1
	return q
}
