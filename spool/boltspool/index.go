package boltspool

import (
	"math"

	"github.com/deferredqueue/deferredqueue/spool"
)

// never is the key of what holds nothing that can be claimed.
const never = math.MaxInt64

// slotID names an entry in the index. Four bytes instead of a pointer, and
// nothing for the garbage collector to follow.
type slotID uint32

// A slot is what stays in memory of one entry: 64 bytes, beside its place in
// the map and in a heap.
type slot struct {
	id       spool.ID
	due      int64 // Unix nanoseconds
	received int64
	size     int64
	rev      uint64
	group    *group
	pos      int32 // in the heap of its group and state; -1 while it is owned
	state    spool.State
	owned    bool
}

const slotsPerChunk = 1024

// An index finds entries by ID and by due time. Memory is what it costs: the
// records stay in the file. Its owner locks it.
type index struct {
	byID   map[spool.ID]slotID
	chunks []*[slotsPerChunk]slot
	free   []slotID
	queues map[string]*queue
	due    heap[*queue]
	finals map[*group]struct{} // groups with Final entries that nobody owns
}

func newIndex() *index {
	return &index{
		byID:   make(map[spool.ID]slotID),
		queues: make(map[string]*queue),
		finals: make(map[*group]struct{}),
	}
}

// A queue orders the groups of one queue by when their first entry falls due.
type queue struct {
	name    string
	classes map[string]*group
	due     heap[*group]
	pos     int32
	ages    ages // of the entries that are Queued
}

func (q *queue) key() int64    { return q.due[0].key() } // never without a group
func (q *queue) place() *int32 { return &q.pos }

// A group holds the entries of one queue and class.
type group struct {
	queue  *queue
	class  string
	states [spool.Final + 1]tally
	pos    int32
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
	oldest  int64 // no entry was received before; reset when there is none
	next    int64 // due time of the first in the heap, or never
	heap    []slotID
}

func (t *tally) key() int64 {
	if len(t.heap) == 0 {
		return never
	}
	return t.next
}

func (x *index) slot(n slotID) *slot { return &x.chunks[n/slotsPerChunk][n%slotsPerChunk] }

// find returns the entry with this ID, or nil.
func (x *index) find(id spool.ID) *slot {
	n, ok := x.byID[id]
	if !ok {
		return nil
	}
	return x.slot(n)
}

func (x *index) alloc() slotID {
	if n := len(x.free); n > 0 {
		s := x.free[n-1]
		x.free = x.free[:n-1]
		return s
	}
	first := slotID(len(x.chunks) * slotsPerChunk)
	x.chunks = append(x.chunks, new([slotsPerChunk]slot))
	for i := first + slotsPerChunk - 1; i > first; i-- {
		x.free = append(x.free, i)
	}
	return first
}

// An item is what the index is told of an entry.
type item struct {
	id            spool.ID
	due, received int64
	size          int64
	rev           uint64
	state         spool.State
	owned         bool
}

// put inserts an entry or replaces the one with the same ID.
func (x *index) put(it item, queue, class []byte) {
	n, ok := x.byID[it.id]
	if ok {
		x.detach(n)
	} else {
		n = x.alloc()
		x.byID[it.id] = n
	}
	g := x.group(queue, class)
	*x.slot(n) = slot{id: it.id, due: it.due, received: it.received, size: it.size, rev: it.rev,
		state: it.state, owned: it.owned, group: g, pos: -1}
	t := &g.states[it.state]
	if t.entries == 0 || it.received < t.oldest {
		t.oldest = it.received
	}
	t.entries++
	t.bytes += it.size
	if it.state == spool.Queued {
		g.queue.ages.add(it.received)
	}
	if !it.owned {
		x.enqueue(n)
	}
}

// remove forgets an entry.
func (x *index) remove(id spool.ID) {
	n, ok := x.byID[id]
	if !ok {
		return
	}
	x.detach(n)
	delete(x.byID, id)
	*x.slot(n) = slot{}
	x.free = append(x.free, n)
}

// detach takes an entry out of its group, and a group that is empty then out of
// its queue.
func (x *index) detach(n slotID) {
	s := x.slot(n)
	if s.pos >= 0 {
		x.dequeue(n)
	}
	g := s.group
	t := &g.states[s.state]
	t.entries--
	t.bytes -= s.size
	q := g.queue
	if s.state == spool.Queued {
		q.ages.remove(s.received)
	}
	if !g.empty() {
		return
	}
	q.due.remove(g)
	delete(q.classes, g.class)
	if len(q.classes) == 0 {
		x.due.remove(q)
		delete(x.queues, q.name)
		return
	}
	x.due.fix(q)
}

// group returns the group of this name, which it makes if need be.
func (x *index) group(queueName, class []byte) *group {
	q := x.queues[string(queueName)]
	if q == nil {
		q = &queue{name: string(queueName), classes: make(map[string]*group)}
		x.queues[q.name] = q
		g := newGroup(q, string(class))
		x.due.push(q)
		return g
	}
	if g := q.classes[string(class)]; g != nil {
		return g
	}
	return newGroup(q, string(class))
}

func newGroup(q *queue, class string) *group {
	g := &group{queue: q, class: class}
	q.classes[class] = g
	q.due.push(g)
	return g
}

// own takes an entry out of its heap: somebody works on it.
func (x *index) own(n slotID) {
	x.dequeue(n)
	x.slot(n).owned = true
}

// release puts an entry that is owned back.
func (x *index) release(id spool.ID) bool {
	n, ok := x.byID[id]
	if !ok || !x.slot(n).owned {
		return false
	}
	x.slot(n).owned = false
	x.enqueue(n)
	return true
}

func (x *index) enqueue(n slotID) {
	s := x.slot(n)
	t := &s.group.states[s.state]
	t.heap = append(t.heap, n)
	s.pos = int32(len(t.heap) - 1)
	x.up(t.heap, len(t.heap)-1)
	x.headChanged(s.group, s.state)
}

func (x *index) dequeue(n slotID) {
	s := x.slot(n)
	t := &s.group.states[s.state]
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
	}
	x.headChanged(s.group, s.state)
}

// headChanged brings everything above a heap of entries into order.
func (x *index) headChanged(g *group, state spool.State) {
	t := &g.states[state]
	if len(t.heap) > 0 {
		t.next = x.slot(t.heap[0]).due
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

func (x *index) earlier(h []slotID, i, j int) bool { return x.slot(h[i]).due < x.slot(h[j]).due }

func (x *index) swap(h []slotID, i, j int) {
	h[i], h[j] = h[j], h[i]
	x.slot(h[i]).pos, x.slot(h[j]).pos = int32(i), int32(j)
}

func (x *index) up(h []slotID, i int) {
	for i > 0 && x.earlier(h, i, (i-1)/2) {
		x.swap(h, i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (x *index) down(h []slotID, i int) {
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
