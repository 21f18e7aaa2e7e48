package spool

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"time"
)

// passed is the next of a claim that left something behind.
var passed = time.Unix(0, 0)

// Claim implements [Spool]. It takes logarithmic time per entry claimed, and
// does not wait. Rev grows with it, as in any shared spool.
func (m *Memory) Claim(ctx context.Context, req ClaimRequest) (entries []*Entry, next time.Time, err error) {
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, time.Time{}, err
	}
	if req.IDs != nil {
		entries, err = m.claimIDs(req.IDs)
		return entries, time.Time{}, err
	}

	except := make(map[string]bool, len(req.Except))
	for _, name := range req.Except {
		except[name] = true
	}
	due := func(e *memEntry) bool { return e.State == Final || !e.Due.After(req.Due) }
	var errs []error
	e := s.index.next(&req, except)
	for e != nil && due(e) && len(entries) < req.Limit {
		if claimed, err := m.claim(e); err != nil {
			errs = append(errs, err)
		} else {
			entries = append(entries, claimed)
		}
		e = s.index.next(&req, except)
	}
	switch {
	case e == nil:
	case due(e):
		next = passed
	default:
		next = e.Due
	}
	return entries, next, errors.Join(errs...)
}

// claimIDs claims those of ids that are stored and that nobody owns, in the
// order of any other claim.
func (m *Memory) claimIDs(ids []ID) (entries []*Entry, err error) {
	var found []*memEntry
	for _, id := range ids {
		if e := m.store.entries[id]; e != nil && e.owner == nil && !e.aside {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b *memEntry) int {
		switch {
		case a == b:
			return 0
		case a.State == Final != (b.State == Final):
			if a.State == Final {
				return -1
			}
			return 1
		case a.before(b):
			return -1
		}
		return 1
	})
	var errs []error
	for _, e := range slices.Compact(found) {
		if claimed, err := m.claim(e); err != nil {
			errs = append(errs, err)
		} else {
			entries = append(entries, claimed)
		}
	}
	return entries, errors.Join(errs...)
}

// claim makes m the owner of e, or sets it aside if it is damaged.
func (m *Memory) claim(e *memEntry) (*Entry, error) {
	s := m.store
	if e.damaged {
		e.aside = true
		s.index.settle(e)
		return nil, e.corrupt()
	}
	s.rev++
	e.Rev = s.rev
	e.owner = m
	s.index.settle(e)
	return e.Entry.Clone(), nil
}

// Scan implements [Spool]. It takes a list of the IDs when it starts, and each
// entry as it is when its turn comes. A damaged entry is reported whatever
// q.Queue is: its queue cannot be known.
func (m *Memory) Scan(ctx context.Context, q Query) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		ids, err := m.scanIDs(ctx, q)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, id := range ids {
			e, fatal, err := m.look(ctx, id)
			if e == nil && err == nil || e != nil && q.Queue != "" && e.Queue != q.Queue {
				continue
			}
			if !yield(e, err) || fatal {
				return
			}
		}
	}
}

func (m *Memory) scanIDs(ctx context.Context, q Query) ([]ID, error) {
	ids, err := m.unsortedIDs(ctx, q)
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	return ids, err
}

func (m *Memory) unsortedIDs(ctx context.Context, q Query) ([]ID, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.readable(ctx); err != nil {
		return nil, err
	}
	var ids []ID
	for id, e := range m.store.entries {
		if bytes.Compare(id[:], q.After[:]) > 0 && (q.Queue == "" || e.Queue == q.Queue || e.damaged) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// look returns a clone of an entry, nil if it is not stored any more. A fatal
// error concerns more than that entry.
func (m *Memory) look(ctx context.Context, id ID) (e *Entry, fatal bool, err error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.readable(ctx); err != nil {
		return nil, true, err
	}
	stored := m.store.entries[id]
	switch {
	case stored == nil:
		return nil, false, nil
	case stored.damaged:
		return nil, false, stored.corrupt()
	}
	return stored.Entry.Clone(), false, nil
}

// Queues implements [Spool]. It takes one look when it starts.
func (m *Memory) Queues(ctx context.Context) iter.Seq2[QueueInfo, error] {
	return func(yield func(QueueInfo, error) bool) {
		infos, err := m.queueInfos(ctx)
		if err != nil {
			yield(QueueInfo{}, err)
			return
		}
		for _, info := range infos {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Memory) queueInfos(ctx context.Context) ([]QueueInfo, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.readable(ctx); err != nil {
		return nil, err
	}
	m.store.index.age(m.store.entries)
	infos := make([]QueueInfo, 0, len(m.store.index.groups))
	for key, g := range m.store.index.groups {
		info := QueueInfo{
			Queue: key.queue, Class: key.class, State: key.state,
			Entries: g.entries, Bytes: g.bytes, Oldest: g.oldest,
		}
		if len(g.waiting.items) > 0 {
			info.NextDue = g.waiting.items[0].Due
		}
		infos = append(infos, info)
	}
	return infos, nil
}
