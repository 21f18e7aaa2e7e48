package index

import (
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// Check counts everything anew, and says what differs from what was counted all
// along. live is what Live was told of each segment. It is slow, and for tests.
func (x *Index) Check(live map[uint32]int64) error {
	c := checker{x: x, refs: map[BodyRef]int{}, live: map[uint32]int64{}, tallies: map[tallyKey]int{}}
	for n := range x.slots.size() {
		if s := x.slots.at(n); s.length > 0 {
			if err := c.slot(n, s); err != nil {
				return err
			}
		}
	}
	if err := c.bodies(); err != nil {
		return err
	}
	if c.entries != x.Len() || c.bytes != x.bytes {
		return fmt.Errorf("%d entries and %d bytes are there, and %d and %d were counted", c.entries, c.bytes, x.Len(), x.bytes)
	}
	for n, bytes := range live {
		if c.live[n] != bytes {
			return fmt.Errorf("%d bytes of segment %d are needed, and %d were counted", c.live[n], n, bytes)
		}
		delete(c.live, n)
	}
	if len(c.live) > 0 {
		return fmt.Errorf("segments are needed that nobody counts: %v", c.live)
	}
	return c.groups()
}

type tallyKey struct {
	group uint32
	state spool.State
}

type checker struct {
	x       *Index
	entries int
	bytes   int64
	refs    map[BodyRef]int
	live    map[uint32]int64
	tallies map[tallyKey]int
}

func (c *checker) slot(n uint32, s *slot) error {
	if got, ok := c.x.find(s.id); !ok || got != n {
		return fmt.Errorf("entry %s is not found by its ID", s.id)
	}
	g := c.x.groups[s.group]
	if isOwned, inHeap := s.flags&owned != 0, s.pos >= 0; isOwned == inHeap || inHeap && g.states[s.state].heap[s.pos] != n {
		return fmt.Errorf("entry %s: owned %v, place in its heap %d", s.id, isOwned, s.pos)
	}
	if _, ok := c.x.revs[n]; ok != (s.flags&moved != 0) || s.flags&(moved|owned) == moved {
		return fmt.Errorf("entry %s was moved %v, and its Rev is kept: %v", s.id, s.flags&moved != 0, ok)
	}
	c.entries++
	c.bytes += s.length.bytes()
	c.live[s.place.Segment()] += s.length.bytes()
	c.refs[BodyRef(s.body)]++
	c.tallies[tallyKey{s.group, s.state}]++
	return nil
}

func (c *checker) bodies() error {
	for ref, n := range c.refs {
		b := c.x.Body(ref)
		if b.Refs != n {
			return fmt.Errorf("a body has %d references, and %d were counted", n, b.Refs)
		}
		c.bytes += b.Size
		if !b.File && !b.Lost() {
			c.live[b.Place.Segment()] += seglog.FrameSize(b.Size)
		}
		key := c.x.bodies.at(uint32(ref)).key
		if got, ok := c.x.byBody.find(hashKey(key), func(n uint32) bool { return n == uint32(ref) }); !ok {
			return fmt.Errorf("body %d, %d is not found by its key", ref, got)
		}
	}
	if len(c.refs) != c.x.bodies.n {
		return fmt.Errorf("entries refer to %d bodies, and there are %d", len(c.refs), c.x.bodies.n)
	}
	for ref := range c.x.files {
		if c.refs[ref] == 0 {
			return fmt.Errorf("a file of a body stays to which nothing refers")
		}
	}
	return nil
}

func (c *checker) groups() error {
	for _, q := range c.x.queues {
		queued := 0
		for _, g := range q.due {
			for state := range g.states {
				if n := c.tallies[tallyKey{g.number, spool.State(state)}]; n != g.states[state].entries {
					return fmt.Errorf("queue %s, class %s has %d entries, and %d were counted", q.name, g.class, n, g.states[state].entries)
				}
			}
			queued += g.states[spool.Queued].entries
		}
		for _, s := range q.ages {
			queued -= s.n
		}
		if queued != 0 {
			return fmt.Errorf("queue %s has %d entries more than it knows the age of", q.name, queued)
		}
	}
	return nil
}
