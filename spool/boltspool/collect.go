package boltspool

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

const (
	// collectBytes is how much one look at the index finds to be moved, and
	// moveBytes how much of it goes into one group.
	collectBytes = 64 << 20
	moveBytes    = 1 << 20
	moveRecords  = 256
)

// A move puts something at the end of the log that stands in a segment of which
// hardly anything is needed: one body, or records of entries that have their base
// in common. It is made whole or not at all.
type move struct {
	body    *seglog.Body
	from    seglog.Place
	entries []spool.ID // that refer to the body

	records []movedRecord
	block   []byte // the changes as they stand in the log
}

// A movedRecord is where a record stood, and where it is in its block.
type movedRecord struct {
	id         spool.ID
	from       seglog.Place
	at, length int
}

// collect moves what is left in some segments of which hardly anything is needed,
// so that they can be taken away. It reports whether there is more to be moved.
func (k *keeper) collect() (more bool, err error) {
	segments := k.sparse()
	if len(segments) == 0 {
		return false, nil
	}
	found := k.find(segments)
	err = k.move(found)
	if err != nil || len(found.bodies)+len(found.records) > 0 { // it was refused, or interrupted
		k.tried = nil
	}
	k.s.log.Reclaim(k.place().Segment())
	return err == nil && !k.stopping(), err
}

// interrupted reports whether there is something more urgent than to move.
func (k *keeper) interrupted() bool { return k.stopping() || k.due() }

func (k *keeper) stopping() bool {
	select {
	case <-k.stop:
		return true
	default:
		return k.s.failed() != nil
	}
}

// sparse picks segments. One from which something could not be moved is not
// picked again before less of it is needed.
func (k *keeper) sparse() map[uint32]bool {
	share := int64(4)
	if k.s.short(shortBytes) {
		share = 2 // space is worth more now
	}
	picked, bytes := make(map[uint32]bool), int64(0)
	tried := make(map[uint32]int64)
	usage := k.s.log.Usage()
	w := k.watch(usage)
	for _, u := range usage {
		if before, ok := k.tried[u.Segment]; ok {
			tried[u.Segment] = before
			if u.Live >= before {
				continue
			}
		}
		if !u.Sealed || u.Set || u.Live == 0 || u.Live >= u.End/share || bytes >= collectBytes {
			continue
		}
		if w.empties(u) {
			continue
		}
		picked[u.Segment] = true
		tried[u.Segment] = u.Live
		bytes += u.Live
	}
	k.tried, k.watched = tried, w.seen
	return picked
}

// findings are what stands in some segments, in the order of their places.
type findings struct {
	records []index.Entry
	bodies  []*foundBody
}

type foundBody struct {
	place   seglog.Place
	entries []spool.ID
}

// find looks at the whole index, a part at a time.
func (k *keeper) find(segments map[uint32]bool) *findings {
	s := k.s
	f := &findings{}
	bodies := make(map[index.BodyRef]*foundBody)
	for from := uint32(0); ; {
		s.mu.Lock()
		from = s.mu.index.Each(from, func(v *index.Visit) {
			if segments[v.Place.Segment()] {
				f.records = append(f.records, index.Entry{ID: v.ID, Place: v.Place})
			}
			if place := s.mu.index.Body(v.Body).Place; segments[place.Segment()] {
				b := bodies[v.Body]
				if b == nil || b.place != place { // another has the number meanwhile
					b = &foundBody{place: place}
					bodies[v.Body] = b
				}
				b.entries = append(b.entries, v.ID)
			}
		})
		s.mu.Unlock()
		if from == 0 {
			break
		}
		runtime.Gosched() // or the mutex would be ours again before anybody else is awake
	}
	for _, b := range bodies {
		f.bodies = append(f.bodies, b)
	}
	slices.SortFunc(f.records, func(a, b index.Entry) int { return cmp.Compare(a.Place, b.Place) })
	slices.SortFunc(f.bodies, func(a, b *foundBody) int { return cmp.Compare(a.place, b.place) })
	return f
}

