package boltspool

import (
	"os"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
)

// A whole is what a replay of all of the log keeps in mind beside the index. Of
// the log segments are gone, so that entries come before their bodies, whose first
// place is gone with the entries that came before, or after the last entry that is
// known to have needed them has ended. All methods but end may be called on nil,
// for a replay from a checkpoint, which knows everything.
type whole struct {
	s      *Spool
	places map[spool.ID]index.Body // the last of each body that any group has brought
	later  map[spool.ID]postponed
}

// A postponed is an entry whose body has not been seen yet.
type postponed struct {
	item   *index.Item
	body   spool.ID
	skip   int64
	header int
}

func newWhole(s *Spool) *whole {
	return &whole{s: s, places: make(map[spool.ID]index.Body), later: make(map[spool.ID]postponed)}
}

func (w *whole) brought(bodies map[spool.ID]index.Body) {
	if w == nil {
		return
	}
	for id, b := range bodies {
		w.places[id] = b
	}
}

func (w *whole) postpone(e *spool.Entry, it *index.Item) {
	w.later[e.ID] = postponed{it, e.Body, e.Skip, len(e.Header)}
}

func (w *whole) has(id spool.ID) bool {
	if w == nil {
		return false
	}
	_, ok := w.later[id]
	return ok
}

// forget forgets an entry that has ended, or is in the index now.
func (w *whole) forget(id spool.ID) {
	if w != nil {
		delete(w.later, id)
	}
}

// end puts the entries that were postponed on their bodies, and returns how many
// have none. If the log is damaged, that may be why, and they stay.
func (w *whole) end(x *index.Index, damaged bool) (leftOut int) {
	for id, p := range w.later {
		body, ok := w.places[p.body]
		if !ok {
			body, ok = w.s.findFile(p.body)
		}
		if !ok && !damaged {
			w.leaveOut(id)
			leftOut++
			continue
		}
		ref, ok := x.FindBody(p.body)
		if !ok {
			ref = x.AddBody(p.body, body) // lost, if it is not there
		}
		putOn(x, ref, p.item, p.skip, p.header)
	}
	return leftOut + w.dropMissing(x)
}

// dropMissing takes out the entries whose bodies were in files that are not there
// any more.
func (w *whole) dropMissing(x *index.Index) int {
	missing := make(map[index.BodyRef]bool)
	for _, id := range x.Files() {
		name, _ := bigPath(w.s.bigDir, id)
		f, err := w.s.fs.OpenFile(name, os.O_RDONLY, 0)
		if err == nil {
			f.Close()
		} else if ref, ok := x.FindBody(id); ok && isMissing(err) {
			missing[ref] = true
		}
	}
	if len(missing) == 0 {
		return 0
	}
	var ids []spool.ID
	for from := uint32(0); ; {
		from = x.Each(from, func(v *index.Visit) {
			if missing[v.Body] {
				ids = append(ids, v.ID)
			}
		})
		if from == 0 {
			break
		}
	}
	for _, id := range ids {
		x.Remove(id)
		w.leaveOut(id)
	}
	x.Sweep()
	return len(ids)
}

func (w *whole) leaveOut(id spool.ID) {
	w.s.logger.Warn("boltspool: an entry is left out, since its body is gone: most likely it had ended", "dir", w.s.dir, "entry", id)
}

// findFile returns what the file of a big body says of itself. One that is damaged
// is there, and will be found to be so when it is read.
func (s *Spool) findFile(id spool.ID) (index.Body, bool) {
	name, _ := bigPath(s.bigDir, id)
	f, err := s.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return index.Body{File: !isMissing(err)}, !isMissing(err)
	}
	defer f.Close()
	b, err := tableBehind(f)
	if err != nil {
		b = index.Body{File: true}
	}
	return b, true
}
