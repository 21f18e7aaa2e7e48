package boltspool

import (
	"fmt"
	"os"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// heal finds in the log what records of the checkpoint said that are damaged.
// Those that it does not find are set aside, and all files stay, since they may
// be what is not known.
func (s *Spool) heal(bad []badRecord, gone map[spool.ID]bool) error {
	if len(bad) == 0 {
		return nil
	}
	r, err := s.replayAll()
	if err != nil {
		return err
	}
	for _, b := range bad {
		var id spool.ID
		copy(id[:], b.key)
		if err := s.healRecord(r.x, id, b, gone[id]); err != nil {
			s.mu.kept++
			s.log.Keep()
			s.mu.lost++
			s.noteDamage(id, damage{err: err})
		}
	}
	return nil
}

func (s *Spool) healRecord(all *index.Index, id spool.ID, b badRecord, gone bool) error {
	x := s.mu.index
	if _, ok := x.Find(id); ok || gone {
		x.Forget(id) // the log said more of it since
		return nil
	}
	if v, ok := all.Saved(id); ok {
		s.logger.Warn("boltspool: a record of the index is damaged; the log has what it said", "dir", s.dir, "entry", id, "error", b.err)
		x.Adopt(&v)
		return nil
	}
	if v, ok := findMatch(all, x, b.value); ok {
		s.logger.Warn("boltspool: the ID of a record of the index is damaged; the log has it", "dir", s.dir, "entry", v.ID)
		x.Forget(id)
		x.Adopt(&v)
		return nil
	}
	return b.err
}

// findMatch returns what a record says, if it is that of an entry in all which is
// not known: the ID may be what is damaged.
func findMatch(all, known *index.Index, value []byte) (v index.Saved, found bool) {
	for from := uint32(0); ; {
		from = all.Each(from, func(e *index.Visit) {
			if _, ok := known.Find(e.ID); ok || found {
				return
			}
			v, found = checkpoint.Matches(e.ID, value)
		})
		if found || from == 0 {
			return v, found
		}
	}
}

// replayAll brings all that is in the log into an index of its own. Entries that
// ended long ago may be among them: their end may have been taken away.
func (s *Spool) replayAll() (*replay, error) {
	r := newReplay(index.New())
	r.find = s.findFile
	log, err := s.openLog(true)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := log.Replay(seglog.Start{}, r.apply, r.damaged); err != nil {
		return nil, fmt.Errorf("boltspool: %s: reading all of the log: %w", s.dir, err)
	}
	return r, nil
}

// findFile returns what the file of a big body says of itself, if it is there.
func (s *Spool) findFile(id spool.ID) (index.Body, bool) {
	name, _ := bigPath(s.bigDir, id)
	f, err := s.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return index.Body{}, false
	}
	defer f.Close()
	b, err := tableBehind(f)
	return b, err == nil
}
