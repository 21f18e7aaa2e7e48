package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// MaxEntry bounds the record of an entry, its header and its outcome included.
const MaxEntry = 64 << 20

// The record of an entry begins with its length, without these 4 bytes. The ID
// follows, a mask that says which fields are there, and how many bytes before
// this record its base begins, 0 for none. What is not there is as in the base,
// or zero without one. A checksum of everything behind the length is the end.
const (
	lengthSize = 4
	sumSize    = 4
	minEntry   = len(spool.ID{}) + 2 + sumSize
)

// What a record may hold, in this order.
const (
	hasBody = 1 << iota
	hasQueue
	hasClass
	hasState
	hasDue
	hasReceived
	hasExpires
	hasCounts // Attempts, Interrupted
	hasSender // Sender, Body, Ret, EnvID and flags of the envelope
	hasRecipients
	hasMeta
	hasHeader
	hasSkip
	hasLastError
	hasOutcome
	hasLater // the first that is unknown
)

const (
	flagSMTPUTF8 = 1 << iota
	flagRequireTLS
)

var noBase spool.Entry

// AppendEntry adds the record of e to b. The record of base, if it is not nil,
// stands in b at baseAt and has no base itself: what is the same there is left
// out here.
func AppendEntry(b []byte, e, base *spool.Entry, baseAt int) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, e.ID[:]...)
	back := 0
	if base != nil {
		back = start - baseAt
	} else {
		base = &noBase
	}
	mask := difference(e, base)
	b = binary.AppendUvarint(b, mask)
	b = binary.AppendUvarint(b, uint64(back))
	b = appendFields(b, e, base, mask)
	b = binary.LittleEndian.AppendUint32(b, seglog.Checksum(b[start+lengthSize:]))
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-lengthSize))
	return b
}

// difference says which fields of e are not those of base.
func difference(e, base *spool.Entry) (mask uint64) {
	set := func(bit uint64, differ bool) {
		if differ {
			mask |= bit
		}
	}
	set(hasBody, e.Body != base.Body)
	set(hasQueue, e.Queue != base.Queue)
	set(hasClass, e.Class != base.Class)
	set(hasState, e.State != base.State)
	set(hasDue, !e.Due.Equal(base.Due))
	set(hasReceived, !e.Received.Equal(base.Received))
	set(hasExpires, !e.Expires.Equal(base.Expires))
	set(hasCounts, e.Attempts != base.Attempts || e.Interrupted != base.Interrupted)
	set(hasSender, !sameSender(&e.Envelope, &base.Envelope))
	set(hasRecipients, !sameRecipients(e.Envelope.Recipients, base.Envelope.Recipients))
	set(hasMeta, (e.Meta == nil) != (base.Meta == nil) || !maps.Equal(e.Meta, base.Meta))
	set(hasHeader, !sameBytes(e.Header, base.Header))
	set(hasSkip, e.Skip != base.Skip)
	set(hasLastError, e.LastError != base.LastError)
	set(hasOutcome, !sameBytes(e.Outcome, base.Outcome))
	return mask
}

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func sameSender(a, b *spool.Envelope) bool {
	return a.Sender == b.Sender && a.Body == b.Body && a.Ret == b.Ret && a.EnvID == b.EnvID &&
		a.SMTPUTF8 == b.SMTPUTF8 && a.RequireTLS == b.RequireTLS
}

func sameRecipients(a, b []spool.Recipient) bool {
	return (a == nil) == (b == nil) && slices.EqualFunc(a, b, func(a, b spool.Recipient) bool {
		return a.Address == b.Address && a.ORcpt == b.ORcpt && (a.Notify == nil) == (b.Notify == nil) && slices.Equal(a.Notify, b.Notify)
	})
}

func appendFields(b []byte, e, base *spool.Entry, mask uint64) []byte {
	for bit := uint64(1); bit < hasLater; bit <<= 1 {
		if mask&bit != 0 {
			b = appendField(b, e, base, bit)
		}
	}
	return b
}

func appendField(b []byte, e, base *spool.Entry, bit uint64) []byte {
	switch bit {
	case hasBody:
		return append(b, e.Body[:]...)
	case hasQueue:
		return appendString(b, e.Queue)
	case hasClass:
		return appendString(b, e.Class)
	case hasState:
		return append(b, byte(e.State))
	case hasDue:
		return appendTime(b, e.Due)
	case hasReceived:
		return appendTime(b, e.Received)
	case hasExpires:
		return appendTime(b, e.Expires)
	case hasCounts:
		b = binary.AppendVarint(b, int64(e.Attempts))
		return binary.AppendVarint(b, int64(e.Interrupted))
	case hasSender:
		return appendSender(b, &e.Envelope)
	case hasRecipients:
		return appendRecipients(b, e.Envelope.Recipients)
	case hasMeta:
		return appendMeta(b, e.Meta)
	case hasHeader:
		return appendHeader(b, e.Header, base.Header)
	case hasSkip:
		return binary.AppendUvarint(b, uint64(e.Skip))
	case hasLastError:
		return appendString(b, e.LastError)
	case hasOutcome:
		return appendBytes(b, e.Outcome)
	}
	return b
}

