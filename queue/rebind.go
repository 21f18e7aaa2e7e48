package queue

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// succeed is the outcome of a handler's nil: the message moves on with all its
// changes, or an error says why it cannot, which is a transient failure.
func (s *Scheduler) succeed(j *job) (outcome, error) {
	m, now := j.message, time.Now()
	var o outcome
	if err := m.refused(); err != nil {
		return o, err
	}
	next, err := s.bind(m, now)
	if err != nil {
		return o, err
	}
	delivery := newRecord(Delivery, m.entry, now, Response{Code: 250, Enhanced: [3]int{2, 0, 0}, Content: "OK"}, s.opts.NodeID)
	delivery.Headers = s.recordHeaders(m.entry, s.opener(s.hard, j))
	if next == nil {
		o.unit = spool.Unit{{Op: spool.Remove, Entry: m.entry}}
	} else {
		o.entry = next
		o.unit = spool.Unit{{Op: spool.Update, Entry: next, Stage: m.source.stage, Keep: true}}
		delivery.Response.Content = "OK queued as " + next.Queue
	}
	if m.entry.Queue == Deferred {
		delivery.DeliveryProtocol = "DeferredSmtpInjection"
	}
	o.records = append(o.records, delivery)
	for _, c := range m.emits {
		if err := s.checkTarget(c.Entry.Queue); err != nil {
			return o, fmt.Errorf("queue: an emitted message: %w", err)
		}
		c.Keep = true
		o.unit = append(o.unit, c)
		o.received = append(o.received, c.Entry)
	}
	return o, nil
}

// bind returns the entry that a message becomes after success; nil if it is to
// be removed.
func (s *Scheduler) bind(m *Message, now time.Time) (*spool.Entry, error) {
	if m.entry.Queue != Deferred {
		return nil, nil
	}
	if len(m.Envelope.Recipients) == 0 {
		return nil, &causeError{RetryInvalid, errors.New("queue: the handler left the message without a recipient; to end it return queue.Drop")}
	}
	target := route(m.Meta, m.Envelope)
	if err := s.checkTarget(target); err != nil {
		end, otherErr := s.endOfRoad(m)
		if otherErr != nil {
			return nil, otherErr
		}
		if end {
			return nil, nil
		}
		return nil, err
	}
	e := m.edited()
	e.Queue, e.State, e.Attempts, e.Interrupted, e.LastError = target, spool.Queued, 0, 0, ""
	e.Due = now
	if !m.due.IsZero() {
		c := s.opts.Configure(target).withDefaults(target)
		e.Due = cutDue(m.due, now, c)
		if end := endOfLife(e, c); !end.IsZero() && e.Due.After(end) && end.After(now) {
			e.Due = end
		}
	}
	return e, nil
}

// checkTarget says why a message cannot be bound to that queue.
func (s *Scheduler) checkTarget(queue string) error {
	if queue == Deferred {
		return &causeError{RetryRouting, fmt.Errorf("queue: rebinding to %q itself would run the inject callback forever; set another queue in the metadata", queue)}
	}
	if queue == Suspensions {
		return fmt.Errorf("queue: %q holds no messages; set another queue in the metadata", queue)
	}
	if s.handler(queue) == nil {
		return &causeError{RetryRouting, fmt.Errorf("queue: no handler for queue %q; name one with Handle", queue)}
	}
	return nil
}

// endOfRoad reports whether the callback was all that the host does with mail:
// it registered no handler, the callback routed nothing, and no other queue
// holds messages that a forgotten handler should work on.
func (s *Scheduler) endOfRoad(m *Message) (bool, error) {
	if !s.patterns.empty() || routed(m.entry.Meta, m.Meta) {
		return false, nil
	}
	other, err := s.otherQueues()
	return !other, err
}

// otherQueues reports whether the spool holds entries of another queue than
// the deferred one. What it found is believed for a second.
func (s *Scheduler) otherQueues() (bool, error) {
	s.mu.Lock()
	at, other := s.mu.otherAt, s.mu.other
	s.mu.Unlock()
	if !at.IsZero() && time.Since(at) < time.Second {
		return other, nil
	}
	other = false
	for info, err := range s.spool.Queues(s.hard) {
		if err != nil {
			return false, fmt.Errorf("queue: looking for other queues: %w", err)
		}
		if info.Queue != Deferred && info.Queue != Suspensions && info.Entries > 0 {
			other = true
			break
		}
	}
	s.mu.Lock()
	s.mu.otherAt, s.mu.other = time.Now(), other
	s.mu.Unlock()
	return other, nil
}

// refused is the header edit that could not be made, if there was one.
func (m *Message) refused() error {
	if m.header == nil {
		return nil
	}
	if err := m.header.refused(); err != nil {
		return &causeError{RetryInvalid, err}
	}
	return nil
}

// edited returns the entry with all changes that the handler made.
func (m *Message) edited() *spool.Entry {
	e := m.entry.Clone()
	e.Envelope, e.Expires = m.Envelope.Clone(), m.Expires
	e.Meta = maps.Clone(m.Meta)
	e.Header, e.Skip = m.front()
	if m.source.stage != nil {
		e.Body = m.source.stage.ID()
	}
	return e
}
