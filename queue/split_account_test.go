package queue

import (
	"context"
	"slices"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A splitSpool tells the model what is applied, and does not always answer so.
type splitSpool struct {
	*spool.Memory
	m *splitModel
}

func (s *splitSpool) Apply(ctx context.Context, units ...spool.Unit) (errs []error) {
	if units[0][0].Op == spool.Release {
		return s.Memory.Apply(ctx, units...)
	}
	failed := false
	for _, u := range units {
		err := s.apply(ctx, u)
		errs, failed = append(errs, err), failed || err != nil
	}
	if !failed {
		return nil
	}
	return errs
}

func (s *splitSpool) apply(ctx context.Context, u spool.Unit) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.answers.IntN(30)
	switch {
	case m.calm:
		n = 29
	case m.script && m.point() == 1:
		n = 3
	case m.script && m.point() == 1:
		n = 5
	case m.script:
		n = 29
	}
	switch n {
	case 0, 1, 2:
		return []error{spool.ErrFull, spool.ErrBusy, spool.ErrAmbiguous}[n]
	case 3:
		m.die()
	}
	do := u
	if n == 4 { // the caller does not learn what was done
		do = slices.Clone(u)
		for i := range do {
			do[i].Entry = do[i].Entry.Clone()
		}
	}
	if errs := s.Memory.Apply(ctx, do); errs != nil {
		return errs[0]
	}
	m.applied(do)
	switch n {
	case 4:
		return spool.ErrAmbiguous
	case 5:
		m.die()
	}
	return nil
}

// applied follows the recipients through a unit. mu is held.
func (m *splitModel) applied(u spool.Unit) {
	was := map[string]spool.Entry{}
	for _, c := range u {
		if e, ok := m.live[c.Entry.ID]; ok {
			for _, r := range addresses(e.Envelope) {
				was[r] = e
			}
		}
		delete(m.live, c.Entry.ID)
	}
	groups := map[string]bool{}
	goesOn, original, moved, copies := false, false, "", ""
	for _, c := range u {
		if c.Op == spool.Remove {
			continue
		}
		e := *c.Entry.Clone()
		m.live[e.ID] = e
		rcpts := addresses(e.Envelope)
		before, known := was[rcpts[0]]
		switch {
		case !known && c.Op == spool.Insert && strings.HasPrefix(rcpts[0], "copy"):
			copies += e.Meta["call"]
			continue
		case before.Queue == Deferred && e.Queue != Deferred:
			moved += e.Meta["call"]
			if e.Queue != domainOf(rcpts[0]) || e.Attempts != 0 {
				m.t.Errorf("%v moved to %s with %d attempts", rcpts, e.Queue, e.Attempts)
			}
		case before.Rev == 0 && c.Op == spool.Insert && before.ID == e.ID: // it was kept, and is stored now
			for _, r := range rcpts {
				delete(was, r)
			}
			continue
		default:
			goesOn = goesOn || e.State != spool.Final
			original = original || e.State != spool.Final && e.ID == before.ID
			m.checkStays(before, e)
		}
		key := m.keys[rcpts[0]]
		for _, r := range rcpts {
			if was[r].ID != before.ID || m.keys[r] != key && e.Interrupted == 0 {
				m.t.Errorf("%v with other verdicts are together", rcpts)
			}
			delete(was, r)
		}
		if groups[key] && e.Interrupted == 0 && key != "" {
			m.t.Errorf("two messages for the verdict %s", key)
		}
		groups[key] = true
	}
	if copies != moved {
		m.t.Errorf("calls %q moved on with messages emitted by %q", moved, copies)
	}
	if goesOn && !original {
		m.t.Error("what goes on has lost its ID")
	}
	for r, e := range was {
		m.checkEnd(r, e)
	}
}

// checkStays checks what stays in its queue, or ends there.
func (m *splitModel) checkStays(before, e spool.Entry) {
	kind := "transient"
	if e.State != spool.Queued {
		kind = "hold"
	}
	if e.State == spool.Final {
		var r Record
		if err := r.UnmarshalJSON(e.Outcome); err != nil || r.ID != e.ID || !slices.Equal(r.Recipients, addresses(e.Envelope)) {
			m.t.Errorf("the outcome of %s is %s: %v", e.ID, e.Outcome, err)
		}
		kind = map[RecordType]string{Bounce: "reject", AdminBounce: "drop", Expiration: "transient"}[r.Type]
	}
	attempts := before.Attempts
	if kind == "transient" || kind == "reject" {
		attempts++
	}
	if e.Interrupted == 1 { // processes died
		kind = m.said[e.Envelope.Recipients[0].Address]
	}
	if said := m.said[e.Envelope.Recipients[0].Address]; said != kind || e.Attempts != attempts || e.Queue != before.Queue || e.Meta["call"] != before.Meta["call"] {
		m.t.Errorf("%v are %s (%s) in %s after %d attempts, metadata %v; they were in %s after %d, and told %s",
			addresses(e.Envelope), e.State, kind, e.Queue, e.Attempts, e.Meta, before.Queue, before.Attempts, said)
	}
}

// checkEnd checks that a recipient that is nowhere any more has ended.
func (m *splitModel) checkEnd(r string, e spool.Entry) {
	if end, ok := m.ended[r]; ok {
		m.t.Errorf("%s has a second end; the first was %s", r, end)
	}
	m.ended[r] = Delivery
	if e.State == spool.Final {
		m.ended[r] = Bounce
		if m.told[r] == 0 {
			m.t.Errorf("%s was removed without a record", r)
		}
	} else if m.said[r] != "success" || e.Queue == Deferred {
		m.t.Errorf("%s is lost in %s; it was told %s", r, e.Queue, m.said[r])
	}
}

func (m *splitModel) judge() {
	for _, e := range m.w.entries() {
		if stored, ok := m.live[e.ID]; !ok || stored.State != spool.Held || e.State != spool.Held {
			m.t.Errorf("%s is left %s in %s for %v: %q", e.ID, e.State, e.Queue, addresses(e.Envelope), e.LastError)
		}
		delete(m.live, e.ID)
	}
	if len(m.live) > 0 {
		m.t.Errorf("%d messages are not where they should be", len(m.live))
	}
	for r, end := range m.ended {
		if n := m.told[r]; n > 1 && !m.crash || n == 0 && (!m.crash || end != Delivery) {
			m.t.Errorf("%d records of the end of %s", n, r)
		}
	}
}
