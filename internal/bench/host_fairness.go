package main

import (
	"context"
	"errors"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// errGone says that nothing was measured beside the many.
var errGone = errors.New("bench: none of the many waits any longer: more of them are needed, or a slower handler")

// work is the callback of fairness.
func (h *queueHost) work(ctx context.Context, m *queue.Message) error {
	select {
	case <-time.After(h.config.Handler):
	case <-ctx.Done():
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, measured := h.since[m.ID]; measured {
		delete(h.since, m.ID)
		h.ended <- struct{}{}
	} else {
		h.many++
	}
	return nil
}

// class has some messages of another class come, and waits for them.
func (h *queueHost) class(ctx context.Context, r classRequest) (*classResult, error) {
	h.mu.Lock()
	before := h.many
	h.mu.Unlock()
	begin := time.Now()
	var err error
	if r.Accept {
		for range r.Messages {
			err = errors.Join(err, h.accept(ctx, r.Name))
		}
	} else {
		err = h.fallDue(ctx, r)
	}
	if err == nil {
		err = h.await(ctx, r.Messages)
	}
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if st := h.sched.Stats(); st.Ready+st.Scheduled == 0 {
		return nil, errors.Join(errGone, st.Err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return &classResult{Took: took, Many: h.many - before}, nil
}

// fallDue puts messages into the spool that are due and that nobody owns.
func (h *queueHost) fallDue(ctx context.Context, r classRequest) error {
	body, err := h.sp.Create(ctx, 0)
	if err != nil {
		return err
	}
	defer body.Abort()
	if _, err := body.Write([]byte("Subject: test\r\n\r\nhello\r\n")); err != nil {
		return err
	}
	unit := make(spool.Unit, r.Messages)
	for i := range unit {
		e := waiting(body.ID(), queue.Deferred, r.Name)
		h.note(e.ID)
		unit[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: body}
	}
	return errors.Join(h.sp.Apply(ctx, unit)...)
}
