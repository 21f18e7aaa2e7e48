package queue

import (
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// times is what a Scheduler counts beside its work. It never waits.
type times struct {
	untilInject histogram
	inject      histogram
	handlers    histogram // but for the inject callback's
	retries     map[RetryCause]*atomic.Int64
}

// start makes the counters, which are never replaced.
func (t *times) start() {
	t.retries = map[RetryCause]*atomic.Int64{}
	for _, cause := range retryCauses {
		t.retries[cause] = new(atomic.Int64)
	}
}

// waited is called before each attempt. It counts the first one of a message
// that waits for the inject callback, which no trace of another one is left of.
func (t *times) waited(e *spool.Entry) {
	if e.Queue == Deferred && e.Attempts == 0 && e.Interrupted == 0 && e.LastError == "" {
		t.untilInject.add(time.Since(e.Received))
	}
}

// handled is called when a handler has returned, in whatever way.
func (t *times) handled(queue string, took time.Duration) {
	if queue == Deferred {
		t.inject.add(took)
	} else {
		t.handlers.add(took)
	}
}

func (t *times) retry(causes []RetryCause) {
	for _, cause := range causes {
		t.retries[cause].Add(1)
	}
}

// count fills in the part of Stats that is counted here.
func (t *times) count(st *Stats) {
	st.UntilInject = t.untilInject.snapshot()
	st.InjectTime = t.inject.snapshot()
	st.HandlerTime = t.handlers.snapshot()
	st.Retries = map[RetryCause]int64{}
	for cause, n := range t.retries {
		if v := n.Load(); v > 0 {
			st.Retries[cause] = v
		}
	}
}
