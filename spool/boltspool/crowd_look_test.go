package boltspool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A crowdLook is what a crowd finds when it looks.
type crowdLook struct {
	*crowd
	s      *Spool
	found  map[spool.ID]*spool.Entry
	region bool // damage of which no entry is known: it may have taken any

	rebuilt bool // what has ended may come back
}

// look opens the spool and compares, with a new index if rebuilt.
func (c *crowd) look(rebuilt bool) error {
	o := c.options(c.fs)
	o.manual = true
	if rebuilt {
		o.index = simIndex{c.fs, c.fs, false}
		if _, err := Rebuild(c.dir, o); err != nil {
			return fmt.Errorf("Rebuild: %w", err)
		}
	}
	before, err := c.glance(o)
	if err != nil {
		return err
	}
	s, err := Open(c.dir, o)
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	defer s.Close()
	l := &crowdLook{crowd: c, s: s, rebuilt: rebuilt, found: map[spool.ID]*spool.Entry{}}
	if err := checkMemory(s); err != nil {
		return err
	}
	if err := l.scan(); err != nil {
		return err
	}
	if !maps.EqualFunc(before, l.found, sameEntry) {
		return fmt.Errorf("with ReadOnly there are %d entries, and without %d", len(before), len(l.found))
	}
	for id, e := range l.found {
		if err := l.isExpected(id, e); err != nil {
			return err
		}
	}
	for _, m := range c.clients {
		if err := l.isAll(m); err != nil {
			return err
		}
		l.forgetDamaged(m)
		if err := m.resolve(l.found); err != nil {
			return err
		}
	}
	return nil
}

// isDamage reports whether an error is that of damage that was done.
func (l *crowdLook) isDamage(err error) bool {
	var corrupt *spool.CorruptError
	return l.harmed && errors.As(err, &corrupt)
}

func (l *crowdLook) scan() error {
	for e, err := range l.s.Scan(context.Background(), spool.Query{}) {
		var corrupt *spool.CorruptError
		switch {
		case err == nil:
			l.found[e.ID] = e
		case l.harmed && errors.As(err, &corrupt):
			l.region = l.region || l.clientOf(corrupt.ID) == nil // the ID may be what is damaged
			l.suspect[corrupt.ID] = true
			l.reports++
		default:
			return fmt.Errorf("Scan: %w", err)
		}
	}
	return nil
}

// isExpected checks an entry that is there.
func (l *crowdLook) isExpected(id spool.ID, e *spool.Entry) error {
	m := l.clientOf(id)
	switch {
	case l.suspect[id]:
		return nil
	case m == nil:
		return fmt.Errorf("entry %s was never stored, and is there", id)
	case m.done[id] && !l.region && !l.rebuilt:
		return fmt.Errorf("entry %s was removed, and is there", id)
	case m.done[id]:
		l.suspect[id] = true
		return nil
	}
	err := m.readable(l.s, e)
	if l.isDamage(err) {
		l.suspect[id] = true
		l.reports++
		return nil
	}
	return err
}

// isAll checks that everything that a client has stored is there.
func (l *crowdLook) isAll(m *sim) error {
	for id, want := range m.entries {
		switch {
		case m.maybe[id], l.suspect[id], sameEntry(l.found[id], want):
		case l.region:
			l.suspect[id] = true
		default:
			return fmt.Errorf("entry %s: got %+v, want %+v", id, l.found[id], want)
		}
	}
	return nil
}

// forgetDamaged drops the units of which nobody knows whether they were stored, if
// damage may have taken a part of them.
func (l *crowdLook) forgetDamaged(m *sim) {
	m.unsure = slices.DeleteFunc(m.unsure, func(u unsure) bool {
		ids := map[spool.ID]bool{}
		for _, e := range slices.Concat(u.before, u.after) {
			if e != nil {
				ids[e.ID] = true
			}
		}
		damaged := l.region
		for id := range ids {
			damaged = damaged || l.suspect[id]
		}
		if damaged {
			maps.Copy(l.suspect, ids)
		}
		return damaged
	})
}

func (c *crowd) clientOf(id spool.ID) *sim {
	for _, m := range c.clients {
		if m.entries[id] != nil || m.maybe[id] || m.done[id] {
			return m
		}
	}
	return nil
}
