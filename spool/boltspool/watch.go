package boltspool

import (
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A watch decides whether segments of which hardly anything is needed may soon be
// empty by themselves, as they are while what is in them is delivered: to move that
// would be in vain.
type watch struct {
	before map[uint32]sighting
	seen   map[uint32]sighting
	now    time.Time
	newest uint32 // segment
	room   int64  // how much may lie idle for it
}

// A sighting is how much of a segment was needed at a time.
type sighting struct {
	live   int64
	at     time.Time
	newest uint32
}

// watch returns one that goes on with what was seen before. For it there may lie idle
// half as much as is needed of all segments, and four segments. Where space is short
// nothing may.
func (k *keeper) watch(usage []seglog.Usage) *watch {
	w := &watch{before: k.watched, seen: make(map[uint32]sighting), now: time.Now()}
	if k.s.opts.manual || k.s.short(shortBytes) {
		return w
	}
	w.room = 4 * k.s.log.Size
	for _, u := range usage {
		w.newest = max(w.newest, u.Segment)
		w.room += u.Live / 2
	}
	return w
}

// empties reports whether a segment is to be left alone. It is as long as every
// second, or with every segment that is begun, a quarter of what was needed of it no
// longer is.
func (w *watch) empties(u seglog.Usage) bool {
	if w.room -= u.End - u.Live; w.room < 0 {
		return false
	}
	seen, ok := w.before[u.Segment]
	ripe := w.now.Sub(seen.at) >= keeperRest || w.newest != seen.newest
	switch {
	case !ok || ripe && u.Live < seen.live-seen.live/4:
		seen = sighting{u.Live, w.now, w.newest}
	case ripe:
		return false
	}
	w.seen[u.Segment] = seen
	return true
}
