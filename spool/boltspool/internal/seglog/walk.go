package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// A walk goes through the groups of the log.
type walk struct {
	l        *Log
	start    Start
	report   func(*Damage) error
	segments []uint32 // those that are left, the current one first
	off      int64    // where the next group is expected
	number   uint64   // that it should have; 0: any
	gaps     bool     // whole segments may be gone between others
	held     *found   // the last one, which no later one has confirmed yet
	window   window
}

// A found is a group with what only a walk needs.
type found struct {
	Group
	header
}

func (f *found) end() Place { return f.Place.Plus(int64(f.Total)) }

// next returns the next group, nil if there is none.
func (w *walk) next() (*found, error) {
	if len(w.segments) == 0 {
		return nil, nil
	}
	g, err := w.at(w.segments[0], w.off, w.number)
	if g == nil && err == nil && w.gaps { // a later segment says nothing about the end of this one
		g, err = w.search(w.segments[:1])
	}
	if g == nil && err == nil && len(w.segments) > 1 { // the segment ends here, if the next one goes on
		if g, err = w.follow(w.segments[1]); g != nil {
			err = w.checkGap(g)
			w.closeSegment()
		}
	}
	if g == nil && err == nil {
		g, err = w.search(w.segments)
	}
	if g == nil || err != nil {
		return nil, err
	}
	w.off = g.end().Offset()
	w.number = g.Number + 1
	return g, nil
}

// follow returns the first group of the next segment, if it is the one that is
// expected. It is too if it has the number of the last one: that was torn then, and
// stayed where it was, since its segment is damaged.
func (w *walk) follow(segment uint32) (*found, error) {
	g, err := w.at(segment, segmentHeader, w.number)
	if g == nil && err == nil && w.held != nil {
		if g, err = w.at(segment, segmentHeader, w.held.Number); g != nil {
			w.off, w.number, w.held = w.held.Place.Offset(), w.held.Number, nil
		}
	}
	return g, err
}

// closeSegment goes on to the next one.
func (w *walk) closeSegment() {
	w.l.mu.segments[w.segments[0]].end = w.off
	w.segments = w.segments[1:]
}

// checkGap reports what is missing before the first group of the next segment, if
// it cannot have been taken away with segments between them.
func (w *walk) checkGap(g *found) error {
	empty := w.off == segmentHeader // no segment is begun but for a group
	adjacent := w.segments[1] == w.segments[0]+1 && w.number > 0
	if !w.gaps || !empty && (!adjacent || g.Number == w.number) {
		return nil
	}
	return w.missing(At(w.segments[0], w.off), g)
}

// missing reports that what stood between a place and a group cannot be read.
func (w *walk) missing(from Place, g *found) error {
	w.l.segment(from.Segment()).set = true
	w.l.segment(g.Place.Segment()).set = true
	err := errors.New("groups cannot be read")
	if w.number > 0 {
		err = fmt.Errorf("%d %w", g.Number-w.number, err)
	}
	return w.report(&Damage{From: from, To: g.Place, Err: err})
}

// at returns the group that begins at a place, nil if it is not the one with that
// number.
func (w *walk) at(segment uint32, off int64, number uint64) (*found, error) {
	b, err := w.window.read(w.l, segment, off, frameHeader)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(b, w.l.seed, segment, off)
	if err != nil || h.Type != frameGroup || h.Number != number && !(w.gaps && h.Number > number) {
		return nil, nil
	}
	return w.payload(segment, off, h)
}

func (w *walk) payload(segment uint32, off int64, h header) (*found, error) {
	g := &found{Group: Group{Place: At(segment, off)}, header: h}
	b, err := w.window.read(w.l, segment, off+frameHeader, int(h.Length))
	if err != nil {
		return nil, err
	}
	g.Payload = bytes.Clone(b)
	switch {
	case len(b) < int(h.Length):
		g.Err = errors.New("the segment ends inside of a group")
	case Checksum(b) != h.Sum:
		g.Err = errors.New("wrong checksum of a group")
	}
	return g, nil
}

// search looks for any group behind the place where one was expected, in some
// segments from the current one on. If there is one, what lies between was durable
// once, and is damaged.
func (w *walk) search(segments []uint32) (*found, error) {
	from := At(w.segments[0], w.off)
	for i, n := range segments {
		off := int64(segmentHeader)
		if i == 0 {
			off = w.off
		}
		g, err := w.searchSegment(n, off)
		if err != nil {
			return nil, err
		}
		if g == nil {
			continue
		}
		for w.segments[0] != n {
			w.l.mu.segments[w.segments[0]].set = true
			w.segments = w.segments[1:]
		}
		return g, w.missing(from, g)
	}
	return nil, nil
}

// searchSegment looks for a later group at any offset.
func (w *walk) searchSegment(n uint32, off int64) (*found, error) {
	const step = windowSize
	for {
		b, err := w.window.read(w.l, n, off, step)
		if err != nil || len(b) < frameHeader {
			return nil, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], []byte(frameMagic))
			if i < 0 {
				break
			}
			at += i
			h, err := parseHeader(b[at:], w.l.seed, n, off+int64(at))
			if err == nil && h.Type == frameGroup && h.Number > w.number {
				return w.payload(n, off+int64(at), h)
			}
		}
		off += int64(len(b)) - frameHeader + 1
		if len(b) < step {
			return nil, nil
		}
	}
}

