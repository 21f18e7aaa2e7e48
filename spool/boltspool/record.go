package boltspool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An entry's record in the index begins with fields of fixed size, so that the
// committer can set revision and size after the caller encoded the rest, and so
// that a removal need not decode all of it.
const (
	recordVersion = 1

	posVersion  = 0
	posState    = 1
	posFlags    = 2 // and a byte that is zero
	posRev      = 4
	posSize     = 12
	posDue      = 20
	posReceived = 32
	posBody     = 44
	posSkip     = 60
	posHeader   = 68 // length of Header
	recordFixed = 72
	recordSum   = 4
)

const (
	flagSMTPUTF8 = 1 << iota
	flagRequireTLS
)

// maxRecord bounds an entry, its header and its outcome included.
const maxRecord = 64 << 20

var errRecordShort = errors.New("record ends too early")

// appendRecord adds the record of e to b, without revision, size and checksum:
// sealRecord sets them.
func appendRecord(b []byte, e *spool.Entry) []byte {
	var flags byte
	if e.Envelope.SMTPUTF8 {
		flags |= flagSMTPUTF8
	}
	if e.Envelope.RequireTLS {
		flags |= flagRequireTLS
	}
	b = append(b, recordVersion, byte(e.State), flags, 0)
	b = append(b, make([]byte, 16)...) // Rev and Size
	b = appendTime(b, e.Due)
	b = appendTime(b, e.Received)
	b = append(b, e.Body[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Skip))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Header)))

	b = appendString(b, e.Queue)
	b = appendString(b, e.Class)
	b = appendTime(b, e.Expires)
	b = binary.AppendVarint(b, int64(e.Attempts))
	b = binary.AppendVarint(b, int64(e.Interrupted))
	b = appendEnvelope(b, &e.Envelope)
	b = appendLen(b, len(e.Meta), e.Meta == nil)
	for k, v := range e.Meta {
		b = appendString(appendString(b, k), v)
	}
	b = appendBytes(b, e.Header)
	b = appendString(b, e.LastError)
	b = appendBytes(b, e.Outcome)
	return append(b, 0, 0, 0, 0)
}

func appendEnvelope(b []byte, env *spool.Envelope) []byte {
	b = appendString(b, env.Sender)
	b = appendString(b, env.Body)
	b = appendString(b, env.Ret)
	b = appendString(b, env.EnvID)
	b = appendLen(b, len(env.Recipients), env.Recipients == nil)
	for i := range env.Recipients {
		r := &env.Recipients[i]
		b = appendString(b, r.Address)
		b = appendString(b, r.ORcpt)
		b = appendLen(b, len(r.Notify), r.Notify == nil)
		for _, n := range r.Notify {
			b = appendString(b, n)
		}
	}
	return b
}

// sealRecord sets the revision and the size in a record and its checksum,
// which covers the key too.
func sealRecord(rec []byte, id spool.ID, rev uint64, size int64) {
	binary.LittleEndian.PutUint64(rec[posRev:], rev)
	binary.LittleEndian.PutUint64(rec[posSize:], uint64(size))
	binary.LittleEndian.PutUint32(rec[len(rec)-recordSum:], recordChecksum(rec, id[:]))
}

func recordChecksum(rec, key []byte) uint32 {
	return crc32.Update(checksum(key), castagnoli, rec[:len(rec)-recordSum])
}

// checkRecord says whether rec is whole and belongs to key.
func checkRecord(rec, key []byte) error {
	switch {
	case len(key) != len(spool.ID{}):
		return fmt.Errorf("key of %d bytes instead of 16", len(key))
	case len(rec) < recordFixed+recordSum:
		return errRecordShort
	case recordChecksum(rec, key) != binary.LittleEndian.Uint32(rec[len(rec)-recordSum:]):
		return errors.New("wrong checksum of the index record")
	case rec[posVersion] != recordVersion:
		return fmt.Errorf("record of version %d: want %d", rec[posVersion], recordVersion)
	case rec[posState] > byte(spool.Final):
		return fmt.Errorf("record with the unknown state %d", rec[posState])
	}
	return nil
}

// A brief is what the spool itself needs to know of an entry.
type brief struct {
	state        spool.State
	rev          uint64
	size         int64
	due          int64 // Unix nanoseconds, see instant
	received     int64
	body         spool.ID
	skip         int64
	header       int64 // its length
	queue, class []byte
}

// bodySize returns the size of the body that the entry refers to.
func (b *brief) bodySize() int64 { return b.size - b.header + b.skip }

// parseBrief decodes the beginning of a record. queue and class point into rec.
func parseBrief(rec, key []byte) (b brief, err error) {
	if err := checkRecord(rec, key); err != nil {
		return b, err
	}
	b.state = spool.State(rec[posState])
	b.rev = binary.LittleEndian.Uint64(rec[posRev:])
	b.size = int64(binary.LittleEndian.Uint64(rec[posSize:]))
	d := decoder{b: rec[posDue:]}
	b.due, b.received = instant(d.time()), instant(d.time())
	copy(b.body[:], rec[posBody:])
	b.skip = int64(binary.LittleEndian.Uint64(rec[posSkip:]))
	b.header = int64(binary.LittleEndian.Uint32(rec[posHeader:]))
	d = decoder{b: rec[recordFixed : len(rec)-recordSum]}
	b.queue, b.class = d.bytes(), d.bytes()
	if d.err == nil && (b.size < 0 || b.skip < 0 || b.bodySize() < 0) {
		d.err = errors.New("record with a negative size")
	}
	return b, d.err
}

// parseRecord decodes an entry. It shares nothing with rec.
func parseRecord(rec, key []byte) (*spool.Entry, error) {
	if err := checkRecord(rec, key); err != nil {
		return nil, err
	}
	e := &spool.Entry{
		ID:    spool.ID(key),
		State: spool.State(rec[posState]),
		Rev:   binary.LittleEndian.Uint64(rec[posRev:]),
		Size:  int64(binary.LittleEndian.Uint64(rec[posSize:])),
		Body:  spool.ID(rec[posBody:posSkip]),
		Skip:  int64(binary.LittleEndian.Uint64(rec[posSkip:])),
	}
	d := decoder{b: rec[posDue:]}
	e.Due, e.Received = d.time(), d.time()
	d = decoder{b: rec[recordFixed : len(rec)-recordSum]}
	e.Queue, e.Class = d.string(), d.string()
	e.Expires = d.time()
	e.Attempts, e.Interrupted = d.int(), d.int()
	d.envelope(&e.Envelope, rec[posFlags])
	if n, ok := d.len(2); ok {
		e.Meta = make(map[string]string, n)
		for range n {
			k := d.string()
			e.Meta[k] = d.string()
		}
	}
	e.Header = d.optional()
	e.LastError = d.string()
	e.Outcome = d.optional()
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow the record", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return e, nil
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

func appendTime(b []byte, t time.Time) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Unix()))
	return binary.LittleEndian.AppendUint32(b, uint32(t.Nanosecond()))
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
