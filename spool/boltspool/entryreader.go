package boltspool

import (
	"errors"
	"fmt"
	"io"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// readAhead is how much of the log is read at once: records of entries that were
// stored together stand together. It may reach beyond the end of the log.
const readAhead = 16 << 10

// An entryReader reads the records of entries. It keeps what it read last, since
// the next entry is likely to stand close by, and the base of the record that it
// read last, which the next is likely to have too.
type entryReader struct {
	log    *seglog.Log
	at     seglog.Place
	b      []byte
	base   *spool.Entry
	baseAt seglog.Place
}

func (s *Spool) newReader() *entryReader { return &entryReader{log: s.log} }

// reading is Reading of the log, for what is looked up from here on. Of what was read
// before, the part behind the end of the log may have been written since.
func (r *entryReader) reading() (done func()) {
	r.b = r.b[:0]
	return r.log.Reading()
}

// entry reads the record of an entry. The caller is Reading.
func (r *entryReader) entry(at index.Entry) (*spool.Entry, error) {
	rec, err := r.record(at.Place)
	if err != nil {
		return nil, err
	}
	if rec.ID != at.ID {
		return nil, fmt.Errorf("%v: the record is of entry %s", at.Place, rec.ID)
	}
	var base *spool.Entry
	if rec.Back > 0 {
		if base, err = r.baseOf(at.Place, rec.Back); err != nil {
			return nil, err
		}
		if rec, err = r.record(at.Place); err != nil { // the base may stand where it stood in memory
			return nil, err
		}
	}
	e, err := rec.Decode(base)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", at.Place, err)
	}
	e.Rev, e.Size = at.Rev, at.Size
	return e, nil
}

// entryWithBase reads the record of an entry, and says where its base stands: the
// record itself if it has none. The caller is Reading.
func (r *entryReader) entryWithBase(at index.Entry) (e *spool.Entry, base seglog.Place, err error) {
	if e, err = r.entry(at); err != nil {
		return nil, 0, err
	}
	rec, err := r.record(at.Place)
	return e, at.Place.Plus(-int64(rec.Back)), err
}

// baseOf returns the entry whose record stands that many bytes before a place.
func (r *entryReader) baseOf(at seglog.Place, back int) (*spool.Entry, error) {
	if int64(back) > at.Offset() {
		return nil, fmt.Errorf("%v: its base is %d bytes before", at, back)
	}
	p := at.Plus(-int64(back))
	if r.base != nil && r.baseAt == p {
		return r.base, nil
	}
	rec, err := r.record(p)
	if err == nil && rec.Back > 0 {
		err = errors.New("the base of a record has a base itself")
	}
	if err != nil {
		return nil, err
	}
	base, err := rec.Decode(nil)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	r.base, r.baseAt = base, p
	return base, nil
}

func (r *entryReader) record(p seglog.Place) (record.Entry, error) {
	const most = 2 << 10 // of what records take, but for a few
	b, err := r.read(p, most)
	if err != nil {
		return record.Entry{}, err
	}
	n, err := record.Length(b)
	if err == nil && n > len(b) {
		if b, err = r.read(p, n); err != nil {
			return record.Entry{}, err
		}
	}
	var rec record.Entry
	if err == nil {
		rec, _, err = record.Parse(b)
	}
	if err != nil {
		return rec, fmt.Errorf("%v: %w", p, err)
	}
	return rec, nil
}

// read returns what stands at a place: n bytes or more, fewer where the segment
// ends.
func (r *entryReader) read(p seglog.Place, n int) ([]byte, error) {
	if p.Segment() == r.at.Segment() && p >= r.at {
		if off := p.Offset() - r.at.Offset(); off+int64(n) <= int64(len(r.b)) {
			return r.b[off:], nil
		}
	}
	size := max(n, readAhead)
	if cap(r.b) < size {
		r.b = make([]byte, size)
	}
	r.at, r.b = p, r.b[:size]
	got, err := r.log.ReadAt(r.b, p)
	r.b = r.b[:got]
	if err == io.EOF {
		err = nil
	}
	return r.b, err
}
