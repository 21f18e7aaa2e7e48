package index

import (
	"encoding/binary"
	"math"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// MaxBody is the longest body that the index can hold.
const MaxBody = math.MaxUint32 - 128<<20 // with a header it is still within 32 bits

// A BodyRef names a body in an Index, as long as the index is locked or an entry
// refers to it.
type BodyRef uint32

// A Body is where a body is.
type Body struct {
	Place seglog.Place // in the log
	File  bool         // in a file of its own
	Sum   uint32       // of a file: the checksum of its block table
	Size  int64
	Refs  int // entries that refer to it
}

// Lost reports whether it is not known where the body is, because of damage.
func (b *Body) Lost() bool { return !b.File && b.Place == 0 }

// A bodySlot is what stays in memory of one body: 24 bytes.
type bodySlot struct {
	key   uint64       // the random half of its ID
	place seglog.Place // in segment 0: the sum of a file, or 0 if it is lost
	size  uint32
	refs  uint32
}

// bodyKey is what the index knows of an ID. The spool makes the IDs of bodies
// itself, so that this half of them is random.
func bodyKey(id spool.ID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

func hashKey(key uint64) uint64 {
	key *= 0x9E3779B97F4A7C15
	return key ^ key>>29
}

// FindBody returns the body with this ID.
func (x *Index) FindBody(id spool.ID) (BodyRef, bool) {
	key := bodyKey(id)
	n, ok := x.byBody.find(hashKey(key), func(n uint32) bool { return x.bodies.at(n).key == key })
	return BodyRef(n), ok
}

// Body returns what is known of a body.
func (x *Index) Body(ref BodyRef) Body {
	s := x.bodies.at(uint32(ref))
	b := Body{Place: s.place, Size: int64(s.size), Refs: int(s.refs)}
	if _, ok := x.files[ref]; ok {
		b.Place, b.File, b.Sum = 0, true, uint32(s.place)
	}
	return b
}

// AddBody adds a body, to which an entry that refers to it must be put before
// the next Sweep.
func (x *Index) AddBody(id spool.ID, b Body) BodyRef {
	n := x.bodies.alloc()
	ref := BodyRef(n)
	s := x.bodies.at(n)
	*s = bodySlot{key: bodyKey(id), place: b.Place, size: uint32(b.Size)}
	if b.File {
		s.place = seglog.Place(b.Sum)
		x.files[ref] = id
	}
	x.byBody.add(n)
	x.unused = append(x.unused, ref)
	x.count(b.Place, seglog.FrameSize(b.Size))
	x.bytes += b.Size
	return ref
}

// CanMove reports whether a body stands at a place of the log and entries are all
// that refer to it.
func (x *Index) CanMove(id spool.ID, from seglog.Place, entries []spool.ID) bool {
	ref, ok := x.FindBody(id)
	if !ok {
		return false
	}
	if b := x.Body(ref); b.File || b.Place != from || b.Refs != len(entries) {
		return false
	}
	for _, e := range entries {
		if n, ok := x.find(e); !ok || x.slots.at(n).body != uint32(ref) {
			return false
		}
	}
	return true
}

// MoveBody notes that a body stands at another place, if CanMove.
func (x *Index) MoveBody(id spool.ID, from, to seglog.Place, entries []spool.ID) bool {
	if !x.CanMove(id, from, entries) {
		return false
	}
	ref, _ := x.FindBody(id)
	s := x.bodies.at(uint32(ref))
	x.count(from, -seglog.FrameSize(int64(s.size)))
	s.place = to
	x.count(to, seglog.FrameSize(int64(s.size)))
	for _, e := range entries {
		n, _ := x.find(e)
		x.touch(n)
	}
	return true
}

// PlaceBody notes where a body is in the log, wherever it was thought to be, and
// whatever is known of the entries that refer to it. One that is lost stays so: how
// long it is is not known either.
func (x *Index) PlaceBody(id spool.ID, to seglog.Place, entries []spool.ID) {
	ref, ok := x.FindBody(id)
	if !ok {
		return
	}
	if b := x.Body(ref); !b.File && !b.Lost() {
		x.count(b.Place, -seglog.FrameSize(b.Size))
		x.bodies.at(uint32(ref)).place = to
		x.count(to, seglog.FrameSize(b.Size))
	}
	for _, e := range entries {
		if n, ok := x.find(e); ok {
			x.touch(n)
		}
	}
}

func (x *Index) drop(ref BodyRef) {
	s := x.bodies.at(uint32(ref))
	if s.refs--; s.refs == 0 {
		x.unused = append(x.unused, ref)
	}
}

// Sweep forgets the bodies to which no entry refers, and returns those of them
// that are in files.
func (x *Index) Sweep() (files []spool.ID) {
	for _, ref := range x.unused {
		s := x.bodies.at(uint32(ref))
		if s.refs > 0 || s.key == 0 { // used again, or twice in the list
			continue
		}
		x.byBody.remove(uint32(ref))
		x.bytes -= int64(s.size)
		if id, ok := x.files[ref]; ok {
			files = append(files, id)
			delete(x.files, ref)
		} else {
			x.count(s.place, -seglog.FrameSize(int64(s.size)))
		}
		x.bodies.release(uint32(ref))
	}
	x.unused = x.unused[:0]
	return files
}

// Files returns the bodies that are in files.
func (x *Index) Files() []spool.ID {
	ids := make([]spool.ID, 0, len(x.files))
	for _, id := range x.files {
		ids = append(ids, id)
	}
	return ids
}

// count tells how much of the log is needed.
func (x *Index) count(p seglog.Place, bytes int64) {
	if p.Segment() != 0 && x.Live != nil {
		x.Live(p, bytes)
	}
}
