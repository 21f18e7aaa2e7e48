package boltspool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A decoder takes fields off the front of b. After an error every further
// field is zero. It never allocates more than a small multiple of what it is given.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n uint64) []byte {
	if d.err == nil && n > uint64(len(d.b)) {
		d.err = errRecordShort
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
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errors.New("number is cut or too long")
	}
	d.b = nil
}

func (d *decoder) bytes() []byte  { return d.take(d.uvarint()) }
func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) time() time.Time {
	p := d.take(12)
	if p == nil {
		return time.Time{}
	}
	sec := int64(binary.LittleEndian.Uint64(p))
	return time.Unix(sec, int64(binary.LittleEndian.Uint32(p[8:]))).UTC()
}

// len takes what appendLen wrote. ok is false for nil. Each element takes at
// least size bytes, which bounds what a damaged length can ask for.
func (d *decoder) len(size int) (n int, ok bool) {
	v := d.uvarint()
	if v == 0 {
		return 0, false
	}
	if v--; v > uint64(len(d.b)/size) {
		d.err = errRecordShort
		return 0, false
	}
	return int(v), d.err == nil
}

func (d *decoder) optional() []byte {
	n, ok := d.len(1)
	if !ok {
		return nil
	}
	p := bytes.Clone(d.take(uint64(n)))
	if p == nil {
		p = []byte{}
	}
	return p
}

func (d *decoder) envelope(env *spool.Envelope, flags byte) {
	env.SMTPUTF8 = flags&flagSMTPUTF8 != 0
	env.RequireTLS = flags&flagRequireTLS != 0
	env.Sender = d.string()
	env.Body = d.string()
	env.Ret = d.string()
	env.EnvID = d.string()
	n, ok := d.len(3)
	if !ok {
		return
	}
	env.Recipients = make([]spool.Recipient, n)
	for i := range env.Recipients {
		r := &env.Recipients[i]
		r.Address = d.string()
		r.ORcpt = d.string()
		if n, ok := d.len(1); ok {
			r.Notify = make([]string, n)
			for j := range r.Notify {
				r.Notify[j] = d.string()
			}
		}
	}
}
