package boltspool

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A replay brings what stands in the log into an index.
type replay struct {
	x       *index.Index
	opening spool.ID            // of the last interruptions that were counted
	removed map[spool.ID]bool   // entries that were removed last
	lost    map[spool.ID]damage // entries whose last record is damaged
	regions []damage            // damage of which no entry is known

	whole   *whole // if all of the log is read, and not what follows a checkpoint
	lenient bool   // the checkpoint did not say everything: bodies are where they were moved
}

// A damage is what could not be read of the log.
type damage struct {
	segments []uint32
	err      error
	id       spool.ID // of an entry of which an older record serves
}

func newReplay(x *index.Index) *replay {
	return &replay{x: x, removed: make(map[spool.ID]bool), lost: make(map[spool.ID]damage)}
}

// replay applies what stands in the log behind the checkpoint. It returns what
// was removed there.
func (s *Spool) replay(start seglog.Start, lenient bool) (removed map[spool.ID]bool, err error) {
	r := newReplay(s.mu.index)
	r.lenient = lenient
	r.opening = s.mu.end.Opening
	if start.Place == 0 { // Rebuild
		r.whole = newWhole(s)
	}
	if err := s.log.Replay(start, r.apply, r.damaged); err != nil {
		return nil, err
	}
	if r.whole != nil {
		s.leftOut = r.whole.end(r.x, len(r.regions)+len(r.lost) > 0)
	}
	s.mu.end.Opening = r.opening
	s.mu.end.Place, s.mu.end.Number = s.log.End()
	for id, d := range r.lost {
		s.addDamage(id, d)
	}
	for _, d := range r.regions {
		s.addDamage(spool.ID{}, d)
	}
	return r.removed, nil
}

func (r *replay) damaged(d *seglog.Damage) error {
	r.regions = append(r.regions, damage{segments: d.Segments(), err: d})
	return nil
}

// apply does to the index what a group of the log says.
func (r *replay) apply(g seglog.Group) error {
	bodies, rest, err := record.ParseBodies(g.Payload)
	if err = errors.Join(g.Err, err); err != nil && rest == 0 {
		return r.damaged(&seglog.Damage{From: g.Place, To: g.Place, Err: err})
	}
	a := &application{replay: r, place: g.Place, payload: g.Payload, brought: broughtBodies(g, bodies)}
	r.whole.brought(a.brought)
	found := false
	for c, err := range record.Changes(g.Payload, rest) {
		if err == nil {
			err = a.change(c)
		}
		if err == nil {
			r.done(c)
			continue
		}
		found = true
		r.changeDamaged(c, &seglog.Damage{From: g.Place, To: g.Place, Err: err})
	}
	if g.Err != nil && !found { // in what has no checksum of its own
		r.damaged(&seglog.Damage{From: g.Place, To: g.Place, Err: g.Err})
	}
	r.x.Sweep()
	return nil
}

func (r *replay) changeDamaged(c record.Change, d *seglog.Damage) {
	found := damage{segments: d.Segments(), err: d}
	switch {
	case c.Op != record.Put:
		r.regions = append(r.regions, found)
	case r.knows(c.ID): // an older record of the entry serves
		found.id = c.ID
		r.regions = append(r.regions, found)
	default:
		r.lost[c.ID] = found
	}
}

// knows reports whether an older record of an entry was found.
func (r *replay) knows(id spool.ID) bool {
	_, ok := r.x.Find(id)
	return ok || r.whole.has(id)
}

// done notes a change that was applied.
func (r *replay) done(c record.Change) {
	switch c.Op {
	case record.Counted:
		r.opening = c.ID
	case record.Put:
		delete(r.lost, c.ID)
		delete(r.removed, c.ID)
	case record.Remove:
		delete(r.lost, c.ID)
		r.removed[c.ID] = true
	}
}

// broughtBodies returns the bodies that come with a group.
func broughtBodies(g seglog.Group, list []record.Body) map[spool.ID]index.Body {
	place := seglog.BodyPlace(g.Place, len(g.Payload))
	brought := make(map[spool.ID]index.Body, len(list))
	for i := range list {
		b := index.Body{File: list[i].File, Size: list[i].Size}
		if b.File {
			b.Sum = list[i].Sum
		} else {
			b.Place = place
			place = place.Plus(seglog.FrameSize(b.Size))
		}
		brought[list[i].ID] = b
	}
	return brought
}

