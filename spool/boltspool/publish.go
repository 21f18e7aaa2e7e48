package boltspool

import (
	"errors"
	"io/fs"

	"github.com/deferredqueue/deferredqueue/spool"
)

// publish brings what is in memory up to what is durable now, and deletes what
// nothing refers to any more.
func (t *txn) publish() {
	s := t.s
	freed := false
	s.mu.Lock()
	for _, ef := range t.effects {
		e := ef.c.entry
		switch ef.c.op {
		case spool.Remove:
			s.mu.index.remove(e.ID)
			continue
		case spool.Release:
			s.mu.index.release(e.ID)
			freed = true
			continue
		}
		e.Rev, e.Size = ef.rev, ef.c.size
		s.mu.index.put(item{id: e.ID, due: instant(e.Due), received: instant(e.Received), size: e.Size,
			rev: e.Rev, state: e.State, owned: ef.c.keep}, []byte(e.Queue), []byte(e.Class))
		freed = freed || !ef.c.keep
	}
	s.mu.Unlock()
	if freed {
		s.notify()
	}
	s.use(t.used)
	for _, b := range t.added {
		if b.rec.kind == inSegment {
			s.segs.added(b.rec)
		}
	}
	for _, b := range t.removed {
		s.discard(b)
	}
	for _, n := range s.segs.takeLeft() {
		s.removeFile(s.segs.path(n))
	}
}

// settle tells the Writers whose bodies are stored now.
func settle(reqs []*request) {
	for _, r := range reqs {
		for i := range r.units {
			if u := &r.units[i]; u.err == nil {
				u.settleStages(stored)
			}
		}
	}
}

// discard deletes what is left of a body that was removed durably.
func (s *Spool) discard(b bodyChange) {
	var name string
	switch b.rec.kind {
	case inFile:
		name, _ = bigPath(s.bigDir, b.id)
	case inSegment:
		if !s.segs.removed(b.rec, s.short(shortBytes|shortInodes)) {
			return
		}
		name = s.segs.path(b.rec.segment)
	}
	s.removeFile(name)
}

// removeFile deletes a file on which nothing depends any more.
func (s *Spool) removeFile(name string) {
	if s.bodyDamage {
		return // who knows
	}
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("boltspool: a file that is not needed any more stays until the spool is opened again", "file", name, "error", err)
	}
}
