package queue

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// applied follows the recipients through a unit that p has stored. mu is held.
func (m *model) applied(p *process, u spool.Unit) {
	before, after := map[string]*spool.Entry{}, map[string]*spool.Entry{}
	var order, entered []string
	ended := map[*modelAttempt]bool{}
	emits := map[*modelAttempt]int{}
	for _, c := range u {
		old := m.live[c.Entry.ID]
		switch {
		case c.Op == spool.Release || old == nil && c.Op == spool.Remove && c.Entry.Queue == "":
			continue
		case c.Entry.Queue == Suspensions:
			m.noteSuspension(p, c)
			continue
		case (c.Op == spool.Insert) != (old == nil) && c.Op != spool.Remove:
			m.t.Errorf("op %d of %s, which was %v", c.Op, c.Entry.ID, old)
		}
		if old != nil {
			for _, key := range keysOf(old) {
				before[key] = old
				order = append(order, key)
			}
			delete(m.live, old.ID)
		}
		if c.Op == spool.Remove {
			continue
		}
		e := c.Entry.Clone()
		m.live[e.ID] = e
		if a := m.emitted[e.ID]; a != nil && c.Op == spool.Insert {
			emits[a]++
		}
		for _, key := range keysOf(e) {
			if after[key] != nil {
				m.t.Errorf("%s is twice in a unit", key)
			}
			after[key] = e
			entered = append(entered, key)
		}
	}
	for _, key := range order {
		old := before[key]
		a, err := m.becomes(p, key, old, after[key])
		if err != nil {
			m.t.Errorf("%s of %s: %v\nwas %+v\nis  %+v", key, old.ID, err, old, after[key])
		}
		if a != nil {
			ended[a] = true
		}
	}
	for a := range ended {
		m.settled(a, before, after, emits)
	}
	m.checkNotices(p, u, before, after)
	for _, key := range entered {
		if before[key] == nil {
			m.enters(p, key, after[key], ended)
		}
	}
}

// settled judges what was stored of an attempt as a whole.
func (m *model) settled(a *modelAttempt, before, after map[string]*spool.Entry, emits map[*modelAttempt]int) {
	a.settled = true
	want, retried, keeps := 0, false, false
	for key := range a.verdicts {
		kind, _ := a.says(key)
		if kind == success {
			want = len(a.emits)
		}
		e := after[key]
		again := e != nil && e.State == spool.Queued && e.Queue == a.entry.Queue
		retried = retried || again
		keeps = keeps || again && e.ID == a.entry.ID
	}
	if emits[a] != want {
		m.t.Errorf("call %s of %s: %d of %d emitted messages were stored with it", a.call, a.entry.ID, emits[a], want)
	}
	if retried && !keeps {
		m.t.Errorf("call %s: what is tried again of %s has another ID", a.call, a.entry.ID)
	}
}

// enters judges that a recipient is there for the first time.
func (m *model) enters(p *process, key string, e *spool.Entry, ended map[*modelAttempt]bool) {
	a, o := m.emitted[e.ID], m.offers[e.ID]
	if o == nil {
		o = m.offers[spool.ID{}] // of Submit
	}
	switch fate := m.fates[key]; {
	case fate != "" && fate != isInMemory:
		m.t.Errorf("%s is stored, and was %s before", key, fate)
	case a != nil:
		if !ended[a] {
			m.t.Errorf("%s was emitted by what did not succeed", key)
		}
	case isNotice(e): // see checkNotices
	case o == nil || o.by != p || !slices.Contains(keysOf(o.entry), key):
		m.t.Errorf("nobody has brought %s, which is stored as %+v", key, e)
	case e.Queue != Deferred || e.State != spool.Queued || e.Attempts != 0 || e.Meta["calls"] != "":
		m.t.Errorf("%s begins as %+v", key, e)
	}
	m.fates[key] = isStored
}

