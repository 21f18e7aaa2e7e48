package queue

import (
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

// marks says to the spool which entries have a running handler. It counts,
// because a message that was stored in its next queue may run there before the
// handler that has put it there is done with: the mark is then taken away by the
// later of the two.
type marks struct {
	starter spool.Starter // nil if the spool keeps no marks
	mu      struct {
		sync.Mutex
		running map[spool.ID]int
	}
}

func newMarks(sp spool.Spool) *marks {
	m := &marks{}
	m.starter, _ = sp.(spool.Starter)
	m.mu.running = map[spool.ID]int{}
	return m
}

func (m *marks) started(id spool.ID) {
	if m.starter == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.running[id]++
	if m.mu.running[id] == 1 {
		m.starter.Started(id)
	}
}

func (m *marks) ended(id spool.ID) {
	if m.starter == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.running[id]--; m.mu.running[id] == 0 {
		delete(m.mu.running, id)
		m.starter.Ended(id)
	}
}
