package boltspool_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// check compares the spool that a host has left with the one that it found, by
// what it told in between.
func (k *killTest) check(events []hostEvent) {
	k.t.Helper()
	byID := map[spool.ID][]hostEvent{}
	for _, ev := range events {
		switch ev.Kind {
		case "opening", "opened", "listening", "mark", "sync failed", string(queue.Reception), string(queue.Rejection):
		case "notice":
			k.notices[ev.ID] = ev.Of
		default:
			byID[ev.ID] = append(byID[ev.ID], ev)
		}
	}
	before, after := k.entries, k.scan()
	k.entries = after
	ids := map[spool.ID]bool{}
	for id := range byID {
		ids[id] = true
	}
	for id := range before {
		ids[id] = true
	}
	for id := range after {
		ids[id] = true
	}
	k.bag.mu.Lock()
	defer k.bag.mu.Unlock()
	for id := range k.bag.mu.acked {
		if !k.ended[id] {
			ids[id] = true
		}
	}
	for id := range ids {
		if _, ok := k.notices[id]; ok {
			continue // of no client, and stored with the end of another message
		}
		if err := k.checkMessage(id, before[id], after[id], byID[id]); err != nil {
			k.t.Errorf("message %s (%s): %v\nbefore: %+v\nafter: %+v\nevents: %+v",
				id, k.bag.mu.kinds[id], err, before[id], after[id], byID[id])
		}
	}
}

// checkMessage follows one message through one life of the host. The lock of
// the mailbag is held.
func (k *killTest) checkMessage(id spool.ID, before, after *spool.Entry, events []hostEvent) error {
	if k.ended[id] {
		return errors.New("it had ended, and came back")
	}
	m := life{k: k, id: id, queue: queue.Deferred}
	if before != nil {
		m.queue, m.attempts, m.due = before.Queue, before.Attempts, before.Due
		m.interrupted, m.final = before.Interrupted, before.State == spool.Final
		m.exact = true
	}
	for _, ev := range events {
		if err := m.event(ev); err != nil {
			return fmt.Errorf("%s: %w", ev.Kind, err)
		}
	}
	if m.running && m.outcome == "" {
		k.cut++
	}
	if after == nil {
		_, acked := k.bag.mu.acked[id]
		if !m.mayEnd() && (acked || before != nil) {
			return errors.New("lost")
		}
		k.ended[id] = true
		return nil
	}
	return m.left(after)
}

// A life is what must be true of a message while one host has it.
type life struct {
	k           *killTest
	id          spool.ID
	queue       string
	attempts    int // failed ones, in queue
	interrupted int
	due         time.Time // not before
	exact       bool      // due is what is stored
	final       bool      // a stored verdict ends it
	bounced     bool      // and was recorded
	done        bool      // Delivery by the last queue was recorded

	running bool   // an attempt started whose verdict is not known to be stored
	outcome string // of that attempt, if its handler came so far
	decided time.Time
}

func (m *life) event(ev hostEvent) error {
	if m.done && ev.Kind != string(queue.TransientFailure) {
		return errors.New("the message is gone already")
	}
	switch ev.Kind {
	case "start":
		return m.start(ev)
	case "ok", "fail", "reject":
		if !m.running || m.outcome != "" || ev.Queue != m.queue || ev.Attempt != m.attempts+1 {
			return errors.New("a verdict of no attempt")
		}
		m.outcome, m.decided = ev.Kind, ev.Time
	case string(queue.TransientFailure):
		return m.failed(ev)
	case string(queue.Delivery):
		return m.delivered(ev)
	case string(queue.Bounce):
		if m.outcome != "reject" && !m.final || ev.Queue != queue.Deferred {
			return errors.New("nobody has rejected it")
		}
		m.bounced = true
	default:
		return errors.New("want no such record")
	}
	return nil
}

// start checks an attempt: its number, its time and its content. The record of
// the one before may still be on its way.
func (m *life) start(ev hostEvent) error {
	m.k.starts++
	switch {
	case m.outcome == "ok" && m.queue == queue.Deferred:
		m.rebound()
	case m.outcome == "fail":
		m.backedOff(m.decided, false)
	case m.interrupted >= 2 && ev.Attempt == m.attempts+2:
		m.backedOff(time.Time{}, false)
	}
	switch {
	case m.running:
		return errors.New("the attempt before has not ended")
	case m.final:
		return errors.New("it had its final verdict")
	case m.interrupted >= 2:
		return errors.New("two hosts died of it, which counts as a failed attempt")
	case ev.Queue != m.queue || ev.Attempt != m.attempts+1:
		return fmt.Errorf("attempt %d in queue %s, want %d in %s", ev.Attempt, ev.Queue, m.attempts+1, m.queue)
	case ev.Time.Before(m.due):
		return fmt.Errorf("%v before it was due", m.due.Sub(ev.Time))
	}
	m.running, m.outcome = true, ""
	return m.content(ev)
}

