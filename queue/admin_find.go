package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func errNotFound(id spool.ID) error {
	return fmt.Errorf("queue: message %s: %w", id, spool.ErrNotFound)
}

// find returns a clone of one message.
func (s *Scheduler) find(ctx context.Context, id spool.ID) (*spool.Entry, error) {
	found, err := s.lookup(ctx, map[spool.ID]bool{id: true})
	if err != nil {
		return nil, err
	}
	if e := found[id]; e != nil && e.Queue != Suspensions {
		return e, nil
	}
	return nil, errNotFound(id)
}

// farBetween is how many entries lookup passes by before it rather begins a new scan.
const farBetween = 1024

// lookup returns the messages with these IDs that are there, owned or not.
func (s *Scheduler) lookup(ctx context.Context, wanted map[spool.ID]bool) (map[spool.ID]*spool.Entry, error) {
	found := map[spool.ID]*spool.Entry{}
	if len(wanted) == 0 {
		return found, nil
	}
	kept, err := s.kept.entries(ctx) // before the spool, which has what is stored meanwhile
	if err != nil {
		return nil, err
	}
	for _, e := range kept {
		if wanted[e.ID] {
			found[e.ID] = e
		}
	}
	ids := sortedIDs(slices.Collect(maps.Keys(wanted)))
	for len(ids) > 0 {
		if ids, err = s.lookupSome(ctx, ids, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// lookupSome looks for IDs, which are sorted, in one scan, and returns those that it
// has not come to.
func (s *Scheduler) lookupSome(ctx context.Context, ids []spool.ID, found map[spool.ID]*spool.Entry) ([]spool.ID, error) {
	passed := 0
	if ids[0].IsZero() { // no message has it, and nothing comes before it
		return ids[1:], nil
	}
	for e, err := range s.spool.Scan(ctx, spool.Query{After: before(ids[0])}) {
		var damage *spool.CorruptError
		switch {
		case errors.As(err, &damage) && damage.ID == ids[0]:
			return nil, err
		case errors.As(err, &damage):
			continue
		case err != nil:
			return nil, err
		}
		for len(ids) > 0 && compareIDs(ids[0], e.ID) < 0 {
			ids = ids[1:]
		}
		if len(ids) > 0 && ids[0] == e.ID {
			found[e.ID] = e
			ids, passed = ids[1:], 0
		}
		if passed++; len(ids) == 0 || passed > farBetween {
			return ids, nil
		}
	}
	return nil, context.Cause(ctx)
}

// A lister makes one page of a list.
type lister struct {
	s      *Scheduler
	filter Filter
	now    time.Time
	after  spool.ID
	limit  int

	page   []*spool.Entry
	damage []error
}

// collect merges what is in memory alone with what is stored.
func (l *lister) collect(ctx context.Context) error {
	if l.filter.IDs != nil {
		return l.collectIDs(ctx)
	}
	kept, err := l.s.kept.entries(ctx) // before the spool, which has what is stored meanwhile
	if err != nil {
		return err
	}
	for e, err := range l.s.spool.Scan(ctx, spool.Query{Queue: l.filter.Queue, After: l.after}) {
		var damage *spool.CorruptError
		switch {
		case errors.As(err, &damage):
			l.damaged(err)
			continue
		case err != nil:
			return err
		}
		for len(kept) > 0 && compareIDs(kept[0].ID, e.ID) <= 0 {
			if kept[0].ID != e.ID && !l.add(kept[0]) {
				return nil
			}
			kept = kept[1:]
		}
		if !l.add(e) {
			return nil
		}
	}
	for len(kept) > 0 && l.add(kept[0]) {
		kept = kept[1:]
	}
	return context.Cause(ctx)
}

// collectIDs makes a page of messages that are named.
func (l *lister) collectIDs(ctx context.Context) error {
	ids := sortedIDs(l.filter.IDs)
	for len(ids) > 0 && compareIDs(ids[0], l.after) <= 0 {
		ids = ids[1:]
	}
	for len(ids) > 0 {
		some := ids[:min(len(ids), actionPage)]
		ids = ids[len(some):]
		wanted := make(map[spool.ID]bool, len(some))
		for _, id := range some {
			wanted[id] = true
		}
		found, err := l.s.lookup(ctx, wanted)
		if err != nil {
			return err
		}
		for _, id := range some {
			if e := found[id]; e != nil && !l.add(e) {
				return nil
			}
		}
	}
	return nil
}

// add adds a message that is selected to the page, and reports whether there is room
// for more.
func (l *lister) add(e *spool.Entry) (more bool) {
	if compareIDs(e.ID, l.after) > 0 && l.filter.matches(e, l.now) {
		l.page = append(l.page, e)
	}
	return len(l.page) < l.limit
}

func (l *lister) damaged(err error) {
	if len(l.damage) < maxResultErrors {
		l.damage = append(l.damage, err)
	}
}

// infos returns the page for those who asked for it.
func (l *lister) infos() []Info {
	configs := map[string]Config{}
	infos := make([]Info, len(l.page))
	index := make(map[spool.ID]*Info, len(infos))
	for i, e := range l.page {
		c, ok := configs[e.Queue]
		if !ok {
			c = l.s.opts.Configure(e.Queue).withDefaults(e.Queue)
			configs[e.Queue] = c
		}
		infos[i] = Info{
			ID: e.ID, Queue: e.Queue, Class: e.Class, State: e.State, Stored: true,
			Received: e.Received, Age: l.now.Sub(e.Received), Due: e.Due, Expires: endOfLife(e, c),
			Attempts: e.Attempts, Interrupted: e.Interrupted, LastError: e.LastError,
			Envelope: e.Envelope, Meta: e.Meta, Size: e.Size,
		}
		index[e.ID] = &infos[i]
	}
	l.s.kept.each(func(e *spool.Entry) {
		if m := index[e.ID]; m != nil {
			m.Stored = false
		}
	})
	l.s.place(index)
	return infos
}

// place says of messages where they are here.
func (s *Scheduler) place(index map[spool.ID]*Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, m := range index {
		m.Handler = s.handler(m.Queue) != nil
		_, m.Suspended = s.mu.suspended[m.Queue]
		if s.mu.working[id] > 0 {
			m.Place = PlaceRunning
		}
	}
	waiting := func(j *job) {
		if m := index[j.entry.ID]; m != nil {
			m.Place = PlaceWaiting
		}
	}
	for _, q := range s.mu.queues {
		q.ready.each(waiting)
	}
	for _, j := range s.mu.later {
		waiting(j)
	}
}