// end decides about the last group, and where the log ends.
func (w *walk) end(apply func(Group) error) error {
	if g := w.held; g != nil {
		whole := g.end() <= w.start.Synced
		if !whole && g.Err == nil {
			err := w.verifyBodies(g)
			if err != nil && !errors.Is(err, errTorn) {
				return err
			}
			if whole = err == nil; whole {
				w.l.unproven.from, w.l.unproven.to = g.Place, g.end()
			}
		}
		if whole {
			if err := apply(g.Group); err != nil {
				return err
			}
		} else {
			w.off, w.number = g.Place.Offset(), g.Number
		}
	}
	l := w.l
	l.number = max(w.number, 1)
	var s *segment
	from := w.start.Place
	if len(w.segments) > 0 {
		s = l.mu.segments[w.segments[0]]
		from = At(s.number, w.off)
	}
	to, err := w.endMissing()
	if err == nil && to == 0 && w.lostBefore() {
		l.number++
		err = w.report(&Damage{From: w.start.Place, To: w.start.Synced, Err: errors.New("its end is missing")})
	}
	switch {
	case err != nil:
		return err
	case to > 0:
		l.number++ // what comes next does not pass for what is missing
		if s != nil {
			s.set = true
		} else if from == 0 {
			from = At(to.Segment(), segmentHeader)
		}
		return w.report(&Damage{From: from, To: to, Err: errors.New("its end is missing")})
	case s != nil:
		s.end, l.cur, l.off = w.off, s, w.off
	}
	return nil
}

// lostBefore reports whether groups were durable before the first segment that is left, in
// which there is none: those cannot have been taken away, since no checkpoint knows them.
func (w *walk) lostBefore() bool {
	if len(w.segments) == 0 || w.held != nil || w.off != segmentHeader || w.number != w.start.Number {
		return false
	}
	start, synced := w.start.Place, w.start.Synced
	return start > 0 && start < synced && synced < At(w.segments[0], 0)
}

// endMissing returns up to where the log was durable, if it cannot be read up to
// there, else 0. When that is not known, because the index is made anew, all that
// looks as if it had been written counts.
func (w *walk) endMissing() (Place, error) {
	if len(w.segments) == 0 {
		if synced := w.start.Synced; synced > w.start.Place && synced.Offset() > segmentHeader {
			return synced, nil
		}
		return 0, nil
	}
	n, last := w.segments[0], w.segments[len(w.segments)-1]
	if w.l.mu.segments[n].missing { // and more may have stood there
		return max(At(n, w.off).Plus(1), w.start.Synced), nil
	}
	if synced := w.start.Synced; synced > 0 || !w.gaps {
		missing := At(n, w.off) < synced
		if synced.Offset() == segmentHeader { // a segment that was not begun: that before it may be whole
			missing = last > n && w.segments[1] < synced.Segment()
		}
		if missing {
			return synced, nil
		}
		return 0, nil
	}
	b, err := w.window.read(w.l, n, w.off, frameHeader)
	if last > n || len(b) == frameHeader && binary.LittleEndian.Uint64(b[8:]) == uint64(n) {
		return max(At(last, 0), At(n, w.off).Plus(1)), err
	}
	return 0, err
}

var errTorn = errors.New("torn")

// verifyBodies returns errTorn unless all bodies of a group are there.
func (w *walk) verifyBodies(g *found) error {
	segment, end := g.Place.Segment(), g.end().Offset()
	for off := g.Place.Offset() + FrameSize(int64(g.Length)); off < end; {
		b, err := w.window.read(w.l, segment, off, frameHeader)
		if err != nil {
			return err
		}
		h, err := parseHeader(b, w.l.seed, segment, off)
		if err != nil || h.Type != frameBody || off+FrameSize(int64(h.Length)) > end {
			return errTorn
		}
		b, err = w.window.read(w.l, segment, off+frameHeader, int(h.Length))
		if err != nil {
			return err
		}
		if len(b) < int(h.Length) || Checksum(b) != h.Sum {
			return errTorn
		}
		off += FrameSize(int64(h.Length))
	}
	return nil
}

// A window is a part of a segment in memory.
type window struct {
	segment uint32
	off     int64
	b       []byte
}

const windowSize = 64 << 10

// read returns n bytes at an offset, fewer where the segment ends. They stay as
// they are until the next read. What the disk does not give reads as zeros.
func (w *window) read(l *Log, segment uint32, off int64, n int) ([]byte, error) {
	if segment == w.segment && off >= w.off && off+int64(n) <= w.off+int64(len(w.b)) {
		at := off - w.off
		return w.b[at : at+int64(n)], nil
	}
	size := max(n, windowSize)
	if cap(w.b) < size {
		w.b = make([]byte, size)
	}
	w.segment, w.off, w.b = segment, off, w.b[:size]
	f, err := l.file(segment)
	if errors.Is(err, fs.ErrNotExist) {
		w.b = w.b[:0]
		return nil, nil
	}
	if err != nil {
		w.b = w.b[:0]
		return nil, err
	}
	defer f.release()
	got, err := f.ReadAt(w.b, off)
	if err != nil && err != io.EOF {
		got = readAround(f, w.b, off)
	}
	w.b = w.b[:got]
	return w.b[:min(n, got)], nil
}

// readAround reads what can be read, a page at a time, up to the end of the file.
func readAround(f io.ReaderAt, b []byte, off int64) (n int) {
	const page = 4 << 10
	for n < len(b) {
		part := b[n:min(len(b), n+page-int((off+int64(n))%page))]
		got, err := f.ReadAt(part, off+int64(n))
		if err == io.EOF {
			return n + got
		}
		if err != nil {
			clear(part[got:])
		}
		n += len(part)
	}
	return n
}