// becomes says whether a recipient may go from one stored state to the next, nil for
// removed, and by which attempt. mu is held.
func (m *model) becomes(p *process, key string, old, e *spool.Entry) (*modelAttempt, error) {
	if m.fates[key] != isStored {
		return nil, fmt.Errorf("it was %s", m.fates[key])
	}
	if old.State == spool.Final {
		return nil, m.removed(key, old, e)
	}
	a := m.attempts[old.ID]
	if e == nil {
		if o := m.offers[old.ID]; o != nil && o.revoking && a == nil {
			m.fates[key] = isRevoked
			return nil, nil
		}
	}
	if a != nil && !a.settled && a.by == p {
		return a, m.byAttempt(a, key, old, e)
	}
	if a != nil && !a.by.gone && (a.running || !a.settled && !a.by.ended()) {
		return nil, fmt.Errorf("its handler was called in process %d, and process %d changes it", a.by.number, p.number)
	}
	if e == nil {
		return nil, fmt.Errorf("it vanishes")
	}
	if e.ID != old.ID {
		return nil, fmt.Errorf("it gets another ID")
	}
	if m.crashes >= poisonous && e.Attempts == old.Attempts+1 { // of which the handler is not called
		return nil, cmp.Or(m.isRetry(old, e, e.Due.Add(-1)), m.isDelay(old, e, time.Time{}))
	}
	for action := range m.actions {
		if action.by == p && action.explains(old, e) && (e.Queue != old.Queue || same(key, old, e) == nil) {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("nobody has asked for it")
}

// removed ends what is final.
func (m *model) removed(key string, old, e *spool.Entry) error {
	if e != nil {
		return fmt.Errorf("it goes on after its end")
	}
	if m.finals[old.ID] == "" {
		return fmt.Errorf("it is removed before its record is taken")
	}
	m.fates[key] = string(outcomeType(old))
	return nil
}

func outcomeType(e *spool.Entry) RecordType {
	var r Record
	if err := json.Unmarshal(e.Outcome, &r); err != nil {
		return ""
	}
	return r.Type
}

// same says in what e differs from what was received.
func same(key string, old, e *spool.Entry) error {
	switch {
	case e.Queue != old.Queue:
		return fmt.Errorf("it is in another queue")
	case !maps.Equal(withoutDelay(e.Meta), withoutDelay(old.Meta)), !bytes.Equal(e.Header, old.Header), e.Skip != old.Skip, e.Body != old.Body:
		return fmt.Errorf("its content or metadata changes")
	case e.Class != old.Class, !e.Received.Equal(old.Received), !e.Expires.Equal(old.Expires), e.Envelope.Sender != old.Envelope.Sender:
		return fmt.Errorf("what it was received with changes")
	}
	has := func(e *spool.Entry) string {
		i := slices.Index(keysOf(e), key)
		return e.Envelope.Recipients[i].Address
	}
	if has(old) != has(e) {
		return fmt.Errorf("its address changes")
	}
	return nil
}

// byAttempt judges what becomes of a recipient by what its handler said.
func (m *model) byAttempt(a *modelAttempt, key string, old, e *spool.Entry) error {
	kind, ok := a.says(key)
	switch {
	case !ok:
		return fmt.Errorf("call %s has not returned, or was cancelled", a.call)
	case e != nil && e.ID != old.ID && !a.splits():
		return fmt.Errorf("it gets another ID and was not split")
	case kind == success:
		return m.isSuccess(a, key, old, e)
	case e == nil:
		return fmt.Errorf("it vanishes after verdict %d", kind)
	case kind == transient:
		return cmp.Or(m.isRetry(old, e, a.decided()), m.isDelay(old, e, a.decided()))
	}
	attempts, state, outcome := old.Attempts, spool.Final, AdminBounce
	switch kind {
	case hold:
		state, outcome = spool.Held, ""
	case reject:
		attempts, outcome = old.Attempts+1, Bounce
	}
	if e.State != state || e.Attempts != attempts || outcomeType(e) != outcome {
		return fmt.Errorf("verdict %d makes it %s after %d attempts, %q", kind, e.State, e.Attempts, outcomeType(e))
	}
	return same(key, old, e)
}

func (m *model) isSuccess(a *modelAttempt, key string, old, e *spool.Entry) error {
	if !m.routed || old.Queue != Deferred {
		if e != nil {
			return fmt.Errorf("it stays after its success")
		}
		m.fates[key] = isDelivered
		return nil
	}
	switch {
	case e == nil:
		return fmt.Errorf("it vanishes after the inject callback")
	case e.Queue != a.target || e.State != spool.Queued || e.Attempts != 0:
		return fmt.Errorf("it is rebound to %s, want %s", e.Queue, a.target)
	case e.Meta["calls"] != old.Meta["calls"]+a.call+",":
		return fmt.Errorf("its edits are those of calls %q, want those of %s", e.Meta["calls"], a.call)
	case !a.due.IsZero() && !e.Due.Equal(a.due) && time.Since(old.Received) < modelMaxLife-2*time.Hour && old.Expires.IsZero():
		return fmt.Errorf("it is due at %v, want %v", e.Due, a.due)
	}
	return nil
}

// isRetry judges a failed attempt, which was decided at that time. It may have
// waited for the spool since then.
func (m *model) isRetry(old, e *spool.Entry, decided time.Time) error {
	now := time.Now()
	over := e.Attempts >= modelMaxTry || now.Sub(old.Received) >= modelMaxLife || !old.Expires.IsZero() && !now.Before(old.Expires)
	switch {
	case e.Attempts != old.Attempts+1:
		return fmt.Errorf("a failure makes %d attempts of %d", e.Attempts, old.Attempts)
	case e.State == spool.Final && (!over || outcomeType(e) != Expiration):
		return fmt.Errorf("a failure ends it as %s", outcomeType(e))
	case e.State == spool.Held, e.State == spool.Queued && !e.Due.After(decided):
		return fmt.Errorf("after a failure it is %s, due in %v", e.State, e.Due.Sub(decided))
	}
	return same(keysOf(e)[0], old, e)
}

// recorded judges a record that is taken. mu is held.
func (m *model) recorded(r Record) {
	m.checkOrder(r)
	switch {
	case r.Type == Delivery && (r.Queue != Deferred || !m.routed):
		m.deliveryRecorded(r)
	case r.Type == Bounce, r.Type == AdminBounce, r.Type == Expiration:
		line, err := json.Marshal(r)
		if err != nil {
			m.t.Error(err)
		}
		e, repeated := m.live[r.ID], m.finals[r.ID] == string(line)
		if e == nil && repeated {
			return // by a process that lost its session, after another had recorded and removed the message
		}
		if e == nil || e.State != spool.Final || !bytes.Equal(e.Outcome, line) || !slices.Equal(r.Recipients, addresses(e.Envelope)) {
			m.t.Errorf("the record %s is not what is stored: %+v", line, e)
		}
		if before, ok := m.finals[r.ID]; ok && before != string(line) {
			m.t.Errorf("the end of %s is recorded as %s, and as %s", r.ID, before, line)
		}
		m.finals[r.ID] = string(line)
	}
}

func (m *model) deliveryRecorded(r Record) {
	for _, rcpt := range r.Recipients {
		key := keyOf(rcpt)
		if r.Meta[MetaNotice] != "" {
			key = noticeKey(r.ID)
		}
		m.told[key]++
		a := m.attempts[r.ID]
		kept := m.fates[key] == isInMemory && a != nil && a.light
		if m.fates[key] != isDelivered && !kept {
			m.t.Errorf("%s is recorded as delivered, and is %s", key, m.fates[key])
		}
		if m.told[key] > 1 {
			m.t.Errorf("%s is recorded as delivered %d times", key, m.told[key])
		}
	}
}
