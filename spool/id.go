package spool

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// An ID names an entry or a body for good. It is a version 7 UUID (RFC 9562,
// section 5.7), so that IDs sort by the time at which they were made. The
// caller makes it, not the spool: an insert that is repeated after an unknown
// outcome is then recognised.
type ID [16]byte

// NewID returns a new ID. The time in it has a resolution of about a quarter
// of a microsecond (RFC 9562, section 6.2, method 3). It is safe for
// concurrent use.
func NewID() ID {
	now := time.Now()
	ms := uint64(now.UnixMilli())
	fraction := uint64(now.Nanosecond()%1e6) << 12 / 1e6

	var id ID
	binary.BigEndian.PutUint64(id[:8], ms<<16|0x7000|fraction)
	rand.Read(id[8:]) // never fails: crypto/rand documents it
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads what [ID.String] wrote, and also accepts the usual form with
// four hyphens.
func ParseID(s string) (ID, error) {
	var id ID
	digits := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if len(digits) != 2*len(id) {
		return ID{}, fmt.Errorf("spool: ID %q: want 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, fmt.Errorf("spool: ID %q: want 32 hexadecimal digits", s)
	}
	return id, nil
}

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Time returns when the ID was made, to the millisecond.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
}

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns what [ID.String] does.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText accepts what [ParseID] does.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}
