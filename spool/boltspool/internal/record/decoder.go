package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var (
	errShort  = errors.New("record ends too early")
	errNumber = errors.New("number is cut or too large")
)

// A decoder takes fields off the front of b. After an error every further
// field is zero. It never allocates more than a small multiple of what it is given.
type decoder struct {
	b    []byte
	text string // ends with b, if it is not empty: strings are parts of it
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail(errShort)
	}
	if d.err != nil {
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errNumber)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errNumber)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// size takes a number that is not negative as an int64.
func (d *decoder) size() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.fail(errNumber)
		return 0
	}
	return int64(v)
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) id() (id spool.ID) {
	copy(id[:], d.take(uint64(len(id))))
	return id
}

func (d *decoder) ids() []spool.ID {
	n := d.uvarint()
	if n > uint64(len(d.b)/len(spool.ID{})) {
		d.fail(errShort)
		return nil
	}
	ids := make([]spool.ID, n)
	for i := range ids {
		ids[i] = d.id()
	}
	return ids
}

func (d *decoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) string() string {
	p := d.take(d.uvarint())
	if d.text == "" {
		return string(p)
	}
	n := len(p)
	end := len(d.text) - len(d.b)
	return d.text[end-n : end]
}

func (d *decoder) time() time.Time {
	sec, nsec := d.varint(), d.uvarint()
	if nsec >= 1e9 {
		d.fail(errNumber)
	}
	if d.err != nil {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// len takes what appendLen wrote. ok is false for nil. Each element takes at
// least size bytes, which bounds what a damaged length can ask for.
func (d *decoder) len(size int) (n int, ok bool) {
	v := d.uvarint()
	if v == 0 {
		return 0, false
	}
	if v--; v > uint64(len(d.b)/size) {
		d.fail(errShort)
		return 0, false
	}
	return int(v), d.err == nil
}

func (d *decoder) optional() []byte {
	n, ok := d.len(1)
	if !ok {
		return nil
	}
	return append([]byte{}, d.take(uint64(n))...)
}

// field takes what appendField wrote. e holds what the base does.
func (d *decoder) field(e *spool.Entry, bit uint64) {
	switch bit {
	case hasBody:
		e.Body = d.id()
	case hasQueue:
		e.Queue = d.string()
	case hasClass:
		e.Class = d.string()
	case hasState:
		if e.State = spool.State(d.byte()); e.State > spool.Final {
			d.fail(fmt.Errorf("the unknown state %d", e.State))
		}
	case hasDue:
		e.Due = d.time()
	case hasReceived:
		e.Received = d.time()
	case hasExpires:
		e.Expires = d.time()
	case hasCounts:
		e.Attempts, e.Interrupted = int(d.varint()), int(d.varint())
	case hasSender:
		d.sender(&e.Envelope)
	case hasRecipients:
		e.Envelope.Recipients = d.recipients()
	case hasMeta:
		e.Meta = d.meta()
	case hasHeader:
		e.Header = d.header(e.Header)
	case hasSkip:
		e.Skip = d.size()
	case hasLastError:
		e.LastError = d.string()
	case hasOutcome:
		e.Outcome = d.optional()
	}
}

func (d *decoder) sender(env *spool.Envelope) {
	flags := d.byte()
	env.SMTPUTF8 = flags&flagSMTPUTF8 != 0
	env.RequireTLS = flags&flagRequireTLS != 0
	env.Sender = d.string()
	env.Body = d.string()
	env.Ret = d.string()
	env.EnvID = d.string()
}

func (d *decoder) recipients() []spool.Recipient {
	n, ok := d.len(3)
	if !ok {
		return nil
	}
	rs := make([]spool.Recipient, n)
	for i := range rs {
		r := &rs[i]
		r.Address = d.string()
		r.ORcpt = d.string()
		if n, ok := d.len(1); ok {
			r.Notify = make([]string, n)
			for j := range r.Notify {
				r.Notify[j] = d.string()
			}
		}
	}
	return rs
}

func (d *decoder) meta() map[string]string {
	n, ok := d.len(2)
	if !ok {
		return nil
	}
	meta := make(map[string]string, n)
	for range n {
		k := d.string()
		meta[k] = d.string()
	}
	return meta
}

func (d *decoder) header(base []byte) []byte {
	front, back := d.uvarint(), d.uvarint()
	if front > uint64(len(base)) || back > uint64(len(base))-front {
		d.fail(errors.New("header of another base"))
	}
	n, ok := d.len(1)
	if !ok {
		return nil
	}
	middle := d.take(uint64(n))
	if d.err != nil {
		return nil
	}
	if h := slices.Concat(base[:front], middle, base[len(base)-int(back):]); h != nil {
		return h
	}
	return []byte{}
}
