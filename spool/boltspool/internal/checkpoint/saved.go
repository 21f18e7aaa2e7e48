package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// What is said of an entry begins with fields of fixed size. Its names follow,
// each with its length in front, and the checksum of the ID and of all before.
const (
	posVersion   = 0
	posState     = 1
	posLength    = 2
	posPlace     = 4
	posDue       = 12
	posReceived  = 20
	posSize      = 24
	posBodyKey   = 28
	posBodyPlace = 36
	posBodySize  = 44
	posKind      = 48
	fixedSize    = 49
	sumSize      = 4

	savedVersion = 1
	kindSegment  = 1
	kindFile     = 2 // the ID of the body comes next
)

// appendSaved adds what is said of an entry to b.
func appendSaved(b []byte, v *index.Saved) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, savedVersion, byte(v.State))
	b = le.AppendUint16(b, v.Length)
	b = le.AppendUint64(b, uint64(v.Place))
	b = le.AppendUint64(b, uint64(v.Due))
	b = le.AppendUint32(b, v.Received)
	b = le.AppendUint32(b, v.Size)
	b = le.AppendUint64(b, v.BodyKey)
	b = le.AppendUint64(b, uint64(v.BodyPlace))
	b = le.AppendUint32(b, v.BodySize)
	if v.BodyFile.IsZero() {
		b = append(b, kindSegment)
	} else {
		b = append(append(b, kindFile), v.BodyFile[:]...)
	}
	for _, name := range []string{v.Queue, v.Class} {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	}
	return le.AppendUint32(b, seglog.Update(seglog.Checksum(v.ID[:]), b[start:]))
}

// parseSaved is the inverse of appendSaved. The same names are the same memory.
func parseSaved(key, b []byte, v *index.Saved, names names) error {
	le := binary.LittleEndian
	switch {
	case len(key) != len(spool.ID{}):
		return fmt.Errorf("key of %d bytes instead of 16", len(key))
	case len(b) < fixedSize+2+sumSize:
		return errors.New("record of the index ends too early")
	case seglog.Update(seglog.Checksum(key), b[:len(b)-sumSize]) != le.Uint32(b[len(b)-sumSize:]):
		return errors.New("wrong checksum of a record of the index")
	case b[posVersion] != savedVersion:
		return fmt.Errorf("record of version %d in the index: want %d", b[posVersion], savedVersion)
	case b[posState] > byte(spool.Final):
		return fmt.Errorf("unknown state %d in the index", b[posState])
	}
	*v = index.Saved{
		ID: spool.ID(key), State: spool.State(b[posState]), Length: le.Uint16(b[posLength:]),
		Place: seglog.Place(le.Uint64(b[posPlace:])), Due: int64(le.Uint64(b[posDue:])),
		Received: le.Uint32(b[posReceived:]), Size: le.Uint32(b[posSize:]),
		BodyKey: le.Uint64(b[posBodyKey:]), BodyPlace: seglog.Place(le.Uint64(b[posBodyPlace:])),
		BodySize: le.Uint32(b[posBodySize:]),
	}
	rest := b[fixedSize : len(b)-sumSize]
	switch kind := b[posKind]; {
	case kind == kindFile && len(rest) >= len(v.BodyFile):
		rest = rest[copy(v.BodyFile[:], rest):]
	case kind != kindSegment:
		return fmt.Errorf("unknown kind %d of a body in the index", kind)
	}
	return names.parse(rest, v)
}

// names holds those of queues and classes, each once.
type names map[string]string

func (m names) get(b []byte) string {
	if s, ok := m[string(b)]; ok {
		return s
	}
	s := string(b)
	m[s] = s
	return s
}

func (m names) parse(b []byte, v *index.Saved) error {
	for _, name := range []*string{&v.Queue, &v.Class} {
		n, k := binary.Uvarint(b)
		if k <= 0 || n == 0 || n > uint64(len(b)-k) {
			return errors.New("name of a queue or class is cut in the index")
		}
		*name, b = m.get(b[k:k+int(n)]), b[k+int(n):]
	}
	if len(b) > 0 || v.Length == 0 || v.Due == math.MaxInt64 {
		return errors.New("impossible record of the index")
	}
	return nil
}