func appendSender(b []byte, env *spool.Envelope) []byte {
	var flags byte
	if env.SMTPUTF8 {
		flags |= flagSMTPUTF8
	}
	if env.RequireTLS {
		flags |= flagRequireTLS
	}
	b = append(b, flags)
	b = appendString(b, env.Sender)
	b = appendString(b, env.Body)
	b = appendString(b, env.Ret)
	return appendString(b, env.EnvID)
}

func appendRecipients(b []byte, rs []spool.Recipient) []byte {
	b = appendLen(b, len(rs), rs == nil)
	for i := range rs {
		r := &rs[i]
		b = appendString(b, r.Address)
		b = appendString(b, r.ORcpt)
		b = appendLen(b, len(r.Notify), r.Notify == nil)
		for _, n := range r.Notify {
			b = appendString(b, n)
		}
	}
	return b
}

func appendMeta(b []byte, meta map[string]string) []byte {
	b = appendLen(b, len(meta), meta == nil)
	for k, v := range meta {
		b = appendString(appendString(b, k), v)
	}
	return b
}

// appendHeader writes what stands between the ends that a header shares with
// that of its base.
func appendHeader(b, h, base []byte) []byte {
	front := commonFront(h, base)
	back := commonBack(h[front:], base[front:])
	b = binary.AppendUvarint(b, uint64(front))
	b = binary.AppendUvarint(b, uint64(back))
	if h == nil {
		return append(b, 0)
	}
	return appendBytes(b, h[front:len(h)-back])
}

func commonFront(a, b []byte) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonBack(a, b []byte) (n int) {
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendLen writes a length so that nil and empty differ.
func appendLen(b []byte, n int, isNil bool) []byte {
	if isNil {
		return append(b, 0)
	}
	return binary.AppendUvarint(b, uint64(n)+1)
}

func appendBytes(b, p []byte) []byte {
	return append(appendLen(b, len(p), p == nil), p...)
}

// Length returns how long the record is that begins with b, of which 4 bytes at
// least must be there.
func Length(b []byte) (int, error) {
	if len(b) < lengthSize {
		return 0, errShort
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n < int64(minEntry) || n > MaxEntry {
		return 0, fmt.Errorf("record of %d bytes", n)
	}
	return lengthSize + int(n), nil
}

// An Entry is a record whose checksum is right.
type Entry struct {
	ID     spool.ID
	Back   int // how many bytes before this record its base begins; 0: none
	mask   uint64
	fields []byte
}

// Parse takes the record off the front of b, and says how long it was. It
// points into b.
func Parse(b []byte) (r Entry, n int, err error) {
	n, err = Length(b)
	if err != nil {
		return r, 0, err
	}
	if n > len(b) {
		return r, 0, errShort
	}
	p := b[lengthSize : n-sumSize]
	copy(r.ID[:], p)
	if seglog.Checksum(p) != binary.LittleEndian.Uint32(b[n-sumSize:]) {
		return r, n, errors.New("wrong checksum of the record")
	}
	d := decoder{b: p[len(r.ID):]}
	r.mask = d.uvarint()
	back := d.uvarint()
	switch {
	case d.err != nil:
		return r, n, d.err
	case r.mask >= hasLater:
		return r, n, fmt.Errorf("record with the unknown fields %#x", r.mask)
	case back > MaxEntry:
		return r, n, fmt.Errorf("record whose base is %d bytes before", back)
	}
	r.Back, r.fields = int(back), d.b
	return r, n, nil
}

// maxText is how long a record is whose strings are kept as one.
const maxText = 4 << 10

// Decode returns the entry, which shares nothing with b. base is that of the
// record; nil if it has none.
func (r *Entry) Decode(base *spool.Entry) (*spool.Entry, error) {
	e := &spool.Entry{}
	if base != nil {
		e = base.Clone()
	}
	e.ID = r.ID
	d := decoder{b: r.fields}
	if len(d.b) <= maxText {
		d.text = string(d.b)
	}
	for bit := uint64(1); bit < hasLater; bit <<= 1 {
		if r.mask&bit != 0 {
			d.field(e, bit)
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow the record", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return e, nil
}