// content: what the client sent, below trace fields, below the edits of the
// inject callback if, and only if, that has succeeded.
func (m *life) content(ev hostEvent) error {
	sum, acked := m.k.bag.mu.acked[m.id]
	switch {
	case acked && ev.Digest != sum, !m.k.bag.mu.sent[ev.Digest]:
		return errors.New("the content is not what was sent")
	case !strings.Contains(ev.Front, "Received: from client.example") || !strings.Contains(ev.Front, "id "+m.id.String()):
		return fmt.Errorf("the trace fields are missing: %q", ev.Front)
	}
	signed := strings.Count(ev.Front, processed+": "+m.id.String())
	if ev.Queue == outQueue && signed != 1 || ev.Queue == queue.Deferred && signed != 0 {
		return fmt.Errorf("in queue %s with %d fields of the inject callback", ev.Queue, signed)
	}
	return nil
}

// failed takes the record of a failed attempt: it tells what is stored.
func (m *life) failed(ev hostEvent) error {
	poison := m.interrupted >= 2
	switch {
	case ev.Queue == queue.Deferred && m.queue == outQueue, ev.Queue == m.queue && ev.Attempt <= m.attempts:
		return nil // what came later was faster than the record
	case ev.Queue != m.queue:
		return fmt.Errorf("in queue %s, want %s", ev.Queue, m.queue)
	case ev.Attempt != m.attempts+1:
		return fmt.Errorf("%d attempts failed, want %d", ev.Attempt, m.attempts+1)
	case m.outcome != "fail" && !poison:
		return errors.New("no attempt failed")
	}
	m.backedOff(ev.Time, true)
	return nil
}

// backedOff counts a failed attempt.
func (m *life) backedOff(at time.Time, exact bool) {
	m.attempts++
	m.due, m.exact = at.Add(hostBackoff(m.k.Base).Delay(m.attempts)), exact
	m.interrupted = min(1, m.interrupted/2)
	m.running, m.outcome = false, ""
}

func (m *life) delivered(ev hostEvent) error {
	if ev.Queue == queue.Deferred && m.queue == outQueue {
		return nil // the next queue was faster than the record
	}
	if m.outcome != "ok" || ev.Queue != m.queue {
		return errors.New("no attempt succeeded")
	}
	if m.queue == outQueue {
		m.done = true
		return nil
	}
	m.rebound()
	return nil
}

// rebound moves the message on.
func (m *life) rebound() {
	m.queue, m.attempts, m.interrupted = outQueue, 0, 0
	m.due, m.exact = time.Time{}, false
	m.running, m.outcome = false, ""
}

// mayEnd: the message may have left the spool.
func (m *life) mayEnd() bool {
	return m.done || m.bounced || m.queue == outQueue && m.outcome == "ok"
}

// left compares the message with the entry that the host has left.
func (m *life) left(e *spool.Entry) error {
	switch {
	case m.done:
		return errors.New("delivered, recorded and still there")
	case e.Interrupted > 2:
		return fmt.Errorf("%d hosts died of it in a row", e.Interrupted)
	case e.State == spool.Final:
		if !m.final && m.outcome != "reject" {
			return errors.New("final, but nobody has rejected it")
		}
		return nil
	case e.State != spool.Queued || m.final || m.bounced:
		return errors.New("in a state that no verdict has brought about")
	case e.Queue == m.queue && e.Attempts == m.attempts:
		return m.unchanged(e)
	case e.Queue == outQueue && m.queue == queue.Deferred && m.outcome == "ok":
		m.rebound()
	case e.Queue == m.queue && m.outcome == "fail":
		m.backedOff(m.decided, false)
	case e.Queue == m.queue && m.interrupted >= 2:
		m.backedOff(time.Time{}, false)
	}
	return m.changed(e)
}

// unchanged: no verdict was stored since the last that is known. An attempt
// that was cut short counts as interrupted, once, unless the host closed the
// spool.
func (m *life) unchanged(e *spool.Entry) error {
	switch {
	case m.exact && !e.Due.Equal(m.due):
		return fmt.Errorf("due at %v, want %v", e.Due, m.due)
	case m.running && !m.k.closed && e.Interrupted != m.interrupted+1:
		return fmt.Errorf("interrupted %d times, want %d", e.Interrupted, m.interrupted+1)
	case e.Interrupted != m.interrupted && e.Interrupted != m.interrupted+1:
		return fmt.Errorf("interrupted %d times, want %d or one more", e.Interrupted, m.interrupted)
	}
	return nil
}

// changed: a verdict was stored of which no record came.
func (m *life) changed(e *spool.Entry) error {
	switch {
	case e.Queue != m.queue || e.Attempts != m.attempts:
		return fmt.Errorf("%d failed attempts in queue %s, want %d in %s", e.Attempts, e.Queue, m.attempts, m.queue)
	case e.Due.Before(m.due):
		return fmt.Errorf("due at %v, want %v or later", e.Due, m.due)
	case e.Interrupted > m.interrupted+1:
		return fmt.Errorf("interrupted %d times, want at most %d", e.Interrupted, m.interrupted+1)
	}
	return nil
}
