package boltspool

import (
	"fmt"
	"math"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A group is what one sync of the log makes durable. Each unit is judged against
// the state that the units before it leave, and takes effect as a whole or not
// at all. Nothing of it shows before the sync.
type group struct {
	s        *Spool
	units    []*unit // that take effect
	entries  map[spool.ID]shadow
	refs     map[index.BodyRef]int // changes of the references to stored bodies
	brought  []*broughtBody        // in the order of the log
	moves    []*move               // that are made, before the units
	grows    bool                  // units that need new space are among them
	leaves   bool                  // and new mail, or what is moved: it leaves all the room that is kept
	bytes    int64                 // of blocks and of bodies in segments
	blocks   int                   // of that, of blocks
	appended bool

	// What write needs, kept for the next group.
	payload []byte
	list    []record.Body
	data    []seglog.Body
}

// A shadow is an entry as the group leaves it.
type shadow struct {
	stored, owned bool
	rev           uint64 // unknownRev for one that the group has changed
	body          bodyUse
}

func (sh *shadow) ownedAt(rev uint64) bool { return sh.owned && sh.rev == rev }

func fenced(e *spool.Entry) error {
	return fmt.Errorf("boltspool: entry %s at revision %d: %w", e.ID, e.Rev, spool.ErrFenced)
}

// unknownRev is the revision of what is not stored yet: nobody can name it.
const unknownRev = math.MaxUint64

// A bodyUse is a body that an entry refers to: one that is stored, or one that
// the group brings.
type bodyUse struct {
	ref     index.BodyRef
	brought *broughtBody
}

// A broughtBody is a body that becomes durable with the group. It is a part of
// its writer.
type broughtBody struct {
	stage *writer
	group *group // that it is in
	size  int64
	refs  int
	ref   index.BodyRef // once it is published
}

// reset makes g ready for another group.
func (g *group) reset() {
	g.s.mu.Lock()
	g.s.mu.judged = nil
	g.s.mu.Unlock()
	for _, b := range g.brought {
		b.group = nil
	}
	clear(g.units)
	clear(g.brought)
	clear(g.moves)
	clear(g.data)
	g.units, g.brought, g.moves = g.units[:0], g.brought[:0], g.moves[:0]
	clear(g.entries)
	clear(g.refs)
	g.grows, g.leaves, g.appended, g.bytes, g.blocks = false, false, false, 0, 0
}

func newGroup(s *Spool) *group {
	return &group{s: s, entries: make(map[spool.ID]shadow), refs: make(map[index.BodyRef]int)}
}

// commit makes durable what takes effect of some requests. After an error
// nothing has.
func (g *group) commit(reqs []*request, refuse refusal) error {
	defer g.reset()
	g.judge(reqs, refuse)
	start, err := g.write()
	if err != nil {
		return err
	}
	g.publish(start)
	for _, r := range reqs {
		for i := range r.units {
			if u := &r.units[i]; u.err == nil {
				u.settleStages(stored)
			}
		}
	}
	return nil
}

// judge decides which units take effect.
func (g *group) judge(reqs []*request, refuse refusal) {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	g.s.mu.judged = g
	for _, r := range reqs {
		if r.moveErr = refuse.growth; r.moveErr == nil {
			g.judgeMoves(r.moves)
		}
	}
	used := g.s.mu.index.Bytes()
	for _, r := range reqs {
		for i := range r.units {
			u := &r.units[i]
			if u.err = u.invalid; u.err != nil {
				continue
			}
			if u.err = refuse.of(u); u.err != nil {
				continue
			}
			if u.err = g.judgeUnit(u); u.err != nil {
				continue
			}
			if u.err = g.s.admit(u, used); u.err != nil {
				continue
			}
			used += u.growth
			g.accept(u)
		}
	}
}

// lookup returns an entry as the units before left it. The caller holds mu.
func (g *group) lookup(id spool.ID) shadow {
	if sh, ok := g.entries[id]; ok {
		return sh
	}
	return g.s.lookup(id)
}

// lookup returns an entry as it stands. The caller holds mu.
func (s *Spool) lookup(id spool.ID) shadow {
	if _, ok := s.mu.damaged[id]; ok {
		return shadow{stored: true}
	}
	if e, ok := s.mu.index.Find(id); ok {
		return shadow{true, e.Owned, e.Rev, bodyUse{ref: e.Body}}
	}
	return shadow{}
}

// judgeUnit finds out whether a unit can be applied, and changes nothing but the
// unit.
func (g *group) judgeUnit(u *unit) error {
	for i := range u.changes {
		c := &u.changes[i]
		c.old, c.gone = g.lookup(c.entry.ID), false
		switch {
		case c.op == spool.Insert && c.old.stored:
			return fmt.Errorf("boltspool: entry %s: %w", c.entry.ID, spool.ErrExists)
		case c.op == spool.Remove && !c.old.stored:
			c.gone = true
			continue
		case c.op != spool.Insert && !c.old.ownedAt(c.entry.Rev):
			return fenced(c.entry)
		}
		if !c.puts() {
			continue
		}
		if err := g.resolve(u, i); err != nil {
			return err
		}
		size, lost := g.bodySize(c.body)
		if c.entry.Skip > size && !lost {
			return fmt.Errorf("boltspool: entry %s skips %d bytes of a body of %d", c.entry.ID, c.entry.Skip, size)
		}
		c.size = int64(len(c.entry.Header)) + max(size-c.entry.Skip, 0)
	}
	return nil
}

// resolve finds the body of change i of a unit.
func (g *group) resolve(u *unit, i int) error {
	c := &u.changes[i]
	id := c.entry.Body
	if b := g.findBrought(id, c.stage); b != nil {
		c.body = bodyUse{brought: b}
		return nil
	}
	x := g.s.mu.index
	if ref, ok := x.FindBody(id); ok && (c.stage != nil || x.Body(ref).Refs+g.refs[ref] > 0) {
		if c.stage != nil && c.stage.state == staging { // it was never stored: the index has another by that half of its ID
			return fmt.Errorf("boltspool: body %s: the ID of another begins differently and ends as this one", id)
		}
		c.body = bodyUse{ref: ref}
		return nil
	}
	if c.stage == nil || c.stage.state != staging {
		return fmt.Errorf("boltspool: body %s of entry %s: %w", id, c.entry.ID, spool.ErrNotFound)
	}
	b := &c.stage.brought
	*b = broughtBody{stage: c.stage, size: c.stage.size()}
	c.body = bodyUse{brought: b}
	return nil
}

// findBrought returns the body with this ID that units before have brought.
func (g *group) findBrought(id spool.ID, stage *writer) *broughtBody {
	if stage != nil {
		if b := &stage.brought; b.group == g {
			return b
		}
		return nil
	}
	for _, b := range g.brought {
		if b.stage.id == id && b.refs > 0 {
			return b
		}
	}
	return nil
}

// bodySize returns the size of a body, unless damage has made it unknown.
func (g *group) bodySize(use bodyUse) (size int64, lost bool) {
	if use.brought != nil {
		return use.brought.size, false
	}
	b := g.s.mu.index.Body(use.ref)
	return b.Size, b.Lost()
}

// accept notes what a unit does.
func (g *group) accept(u *unit) {
	g.units = append(g.units, u)
	g.grows = g.grows || u.grows
	g.leaves = g.leaves || u.grows && u.fresh
	g.bytes += int64(len(u.block))
	g.blocks += len(u.block)
	for i := range u.changes {
		c := &u.changes[i]
		if c.gone {
			continue
		}
		after := shadow{stored: c.op != spool.Remove, owned: c.keep, rev: unknownRev, body: c.old.body}
		switch {
		case c.puts():
			after.body = c.body
			g.refer(c.body, 1)
			if c.op == spool.Update {
				g.refer(c.old.body, -1)
			}
		case c.op == spool.Remove:
			g.refer(c.old.body, -1)
		case c.op == spool.Release:
			after.owned, after.rev = false, c.old.rev
		}
		g.entries[c.entry.ID] = after
	}
}

// refer counts references to a body.
func (g *group) refer(use bodyUse, n int) {
	b := use.brought
	if b == nil {
		g.refs[use.ref] += n
		return
	}
	b.refs += n
	if b.group != g {
		b.group = g
		g.brought = append(g.brought, b)
		if b.stage.big == nil {
			g.bytes += seglog.FrameSize(b.size)
		}
	}
}
