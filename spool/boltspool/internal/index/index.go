// Package index is what a spool knows in memory: where entries and bodies are,
// who owns what, and what falls due when. It is small, and holds no contents. It
// is not safe for concurrent use.
package index

import (
	"hash/maphash"
	"math"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// never is the key of what holds nothing that can be claimed.
const never = math.MaxInt64

// A slot is what stays in memory of one entry: 56 bytes, beside its place in a
// table and in a heap.
type slot struct {
	id       spool.ID
	due      int64 // Unix nanoseconds
	place    seglog.Place
	body     uint32
	group    uint32
	pos      int32  // in the heap of its group and state; -1 while it is owned
	received uint32 // Unix seconds; 0 for what does not fit
	size     uint32
	length   length // of the record
	state    spool.State
	flags    flags
}

type flags uint8

const (
	owned  flags = 1 << iota
	dirty        // not as the last Snapshot saw it
	stored       // a Snapshot has seen it
	moved        // its record was moved while it was owned: its Rev is in Index.revs
)

// A length is that of a record, rounded up: in units of 16 bytes, or, with the
// highest bit, of 4 KiB. None is 0.
type length uint16

const (
	lengthUnit = 16
	longUnit   = 4 << 10
	isLong     = 1 << 15
)

func lengthOf(bytes int) length {
	if n := (bytes + lengthUnit - 1) / lengthUnit; n < isLong {
		return length(n)
	}
	return isLong | length(min((bytes+longUnit-1)/longUnit, isLong-1))
}

func (l length) bytes() int64 {
	if l&isLong != 0 {
		return int64(l&^isLong) * longUnit
	}
	return int64(l) * lengthUnit
}

// An Index finds entries by ID and by due time, and bodies by ID.
type Index struct {
	// Live is told how many bytes are needed, or, if they are less than 0, no
	// longer needed, at a place of the log. It may be nil.
	Live func(p seglog.Place, bytes int64)

	slots  slab[slot]
	byID   table
	seed   maphash.Seed
	bodies slab[bodySlot]
	byBody table
	files  map[BodyRef]spool.ID
	unused []BodyRef // to which no entry referred at some moment since the last Sweep
	bytes  int64     // of bodies and of records

	queues map[string]*queue
	groups []*group // by number
	spare  []uint32 // numbers of groups that are free
	due    heap[*queue]
	finals map[*group]struct{} // groups with Final entries that nobody owns
	revs   map[uint32]seglog.Place

	touched []uint32   // slots that are dirty, some of them no longer
	gone    []spool.ID // entries that a Snapshot has seen and that were removed
}

// New returns an Index without entries.
func New() *Index {
	x := &Index{
		seed:   maphash.MakeSeed(),
		files:  make(map[BodyRef]spool.ID),
		queues: make(map[string]*queue),
		finals: make(map[*group]struct{}),
		revs:   make(map[uint32]seglog.Place),
	}
	x.byID.hash = func(n uint32) uint64 { return x.hashID(&x.slots.at(n).id) }
	x.byBody.hash = func(n uint32) uint64 { return hashKey(x.bodies.at(n).key) }
	return x
}

func (x *Index) hashID(id *spool.ID) uint64 { return maphash.Bytes(x.seed, id[:]) }

func (x *Index) find(id spool.ID) (uint32, bool) {
	return x.byID.find(x.hashID(&id), func(n uint32) bool { return x.slots.at(n).id == id })
}

// Len returns how many entries there are.
func (x *Index) Len() int { return x.slots.n }

// Bytes returns how many bytes bodies and records have together.
func (x *Index) Bytes() int64 { return x.bytes }

// An Entry is what the index knows of one.
type Entry struct {
	ID     spool.ID
	Place  seglog.Place // of its record
	Rev    uint64
	State  spool.State
	Owned  bool
	Size   int64
	Length int64 // of its record, rounded up
	Body   BodyRef
}

// Find returns the entry with this ID.
func (x *Index) Find(id spool.ID) (e Entry, ok bool) {
	n, ok := x.find(id)
	if !ok {
		return e, false
	}
	return x.entry(n), true
}

func (x *Index) entry(n uint32) Entry {
	s := x.slots.at(n)
	return Entry{
		ID: s.id, Place: s.place, Rev: uint64(x.rev(n)), State: s.state, Owned: s.flags&owned != 0,
		Size: int64(s.size), Length: s.length.bytes(), Body: BodyRef(s.body),
	}
}

// rev returns the revision of an entry: where its record was written first.
func (x *Index) rev(n uint32) seglog.Place {
	if s := x.slots.at(n); s.flags&moved == 0 {
		return s.place
	}
	return x.revs[n]
}

// An Item is what the index is told of an entry.
type Item struct {
	ID            spool.ID
	Due, Received time.Time
	Place         seglog.Place
	Length        int // of the record
	Size          int64
	State         spool.State
	Owned         bool
	Body          BodyRef
	Queue, Class  string
}

// Put inserts an entry or replaces the one with the same ID.
func (x *Index) Put(it *Item) {
	x.bodies.at(uint32(it.Body)).refs++
	n, ok := x.find(it.ID)
	keep := flags(0)
	if ok {
		keep = x.slots.at(n).flags & (dirty | stored)
		x.detach(n)
	} else {
		n = x.slots.alloc()
	}
	g := x.group(it.Queue, it.Class)
	s := x.slots.at(n)
	*s = slot{
		id: it.ID, due: instant(it.Due), place: it.Place, body: uint32(it.Body), group: g.number, pos: -1,
		received: seconds(it.Received), size: uint32(min(it.Size, math.MaxUint32)), length: lengthOf(it.Length),
		state: it.State, flags: keep,
	}
	if !ok {
		x.byID.add(n)
	}
	x.attach(n, g, it.Owned)
	x.touch(n)
}

// attach counts an entry in its group.
func (x *Index) attach(n uint32, g *group, isOwned bool) {
	s := x.slots.at(n)
	t := &g.states[s.state]
	if t.entries == 0 || s.received < t.oldest {
		t.oldest = s.received
	}
	t.entries++
	t.bytes += int64(s.size)
	if s.state == spool.Queued {
		g.queue.ages.add(int64(s.received))
	}
	length := s.length.bytes()
	x.count(s.place, length)
	x.bytes += length
	if isOwned {
		s.flags |= owned
	} else {
		x.enqueue(n)
	}
}

// Remove forgets an entry.
func (x *Index) Remove(id spool.ID) {
	n, ok := x.find(id)
	if !ok {
		return
	}
	if x.slots.at(n).flags&stored != 0 {
		x.gone = append(x.gone, id)
	}
	x.detach(n)
	x.byID.remove(n)
	x.slots.release(n)
}

// detach undoes attach, and lets go of the body.
func (x *Index) detach(n uint32) {
	s := x.slots.at(n)
	if s.pos >= 0 {
		x.dequeue(n)
	}
	x.disown(n)
	g := x.groups[s.group]
	t := &g.states[s.state]
	t.entries--
	t.bytes -= int64(s.size)
	if s.state == spool.Queued {
		g.queue.ages.remove(int64(s.received))
	}
	length := s.length.bytes()
	x.count(s.place, -length)
	x.bytes -= length
	x.drop(BodyRef(s.body))
	if g.empty() {
		x.dissolve(g)
	}
}

// disown ends the ownership of an entry.
func (x *Index) disown(n uint32) {
	s := x.slots.at(n)
	if s.flags&moved != 0 {
		delete(x.revs, n)
	}
	s.flags &^= owned | moved
}

// Own makes an entry owned that nobody owns.
func (x *Index) Own(id spool.ID) {
	if n, ok := x.find(id); ok && x.slots.at(n).flags&owned == 0 {
		x.own(n)
	}
}

// own takes an entry out of its heap: somebody works on it.
func (x *Index) own(n uint32) {
	x.dequeue(n)
	x.slots.at(n).flags |= owned
}

// Release puts an entry that is owned back.
func (x *Index) Release(id spool.ID) bool {
	n, ok := x.find(id)
	if !ok || x.slots.at(n).flags&owned == 0 {
		return false
	}
	x.disown(n)
	x.enqueue(n)
	return true
}

// MoveEntry notes that the record of an entry stands at another place. Who owns
// the entry knows it by the Rev that it had. It reports whether the record stood
// at the place from.
func (x *Index) MoveEntry(id spool.ID, from, to seglog.Place, length int) bool {
	n, ok := x.find(id)
	if !ok || x.slots.at(n).place != from {
		return false
	}
	s := x.slots.at(n)
	if s.flags&(owned|moved) == owned {
		x.revs[n] = s.place
		s.flags |= moved
	}
	was := s.length.bytes()
	s.place, s.length = to, lengthOf(length)
	now := s.length.bytes()
	x.count(from, -was)
	x.count(to, now)
	x.bytes += now - was
	x.touch(n)
	return true
}

// instant maps a time to Unix nanoseconds, cut to what they can express.
func instant(t time.Time) int64 {
	const limit = math.MaxInt64/int64(time.Second) - 1
	switch s := t.Unix(); {
	case s < -limit:
		return math.MinInt64
	case s > limit:
		return never - 1
	}
	return t.UnixNano()
}

// fromInstant is the inverse of instant, but for what that cut.
func fromInstant(n int64) time.Time {
	if n == math.MinInt64 {
		return time.Time{}.Add(1) // not zero, which would say "none"
	}
	return time.Unix(0, n).UTC()
}

// seconds maps a time to Unix seconds, 0 for what is earlier, and the last for
// what is later than they can express.
func seconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// fromSeconds returns a time that is not later than what seconds was given.
func fromSeconds(n uint32) time.Time {
	if n == 0 {
		return time.Time{}.Add(1)
	}
	return time.Unix(int64(n), 0).UTC()
}