// An application brings the changes of one group into an index.
type application struct {
	*replay
	place   seglog.Place
	payload []byte
	brought map[spool.ID]index.Body

	base   *spool.Entry // that at baseAt
	baseAt int
}

func (a *application) change(c record.Change) error {
	switch c.Op {
	case record.Put:
		return a.put(c)
	case record.Remove:
		a.x.Remove(c.ID)
		a.whole.forget(c.ID)
	case record.Move:
		to, ok := a.brought[c.ID]
		if ok && (a.whole != nil || a.lenient) {
			a.x.PlaceBody(c.ID, to.Place, c.Entries)
			return nil
		}
		if !ok || !a.x.MoveBody(c.ID, c.From, to.Place, c.Entries) {
			return fmt.Errorf("body %s did not stand at %v", c.ID, c.From)
		}
	}
	return nil
}

func (a *application) put(c record.Change) error {
	e, err := a.decode(c)
	if err != nil {
		return err
	}
	ref, ok := a.x.FindBody(e.Body)
	if !ok {
		body, ok := a.brought[e.Body]
		if !ok && a.whole != nil {
			a.x.Remove(e.ID)
			a.whole.postpone(e, a.item(e, c))
			return nil
		}
		ref = a.x.AddBody(e.Body, body) // lost, if it is not there
	}
	a.whole.forget(e.ID)
	putOn(a.x, ref, a.item(e, c), e.Skip, len(e.Header))
	return nil
}

// item returns what the index is told of an entry, but for its body.
func (a *application) item(e *spool.Entry, c record.Change) *index.Item {
	return &index.Item{
		ID: e.ID, Due: e.Due, Received: e.Received, Place: seglog.PayloadPlace(a.place, c.At), Length: c.Length,
		State: e.State, Queue: e.Queue, Class: e.Class,
	}
}

// putOn puts an entry on its body.
func putOn(x *index.Index, ref index.BodyRef, it *index.Item, skip int64, header int) {
	it.Body, it.Size = ref, max(x.Body(ref).Size-skip, 0)+int64(header)
	x.Put(it)
}

// decode returns the entry of a Put.
func (a *application) decode(c record.Change) (*spool.Entry, error) {
	if c.Entry.Back == 0 {
		e, err := c.Entry.Decode(nil)
		if err == nil {
			a.base, a.baseAt = e, c.At
		}
		return e, err
	}
	at := c.At - c.Entry.Back
	if a.base == nil || a.baseAt != at {
		if at < 0 {
			return nil, errors.New("the base of a record is not in its group")
		}
		base, _, err := record.Parse(a.payload[at:])
		if err != nil {
			return nil, fmt.Errorf("the base of a record: %w", err)
		}
		if a.base, err = base.Decode(nil); err != nil {
			return nil, fmt.Errorf("the base of a record: %w", err)
		}
		a.baseAt = at
	}
	return c.Entry.Decode(a.base)
}

// A damageText is what the checkpoint keeps of damage to the log.
type damageText struct {
	ID       spool.ID // of the entry; zero if no entry is known
	Segments []uint32 // which are kept for good
	Text     string
}

// addDamage sets an entry aside, or notes damage of which no entry is known if
// id is zero, and has the next checkpoint keep a note: this part of the log is
// not read again.
func (s *Spool) addDamage(id spool.ID, d damage) {
	s.noteDamage(id, d)
	if text, err := json.Marshal(damageText{id, d.segments, d.err.Error()}); err == nil {
		s.mu.unwritten = append(s.mu.unwritten, text)
	}
}

func (s *Spool) noteDamage(id spool.ID, d damage) {
	for _, n := range d.segments {
		s.log.SetAside(n)
	}
	corrupt := &spool.CorruptError{ID: id, Part: "entry", Err: d.err}
	s.logger.Error("boltspool: damage is set aside", "dir", s.dir, "error", corrupt)
	if id.IsZero() {
		s.mu.regions = append(s.mu.regions, corrupt)
	} else {
		s.mu.damaged[id] = corrupt
	}
	s.mu.unsaid = append(s.mu.unsaid, corrupt)
}

// loadDamage takes a note of damage from the checkpoint.
func (s *Spool) loadDamage(text []byte) {
	var d damageText
	if err := json.Unmarshal(text, &d); err != nil {
		d = damageText{Text: fmt.Sprintf("a note of damage is damaged itself: %q", text)}
	}
	s.noteDamage(d.ID, damage{segments: d.Segments, err: errors.New(d.Text)})
}
