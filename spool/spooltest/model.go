package spooltest

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A model is what a store must hold by the contract. It is written to be read
// beside the contract, and not to be fast.
type model struct {
	entries map[spool.ID]*modelled
	bodies  map[spool.ID]string // what is stored, and what is staged
}

// A modelled entry is one that is stored.
type modelled struct {
	// e is never changed, only replaced. As long as nobody owns the entry its
	// Rev may have grown.
	e      *spool.Entry
	owner  *owner // nil: nobody
	marked bool   // between Started and Ended
}

func newModel() *model {
	return &model{entries: make(map[spool.ID]*modelled), bodies: make(map[spool.ID]string)}
}

// ids returns the IDs of all entries in their order.
func (m *model) ids() []spool.ID {
	return slices.SortedFunc(maps.Keys(m.entries), func(a, b spool.ID) int { return bytes.Compare(a[:], b[:]) })
}

// refers reports whether an entry refers to a body, which is stored then.
func (m *model) refers(body spool.ID) bool {
	for _, s := range m.entries {
		if s.e.Body == body {
			return true
		}
	}
	return false
}

// judge says what Apply answers to a unit: nil if it applies it.
func (m *model) judge(by *owner, u spool.Unit) error {
	for _, c := range u {
		stored := m.entries[c.Entry.ID]
		switch {
		case c.Op == spool.Insert:
			if stored != nil {
				return spool.ErrExists
			}
		case c.Op == spool.Remove && stored == nil:
			continue
		case stored == nil || stored.owner != by || stored.e.Rev != c.Entry.Rev:
			return spool.ErrFenced
		}
		if puts(c.Op) && c.Stage == nil && !m.refers(c.Entry.Body) {
			return spool.ErrNotFound
		}
	}
	return nil
}

// apply carries out a unit. The bodies that its Stages bring are known already.
func (m *model) apply(by *owner, u spool.Unit) {
	for _, c := range u {
		id := c.Entry.ID
		switch {
		case c.Op == spool.Remove:
			delete(m.entries, id)
		case c.Op == spool.Release:
			m.entries[id].owner = nil
		default:
			e := c.Entry.Clone()
			e.Size = int64(len(e.Header)) + int64(len(m.bodies[e.Body])) - e.Skip
			now := &modelled{e: e}
			if before := m.entries[id]; before != nil {
				now.marked = before.marked
			}
			if c.Keep {
				now.owner = by
			}
			m.entries[id] = now
		}
	}
}

func puts(op spool.Op) bool { return op == spool.Insert || op == spool.Update }

// disown is what the end of an owner does. With counted it died while the
// handlers of the marked entries ran.
func (m *model) disown(by *owner, counted bool) {
	for _, s := range m.entries {
		if s.owner != by {
			continue
		}
		s.owner = nil
		if s.marked && counted {
			s.e = s.e.Clone()
			s.e.Interrupted++
		}
		s.marked = false
	}
}

// claimable returns what a Claim could take now, Final entries apart from
// those that are due, which are in the order of Due. next is when the first of
// the others falls due, zero if there is none.
func (m *model) claimable(req spool.ClaimRequest) (finals, due []*spool.Entry, next time.Time) {
	for _, id := range m.ids() {
		s := m.entries[id]
		switch {
		case s.owner != nil:
		case s.e.State == spool.Final:
			finals = append(finals, s.e)
		case !matches(req, s.e):
		case !s.e.Due.After(req.Due):
			due = append(due, s.e)
		case next.IsZero() || s.e.Due.Before(next):
			next = s.e.Due
		}
	}
	slices.SortStableFunc(due, func(a, b *spool.Entry) int { return a.Due.Compare(b.Due) })
	return finals, due, next
}

// matches reports whether a request selects an entry, were it due.
func matches(req spool.ClaimRequest, e *spool.Entry) bool {
	return e.State == spool.Queued &&
		(req.Queues == nil || slices.Contains(req.Queues, e.Queue)) &&
		!slices.Contains(req.Except, e.Queue) &&
		(req.Class == "" || e.Class == req.Class)
}

// infos returns what Queues yields.
func (m *model) infos() []spool.QueueInfo {
	type key struct {
		queue, class string
		state        spool.State
	}
	all := make(map[key]spool.QueueInfo)
	for _, s := range m.entries {
		e := s.e
		k := key{e.Queue, e.Class, e.State}
		info, found := all[k]
		if !found {
			info = spool.QueueInfo{Queue: e.Queue, Class: e.Class, State: e.State, Oldest: e.Received}
		}
		info.Entries++
		info.Bytes += e.Size
		if e.Received.Before(info.Oldest) {
			info.Oldest = e.Received
		}
		if s.owner == nil && (info.NextDue.IsZero() || e.Due.Before(info.NextDue)) {
			info.NextDue = e.Due
		}
		all[k] = info
	}
	return slices.Collect(maps.Values(all))
}