// move moves what was found. What changes meanwhile, or is damaged, stays.
func (k *keeper) move(f *findings) error {
	for len(f.bodies) > 0 && !k.interrupted() {
		var moves []*move
		for bytes := 0; len(f.bodies) > 0 && bytes < moveBytes; f.bodies = f.bodies[1:] {
			if m := k.readBody(f.bodies[0]); m != nil {
				moves = append(moves, m)
				bytes += len(m.body.Data)
			}
		}
		if err := k.submit(moves); err != nil {
			return err
		}
	}
	r := k.s.newReader()
	for len(f.records) > 0 && !k.interrupted() {
		moves, n := k.readRecords(r, f.records)
		f.records = f.records[n:]
		if err := k.submit(moves); err != nil {
			return err
		}
	}
	return nil
}

// readBody reads a body that is to be moved; nil if that is not to be.
func (k *keeper) readBody(f *foundBody) *move {
	defer k.s.log.Reading()()
	id, size, err := k.s.log.BodyID(f.place)
	if err != nil {
		return nil
	}
	data, err := k.s.log.Body(f.place, id, size)
	if err != nil {
		return nil
	}
	m := &move{body: &seglog.Body{ID: id, Data: data, Sum: seglog.Checksum(data)}, from: f.place, entries: f.entries}
	m.block = record.AppendMove(nil, id, f.place, f.entries)
	k.moved.Add(int64(len(data)))
	return m
}

// readRecords reads the first n records that are to be moved: as many as go into
// one group. Those that have their base in common, or are one's base, stay
// together.
func (k *keeper) readRecords(r *entryReader, found []index.Entry) (moves []*move, n int) {
	defer k.s.log.Reading()()
	var m *move
	var base *spool.Entry
	var baseFrom seglog.Place
	baseAt := 0
	size := 0
	for ; n < min(len(found), moveRecords) && size < moveBytes; n++ {
		at := found[n]
		e, from, err := r.entryWithBase(at)
		if err != nil {
			continue // reported when the entry is read for itself
		}
		if m == nil || from != baseFrom {
			m, base, baseFrom = &move{}, nil, from
			moves = append(moves, m)
		}
		rec := movedRecord{id: at.ID, from: at.Place}
		m.block, rec.at = record.AppendPut(m.block, e, base, baseAt)
		rec.length = len(m.block) - rec.at
		if base == nil {
			base, baseAt = e, rec.at
		}
		m.records = append(m.records, rec)
		size += rec.length
	}
	k.moved.Add(int64(size))
	return moves, n
}

// submit has the committer make moves, and waits.
func (k *keeper) submit(moves []*move) error {
	if len(moves) == 0 {
		return nil
	}
	r := k.s.inbox.requests.get(0)
	r.moves, r.fresh = moves, false
	for _, m := range moves {
		r.bytes += int64(len(m.block))
		if m.body != nil {
			r.bytes += int64(len(m.body.Data))
		}
	}
	if err := k.s.inbox.submit(context.Background(), r); err != nil {
		return nil // closed, or busy with other things
	}
	err := r.moveErr
	k.s.inbox.requests.put(r)
	if errors.Is(err, spool.ErrFailed) {
		return nil // which everybody gets to know
	}
	return err
}

// judgeMoves decides which moves are made: those of what still is where it was.
// It comes before the units of the group, so that nothing changes in between. The
// caller holds mu.
func (g *group) judgeMoves(moves []*move) {
	x := g.s.mu.index
	for _, m := range moves {
		ok := m.body == nil || x.CanMove(m.body.ID, m.from, m.entries)
		for _, rec := range m.records {
			e, found := x.Find(rec.id)
			ok = ok && found && e.Place == rec.from
		}
		if !ok {
			continue
		}
		g.moves = append(g.moves, m)
		g.grows, g.leaves = true, true
		g.blocks += len(m.block)
		g.bytes += int64(len(m.block))
		if m.body != nil {
			g.bytes += seglog.FrameSize(int64(len(m.body.Data)))
		}
	}
}

// publishMoves brings moves into the index, whose blocks begin at a byte of the
// payload, and returns where the first body stands that a unit has brought.
func (g *group) publishMoves(start seglog.Place, at int) (units int, bodies seglog.Place) {
	x := g.s.mu.index
	place := seglog.BodyPlace(start, len(g.payload))
	for _, m := range g.moves {
		if m.body != nil {
			x.MoveBody(m.body.ID, m.from, place, m.entries)
			place = place.Plus(seglog.FrameSize(int64(len(m.body.Data))))
		}
		for _, rec := range m.records {
			x.MoveEntry(rec.id, rec.from, seglog.PayloadPlace(start, at+rec.at), rec.length)
		}
		at += len(m.block)
	}
	return at, place
}
