package index

import (
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A Saved is all that an Index knows of one entry and its body, for it to be
// found again by another process.
type Saved struct {
	ID       spool.ID
	Due      int64  // Unix nanoseconds
	Received uint32 // Unix seconds
	Place    seglog.Place
	Length   uint16 // of the record, see length
	Size     uint32
	State    spool.State
	Queue    string
	Class    string

	BodyKey   uint64
	BodyPlace seglog.Place
	BodySize  uint32
	BodyFile  spool.ID // the ID of a body in a file of its own; zero for others
}

// A Snapshot is what has changed since the one before.
type Snapshot struct {
	Puts    []Saved
	Removed []spool.ID
}

// touch notes that an entry has changed.
func (x *Index) touch(n uint32) {
	if s := x.slots.at(n); s.flags&dirty == 0 {
		s.flags |= dirty
		x.touched = append(x.touched, n)
	}
}

// Dirty bounds how large the next Snapshot is.
func (x *Index) Dirty() int { return len(x.touched) + len(x.gone) }

// Snapshot returns what has changed since the last one.
func (x *Index) Snapshot() *Snapshot {
	s := &Snapshot{Removed: x.gone, Puts: make([]Saved, 0, len(x.touched))}
	for _, n := range x.touched {
		if e := x.slots.at(n); e.flags&dirty != 0 {
			e.flags = e.flags&^dirty | stored
			s.Puts = append(s.Puts, x.saved(n))
		}
	}
	x.gone, x.touched = nil, nil
	return s
}

// Undo takes a Snapshot back that was not made durable.
func (x *Index) Undo(s *Snapshot) {
	for i := range s.Puts {
		if n, ok := x.find(s.Puts[i].ID); ok {
			x.touch(n)
		}
	}
	x.gone = append(x.gone, s.Removed...)
}

func (x *Index) saved(n uint32) Saved {
	e := x.slots.at(n)
	g := x.groups[e.group]
	b := x.bodies.at(e.body)
	return Saved{
		ID: e.id, Due: e.due, Received: e.received, Place: e.place, Length: uint16(e.length), Size: e.size, State: e.state,
		Queue: g.queue.name, Class: g.class,
		BodyKey: b.key, BodyPlace: b.place, BodySize: b.size, BodyFile: x.files[BodyRef(e.body)],
	}
}

// Expect makes room for n entries that are about to be loaded.
func (x *Index) Expect(n int) {
	n = min(n, maxExpected)
	x.byID.expect(n)
	x.byBody.expect(n)
}

// maxExpected bounds the memory that a wrong number costs.
const maxExpected = 1 << 24

// Load puts an entry that a Snapshot has held. Nothing may have been put before
// but by Load.
func (x *Index) Load(v *Saved) {
	body := x.loadBody(v)
	n := x.slots.alloc()
	g := x.group(v.Queue, v.Class)
	*x.slots.at(n) = slot{
		id: v.ID, due: v.Due, place: v.Place, body: body, group: g.number, pos: -1,
		received: v.Received, size: v.Size, length: length(v.Length), state: v.State, flags: stored,
	}
	x.bodies.at(body).refs++
	x.byID.add(n)
	x.attach(n, g, false)
}

// loadBody returns the body of an entry, which others may share.
func (x *Index) loadBody(v *Saved) uint32 {
	isFile := !v.BodyFile.IsZero()
	n, ok := x.byBody.find(hashKey(v.BodyKey), func(n uint32) bool {
		b := x.bodies.at(n)
		return b.key == v.BodyKey && b.place == v.BodyPlace
	})
	if ok {
		return n
	}
	n = x.bodies.alloc()
	*x.bodies.at(n) = bodySlot{key: v.BodyKey, place: v.BodyPlace, size: v.BodySize}
	x.byBody.add(n)
	x.bytes += int64(v.BodySize)
	if isFile {
		x.files[BodyRef(n)] = v.BodyFile
	} else {
		x.count(v.BodyPlace, seglog.FrameSize(int64(v.BodySize)))
	}
	return n
}

// Saved returns what a Snapshot would say of an entry.
func (x *Index) Saved(id spool.ID) (v Saved, ok bool) {
	n, ok := x.find(id)
	if !ok {
		return v, false
	}
	return x.saved(n), true
}

// Adopt puts an entry that another index has Saved, for the next Snapshot.
func (x *Index) Adopt(v *Saved) {
	x.Load(v)
	n, _ := x.find(v.ID)
	x.slots.at(n).flags &^= stored
	x.touch(n)
}

// A Visit is an entry as Each shows it.
type Visit struct {
	ID    spool.ID
	Queue string
	Place seglog.Place
	Body  BodyRef
	Due   int64
}

// Each shows the entries from a position on, about a thousand at the most, and
// returns the position to go on from, 0 at the end. An entry that is there from
// the first call to the last is shown once, whatever changes between the calls.
func (x *Index) Each(from uint32, f func(*Visit)) (next uint32) {
	const most = perChunk
	end := min(from+most, x.slots.size())
	for n := from; n < end; n++ {
		s := x.slots.at(n)
		if s.length == 0 { // free: no record has none
			continue
		}
		f(&Visit{ID: s.id, Queue: x.groups[s.group].queue.name, Place: s.place, Body: BodyRef(s.body), Due: s.due})
	}
	if end == x.slots.size() {
		return 0
	}
	return end
}
