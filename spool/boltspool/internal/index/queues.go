package index

import (
	"slices"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A queue orders the groups of one queue by when their first entry falls due.
type queue struct {
	name    string
	due     heap[*group]      // all of its groups
	classes map[string]*group // the same by class; nil while they are few
	pos     int32
	ages    ages // of the entries that are Queued
}

// fewClasses is up to how many groups a queue has no map of them.
const fewClasses = 8

func (q *queue) key() int64    { return q.due[0].key() } // never without a group
func (q *queue) place() *int32 { return &q.pos }

// class returns the group with this name, or nil.
func (q *queue) class(name string) *group {
	if q.classes != nil {
		return q.classes[name]
	}
	for _, g := range q.due {
		if g.class == name {
			return g
		}
	}
	return nil
}

func (q *queue) add(g *group) {
	q.due.push(g)
	if q.classes == nil && len(q.due) > fewClasses {
		q.classes = make(map[string]*group)
		for _, g := range q.due {
			q.classes[g.class] = g
		}
	}
	if q.classes != nil {
		q.classes[g.class] = g
	}
}

func (q *queue) remove(g *group) {
	q.due.remove(g)
	delete(q.classes, g.class)
}

// A group holds the entries of one queue and class.
type group struct {
	queue  *queue
	class  string
	number uint32
	pos    int32
	states [spool.Final + 1]tally
}

func (g *group) key() int64    { return g.states[spool.Queued].key() }
func (g *group) place() *int32 { return &g.pos }

func (g *group) empty() bool {
	n := 0
	for i := range g.states {
		n += g.states[i].entries
	}
	return n == 0
}

// A tally counts the entries of a group in one state, and holds a heap of those
// that nobody owns, the earliest due first.
type tally struct {
	entries int
	bytes   int64
	oldest  uint32 // no entry was received before; reset when there is none
	next    int64  // due time of the first in the heap, or never
	heap    []uint32
}

func (t *tally) key() int64 {
	if len(t.heap) == 0 {
		return never
	}
	return t.next
}

// group returns the group of this name, which it makes if need be.
func (x *Index) group(queueName, class string) *group {
	q := x.queues[queueName]
	if q != nil {
		if g := q.class(class); g != nil {
			return g
		}
	}
	g := &group{class: strings.Clone(class)}
	if n := len(x.spare); n > 0 {
		g.number, x.spare = x.spare[n-1], x.spare[:n-1]
		x.groups[g.number] = g
	} else {
		g.number = uint32(len(x.groups))
		x.groups = append(x.groups, g)
	}
	if q != nil {
		g.queue = q
		q.add(g)
		return g
	}
	q = &queue{name: strings.Clone(queueName)}
	g.queue = q
	x.queues[q.name] = q
	q.add(g)
	x.due.push(q)
	return g
}

// dissolve forgets a group that is empty, and its queue if that was its last.
func (x *Index) dissolve(g *group) {
	q := g.queue
	q.remove(g)
	x.groups[g.number] = nil
	x.spare = append(x.spare, g.number)
	if len(q.due) == 0 {
		x.due.remove(q)
		delete(x.queues, q.name)
		return
	}
	x.due.fix(q)
}

func (x *Index) enqueue(n uint32) {
	s := x.slots.at(n)
	g := x.groups[s.group]
	t := &g.states[s.state]
	t.heap = append(t.heap, n)
	s.pos = int32(len(t.heap) - 1)
	x.up(t.heap, len(t.heap)-1)
	if s.pos == 0 {
		x.headChanged(g, s.state)
	}
}

func (x *Index) dequeue(n uint32) {
	s := x.slots.at(n)
	g := x.groups[s.group]
	t := &g.states[s.state]
	i, last := int(s.pos), len(t.heap)-1
	x.swap(t.heap, i, last)
	t.heap = t.heap[:last]
	if i < last {
		x.up(t.heap, i)
		x.down(t.heap, i)
	}
	s.pos = -1
	if last == 0 {
		t.heap = nil
	} else if cap(t.heap) > 1024 && last < cap(t.heap)/4 {
		t.heap = slices.Clone(t.heap)
	}
	if i == 0 {
		x.headChanged(g, s.state)
	}
}

// headChanged brings everything above a heap of entries into order.
func (x *Index) headChanged(g *group, state spool.State) {
	t := &g.states[state]
	if len(t.heap) > 0 {
		t.next = x.slots.at(t.heap[0]).due
	}
	switch {
	case state == spool.Queued:
		g.queue.due.fix(g)
		x.due.fix(g.queue)
	case state == spool.Final && len(t.heap) > 0:
		x.finals[g] = struct{}{}
	case state == spool.Final:
		delete(x.finals, g)
	}
}

func (x *Index) earlier(h []uint32, i, j int) bool {
	return x.slots.at(h[i]).due < x.slots.at(h[j]).due
}

func (x *Index) swap(h []uint32, i, j int) {
	h[i], h[j] = h[j], h[i]
	x.slots.at(h[i]).pos, x.slots.at(h[j]).pos = int32(i), int32(j)
}

func (x *Index) up(h []uint32, i int) {
	for i > 0 && x.earlier(h, i, (i-1)/2) {
		x.swap(h, i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (x *Index) down(h []uint32, i int) {
	for {
		c := 2*i + 1
		if c+1 < len(h) && x.earlier(h, c+1, c) {
			c++
		}
		if c >= len(h) || !x.earlier(h, c, i) {
			return
		}
		x.swap(h, i, c)
		i = c
	}
}

// infosPart is how many groups Infos looks at.
const infosPart = 1024

// Infos returns what is counted, for each queue, class and state of some groups from
// a position on, and the position to go on from, 0 at the end.
func (x *Index) Infos(from uint32) (infos []spool.QueueInfo, next uint32) {
	end := min(from+infosPart, uint32(len(x.groups)))
	for _, g := range x.groups[min(from, end):end] {
		if g == nil {
			continue
		}
		for state := range g.states {
			if t := &g.states[state]; t.entries > 0 {
				infos = append(infos, t.info(g, spool.State(state)))
			}
		}
	}
	if end == uint32(len(x.groups)) {
		return infos, 0
	}
	return infos, end
}

func (t *tally) info(g *group, state spool.State) spool.QueueInfo {
	oldest := t.oldest
	if state == spool.Queued { // both are times before which nothing was received
		oldest = max(oldest, uint32(g.queue.ages.oldest()))
	}
	info := spool.QueueInfo{
		Queue: g.queue.name, Class: g.class, State: state,
		Entries: int64(t.entries), Bytes: t.bytes, Oldest: fromSeconds(oldest),
	}
	if k := t.key(); k != never {
		info.NextDue = fromInstant(k)
	}
	return info
}
