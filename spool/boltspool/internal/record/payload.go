// Package record is what the payload of a group says: the bodies that came with
// it, and changes to entries and bodies, in the order in which they took effect.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A Body is a body that a group brings. Those in segments follow the payload in
// the order of this list.
type Body struct {
	ID   spool.ID
	File bool // in a file of its own
	Size int64
	Sum  uint32 // of a body in a file: that of its block table
}

// An Op says what a Change does.
type Op byte

// The operations.
const (
	Put     Op = 1 // an entry is new, or replaces the one with its ID
	Remove  Op = 2
	Move    Op = 3 // a body stands where the body of that ID in this group does
	Counted Op = 4 // the interruptions of a process were counted
)

// A Change is one step of a group.
type Change struct {
	Op      Op
	ID      spool.ID     // of the entry; with Move of the body, with Counted of the opening
	Entry   Entry        // Put
	At      int          // Put: where the record begins in the payload
	Length  int          // Put: of the record
	From    seglog.Place // Move: where the body stood
	Entries []spool.ID   // Move: all entries that refer to the body
}

const (
	bodyInSegment = 1
	bodyInFile    = 2
	minBody       = len(spool.ID{}) + 2 + 4
)

// AppendBodies begins a payload.
func AppendBodies(b []byte, bodies []Body) []byte {
	b = binary.AppendUvarint(b, uint64(len(bodies)))
	for i := range bodies {
		body := &bodies[i]
		b = append(b, body.ID[:]...)
		kind := byte(bodyInSegment)
		if body.File {
			kind = bodyInFile
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, uint64(body.Size))
		b = binary.LittleEndian.AppendUint32(b, body.Sum)
	}
	return b
}

// AppendPut adds a Put, and says where its record begins; see AppendEntry.
func AppendPut(b []byte, e, base *spool.Entry, baseAt int) (_ []byte, at int) {
	b = append(b, byte(Put))
	return AppendEntry(b, e, base, baseAt), len(b)
}

// AppendRemove adds a Remove.
func AppendRemove(b []byte, id spool.ID) []byte { return append(append(b, byte(Remove)), id[:]...) }

// AppendMove adds a Move.
func AppendMove(b []byte, body spool.ID, from seglog.Place, entries []spool.ID) []byte {
	b = append(append(b, byte(Move)), body[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(from))
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		b = append(b, entries[i][:]...)
	}
	return b
}

// AppendCounted adds a Counted.
func AppendCounted(b []byte, opening spool.ID) []byte {
	return append(append(b, byte(Counted)), opening[:]...)
}

// ParseBodies takes the list of bodies off the front of a payload. rest is how
// many bytes follow it.
func ParseBodies(payload []byte) (bodies []Body, rest int, err error) {
	d := decoder{b: payload}
	n := d.uvarint()
	if n > uint64(len(d.b)/minBody) {
		d.fail(errShort)
		n = 0
	}
	bodies = make([]Body, n)
	for i := range bodies {
		b := &bodies[i]
		b.ID = d.id()
		switch kind := d.byte(); kind {
		case bodyInFile:
			b.File = true
		case bodyInSegment:
		default:
			d.fail(fmt.Errorf("body of the unknown kind %d", kind))
		}
		b.Size = d.size()
		b.Sum = d.uint32()
	}
	return bodies, len(d.b), d.err
}

var errRest = errors.New("the rest of the group cannot be told apart")

// Changes yields the changes of a payload of which ParseBodies left so many
// bytes. A record that is damaged is yielded with an error and does not end it,
// any other damage does.
func Changes(payload []byte, rest int) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := decoder{b: payload[len(payload)-rest:]}
		for len(d.b) > 0 {
			c, err := d.change(len(payload))
			if !yield(c, err) || d.err != nil {
				return
			}
		}
	}
}

func (d *decoder) change(total int) (c Change, err error) {
	c.Op = Op(d.byte())
	switch c.Op {
	case Put:
		c.At = total - len(d.b)
		var n int
		c.Entry, n, err = Parse(d.b)
		c.ID = c.Entry.ID
		if n == 0 || n > len(d.b) {
			d.fail(fmt.Errorf("%w: %w", errRest, err))
			return c, d.err
		}
		c.Length = n
		d.b = d.b[n:]
		return c, err
	case Remove, Counted:
		c.ID = d.id()
	case Move:
		c.ID, c.From = d.id(), seglog.Place(d.uint64())
		c.Entries = d.ids()
	default:
		d.fail(fmt.Errorf("%w: unknown change %d", errRest, c.Op))
	}
	return c, d.err
}
