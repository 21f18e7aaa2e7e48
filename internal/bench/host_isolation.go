package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/deferredqueue/deferredqueue/queue"
)

// warmUps is how many messages pass before each turn and are not measured: the other
// variant's turn has left the process asleep and the caches cold. With a first message
// in every hundred that would be what p99 shows.
const warmUps = 5

// pass accepts n messages one by one, each when the one before is done, and
// measures how they get on.
func (h *queueHost) pass(ctx context.Context, n int) (*passResult, error) {
	for i := range warmUps + n {
		if i == warmUps {
			h.mu.Lock()
			h.result = &passResult{}
			h.mu.Unlock()
		}
		if err := h.accept(ctx, ""); err != nil {
			return nil, err
		}
		if err := h.await(ctx, 1); err != nil {
			return nil, err
		}
	}
	if err := h.checkStuck(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.result, nil
}

// checkStuck reports when what is to be stuck is not: then nothing was measured beside it.
func (h *queueHost) checkStuck() error {
	if h.config.Fill == 0 {
		return nil
	}
	st := h.sched.Stats()
	for _, q := range st.Queues {
		if q.Name == hungQueue && q.Running == min(h.config.Fill, hungSlots) && q.Ready+q.Scheduled+int64(q.Running) == int64(h.config.Fill) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("bench: not all of %d messages are stuck: %+v", h.config.Fill, st.Queues), st.Err)
}

// inject is the callback of isolation.
func (h *queueHost) inject(_ context.Context, m *queue.Message) error {
	took := h.clock(m.ID)
	h.mu.Lock()
	h.result.Accepted.Record(took)
	h.mu.Unlock()
	m.Meta["queue"] = nextQueue
	h.note(m.ID)
	return nil
}

// next is the handler to which it sends on.
func (h *queueHost) next(_ context.Context, m *queue.Message) error {
	took := h.clock(m.ID)
	h.mu.Lock()
	h.result.Rebound.Record(took)
	h.mu.Unlock()
	h.ended <- struct{}{}
	return nil
}
