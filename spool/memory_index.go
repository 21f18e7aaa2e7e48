package spool

import (
	"bytes"
	"container/heap"
	"time"
)

// A memIndex finds the next entry to claim in logarithmic time: entries that
// nobody owns wait in the lineup of their group, groups in the lineup of their
// queue and of their class, queues in the lineup of all queues, each in the
// order of its first entry. Guarded by memStore.mu.
type memIndex struct {
	groups  map[memKey]*memGroup          // all that have an entry
	queues  map[string]*memQueue          // with Queued entries waiting
	classes map[string]*lineup[*memGroup] // likewise
	order   lineup[*memQueue]             // of queues
	finals  lineup[*memGroup]             // with Final entries waiting
}

type memKey struct {
	queue, class string
	state        State
}

// A memGroup holds the entries of one queue, class and state.
type memGroup struct {
	key            memKey
	entries, bytes int64
	oldest         time.Time         // no later than the earliest Received
	oldestGone     bool              // an entry received then was dropped
	waiting        lineup[*memEntry] // those that nobody owns
	placeInQueue   int               // or in memIndex.finals
	placeInClass   int
}

// A memQueue is one queue that has Queued entries waiting.
type memQueue struct {
	groups lineup[*memGroup]
	place  int
}

func newMemIndex() memIndex {
	return memIndex{
		groups:  make(map[memKey]*memGroup),
		queues:  make(map[string]*memQueue),
		classes: make(map[string]*lineup[*memGroup]),
		order: lineup[*memQueue]{
			first: func(q *memQueue) *memEntry { return q.groups.items[0].waiting.items[0] },
			place: func(q *memQueue) *int { return &q.place },
		},
		finals: groupLineup(func(g *memGroup) *int { return &g.placeInQueue }),
	}
}

func groupLineup(place func(*memGroup) *int) lineup[*memGroup] {
	return lineup[*memGroup]{
		first: func(g *memGroup) *memEntry { return g.waiting.items[0] },
		place: place,
	}
}

// add takes up a stored entry.
func (x *memIndex) add(e *memEntry) {
	key := memKey{e.Queue, e.Class, e.State}
	g := x.groups[key]
	if g == nil {
		g = &memGroup{key: key, placeInQueue: -1, placeInClass: -1, oldest: e.Received}
		g.waiting.first = func(e *memEntry) *memEntry { return e }
		g.waiting.place = func(e *memEntry) *int { return &e.place }
		x.groups[key] = g
	}
	g.entries++
	g.bytes += e.Size
	if e.Received.Before(g.oldest) {
		g.oldest = e.Received
	}
	e.group = g
	e.place = -1
	x.settle(e)
}

// drop forgets an entry, which does not wait: who removes it owns it.
func (x *memIndex) drop(e *memEntry) {
	g := e.group
	g.entries--
	g.bytes -= e.Size
	g.oldestGone = g.oldestGone || e.Received.Equal(g.oldest)
	if g.entries == 0 {
		delete(x.groups, g.key)
	}
}

// age finds out the oldest entry of each group that has lost it.
func (x *memIndex) age(entries map[ID]*memEntry) {
	lost := make(map[*memGroup]bool)
	for _, g := range x.groups {
		if g.oldestGone {
			lost[g] = true
			g.oldestGone = false
		}
	}
	if len(lost) == 0 {
		return
	}
	for _, e := range entries {
		g := e.group
		if first := lost[g]; first || e.Received.Before(g.oldest) {
			g.oldest = e.Received
			delete(lost, g)
		}
	}
}

// settle makes an entry claimable or not, as its owner and its damage say.
func (x *memIndex) settle(e *memEntry) {
	e.group.waiting.put(e, e.owner == nil && !e.aside)
	x.reorder(e.group)
}

// reorder puts a group where its first entry belongs.
func (x *memIndex) reorder(g *memGroup) {
	waits := len(g.waiting.items) > 0
	switch g.key.state {
	case Final:
		x.finals.put(g, waits)
	case Queued:
		x.reorderQueue(g, waits)
		x.reorderClass(g, waits)
	}
}

