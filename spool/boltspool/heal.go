package boltspool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// heal finds in the log what records of the checkpoint said that are damaged.
// Those that it does not find are set aside, and all files stay, since they may
// be what is not known. gone are the entries that ended behind the checkpoint.
func (s *Spool) heal(bad []badRecord, gone map[spool.ID]bool) error {
	if len(bad) == 0 {
		return nil
	}
	r, err := s.replayAll(context.Background())
	if err != nil {
		return err
	}
	h := healing{s: s, log: r, gone: gone, stale: make(map[spool.ID]bool)}
	for _, d := range r.regions {
		h.region(d)
	}
	for _, b := range bad {
		if err := h.record(b); err != nil {
			s.mu.kept++
			s.log.Keep()
			s.mu.lost++
			s.noteDamage(b.id(), damage{err: err})
			continue
		}
		s.healed++
		s.mu.unwanted = append(s.mu.unwanted, b.key)
	}
	h.lostBodies()
	return nil
}

// id returns the entry that a damaged record was of, if the ID is not what is
// damaged. In the file the value follows the key.
func (b *badRecord) id() (id spool.ID) {
	n := copy(id[:], b.key)
	copy(id[n:], b.value)
	return id
}

type healing struct {
	s     *Spool
	log   *replay
	gone  map[spool.ID]bool
	stale map[spool.ID]bool // entries whose last record in the log is damaged
}

// region notes damage to the log, which may hide what is looked for.
func (h *healing) region(d damage) {
	if !d.id.IsZero() {
		h.stale[d.id] = true
		return
	}
	if !h.s.knowsDamage(d) {
		h.s.addDamage(spool.ID{}, d)
	}
}

// record finds what a record said, or returns what is wrong with it.
func (h *healing) record(b badRecord) error {
	x, id := h.s.mu.index, b.id()
	if _, ok := x.Find(id); ok || h.gone[id] {
		return nil // the log said more of it since
	}
	if v, ok := h.log.x.Saved(id); ok && !h.stale[id] {
		h.s.logger.Warn("boltspool: a record of the index is damaged; the log has what it said", "dir", h.s.dir, "entry", id, "error", b.err)
		x.Adopt(&v)
		return nil
	}
	if id, ok := h.match(b.value); ok { // the ID is what is damaged
		v, ok := h.log.x.Saved(id)
		if _, known := x.Find(id); ok && !known {
			h.s.logger.Warn("boltspool: the ID of a record of the index is damaged; the log has it", "dir", h.s.dir, "entry", id)
			x.Adopt(&v)
		}
		return nil
	}
	return b.err
}

// match returns the entry of which a record is the whole one.
func (h *healing) match(value []byte) (id spool.ID, found bool) {
	for id := range h.gone {
		if _, ok := checkpoint.Matches(id, value); ok {
			return id, true
		}
	}
	for from := uint32(0); ; {
		from = h.log.x.Each(from, func(e *index.Visit) {
			if found || h.stale[e.ID] {
				return
			}
			if _, ok := checkpoint.Matches(e.ID, value); ok {
				id, found = e.ID, true
			}
		})
		if found || from == 0 {
			return id, found
		}
	}
}

// lostBodies brings entries on their bodies of which the checkpoint said in
// damaged records alone where they are, and the log behind it does not say it
// again.
func (h *healing) lostBodies() {
	x := h.s.mu.index
	var found []index.Saved
	for from := uint32(0); ; {
		from = x.Each(from, func(e *index.Visit) {
			if b := x.Body(e.Body); !b.Lost() {
				return
			}
			if v, ok := h.log.x.Saved(e.ID); ok && v.Place == e.Place && (v.BodyPlace > 0 || !v.BodyFile.IsZero()) {
				found = append(found, v)
			}
		})
		if from == 0 {
			break
		}
	}
	for i := range found {
		x.Remove(found[i].ID)
	}
	x.Sweep()
	for i := range found {
		x.Adopt(&found[i])
	}
}

// knowsDamage reports whether damage to the log is known.
func (s *Spool) knowsDamage(d damage) bool {
	return slices.ContainsFunc(s.mu.regions, func(known error) bool { return sameDamage(known, d.err) })
}

// sameDamage reports whether damage that is known begins at the same place of the
// log as another. What an earlier process has found is known by its text alone.
func sameDamage(known, found error) bool {
	var a, b *seglog.Damage
	var corrupt *spool.CorruptError
	switch {
	case !errors.As(found, &b) || !errors.As(known, &corrupt):
		return false
	case errors.As(known, &a):
		return a.From == b.From
	}
	return b.Says(corrupt.Err.Error())
}

// replayAll brings all that is in the log into an index of its own. Entries that
// ended long ago may be among them: their end may have been taken away.
func (s *Spool) replayAll(ctx context.Context) (*replay, error) {
	r := newReplay(index.New())
	r.whole = newWhole(s)
	log, err := s.openLog(true)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	apply := func(g seglog.Group) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.apply(g)
	}
	if err := log.Replay(seglog.Start{Synced: s.mu.end.Place}, apply, r.damaged); err != nil {
		return nil, fmt.Errorf("boltspool: %s: reading all of the log: %w", s.dir, err)
	}
	r.whole.end(r.x, len(r.regions)+len(r.lost) > 0)
	return r, nil
}
