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

// A tally counts the entries of a group in one state, and orders those that
// nobody owns by due time. Due times lie beside the slots so that sifting
// touches one array.
type tally struct {
	entries int
	bytes   int64
	oldest  int64 // no entry was received before; reset when there is none
	due     []slotID
}

func (t *tally) key() int64 {
	if len(t.due) == 0 {
		return never
	}
	return 0
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