func (x *memIndex) reorderQueue(g *memGroup, waits bool) {
	q := x.queues[g.key.queue]
	if q == nil {
		q = &memQueue{place: -1, groups: groupLineup(func(g *memGroup) *int { return &g.placeInQueue })}
		x.queues[g.key.queue] = q
	}
	q.groups.put(g, waits)
	used := len(q.groups.items) > 0
	x.order.put(q, used)
	if !used {
		delete(x.queues, g.key.queue)
	}
}

func (x *memIndex) reorderClass(g *memGroup, waits bool) {
	c := x.classes[g.key.class]
	if c == nil {
		l := groupLineup(func(g *memGroup) *int { return &g.placeInClass })
		c = &l
		x.classes[g.key.class] = c
	}
	c.put(g, waits)
	if len(c.items) == 0 {
		delete(x.classes, g.key.class)
	}
}

// next returns the entry that req claims next, were it due; nil if none waits.
func (x *memIndex) next(req *ClaimRequest, except map[string]bool) *memEntry {
	if len(x.finals.items) > 0 {
		return x.finals.first(x.finals.items[0])
	}
	skip := func(g *memGroup) bool { return except[g.key.queue] }
	switch {
	case req.Queues != nil:
		return x.nextIn(req, except)
	case req.Class != "":
		if c := x.classes[req.Class]; c != nil {
			return c.least(0, skip)
		}
		return nil
	default:
		return x.order.least(0, func(q *memQueue) bool { return skip(q.groups.items[0]) })
	}
}

// nextIn is next for a request that lists its queues.
func (x *memIndex) nextIn(req *ClaimRequest, except map[string]bool) *memEntry {
	var least *memEntry
	for _, name := range req.Queues {
		q := x.queues[name]
		if q == nil || except[name] {
			continue
		}
		g := q.groups.items[0]
		if req.Class != "" {
			g = x.groups[memKey{name, req.Class, Queued}]
		}
		if g == nil || len(g.waiting.items) == 0 {
			continue
		}
		least = earlier(least, g.waiting.items[0])
	}
	return least
}

// earlier returns the one of two entries, either of which may be nil, that is
// claimed first.
func earlier(a, b *memEntry) *memEntry {
	if a == nil || b != nil && b.before(a) {
		return b
	}
	return a
}

func (e *memEntry) before(other *memEntry) bool {
	if d := e.Due.Compare(other.Due); d != 0 {
		return d < 0
	}
	return bytes.Compare(e.ID[:], other.ID[:]) < 0
}

// A lineup is a heap of what has a first entry, in the order of that entry.
// Each item keeps its place, so that it can be moved and taken out.
type lineup[T any] struct {
	items []T
	first func(T) *memEntry // undefined for what is not in the lineup
	place func(T) *int      // -1: not in the lineup
}

// put brings x, whose first entry may have changed, to where it belongs.
func (l *lineup[T]) put(x T, in bool) {
	place := *l.place(x)
	switch {
	case in && place < 0:
		heap.Push(l, x)
	case in:
		heap.Fix(l, place)
	case place >= 0:
		heap.Remove(l, place)
	}
}

// least returns the first entry of those at place i and below that skip does
// not leave out. It looks at no more than twice what skip leaves out.
func (l *lineup[T]) least(i int, skip func(T) bool) *memEntry {
	if i >= len(l.items) {
		return nil
	}
	if !skip(l.items[i]) {
		return l.first(l.items[i])
	}
	return earlier(l.least(2*i+1, skip), l.least(2*i+2, skip))
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (l *lineup[T]) Len() int           { return len(l.items) }
func (l *lineup[T]) Less(i, j int) bool { return l.first(l.items[i]).before(l.first(l.items[j])) }

func (l *lineup[T]) Swap(i, j int) {
	l.items[i], l.items[j] = l.items[j], l.items[i]
	*l.place(l.items[i]), *l.place(l.items[j]) = i, j
}

func (l *lineup[T]) Push(x any) {
	*l.place(x.(T)) = len(l.items)
	l.items = append(l.items, x.(T))
}

func (l *lineup[T]) Pop() any {
	last := len(l.items) - 1
	x := l.items[last]
	var none T
	l.items[last] = none
	l.items = l.items[:last]
	*l.place(x) = -1
	return x
}
