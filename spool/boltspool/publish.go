package boltspool

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// write appends the group to the log, and makes it durable.
func (g *group) write() (start seglog.Place, err error) {
	if g.blocks == 0 {
		return 0, nil // nothing but releases
	}
	g.listBodies()
	g.payload = record.AppendBodies(g.payload[:0], g.list)
	for _, m := range g.moves {
		g.payload = append(g.payload, m.block...)
	}
	for _, u := range g.units {
		g.payload = append(g.payload, u.block...)
	}
	if g.grows {
		keep := g.s.logKeep()
		if !g.leaves {
			keep /= 2
		}
		if err := g.s.log.Secure(g.bytes, keep); err != nil {
			return 0, err
		}
	}
	if start, err = g.s.log.Append(g.payload, g.data); err != nil {
		return 0, err
	}
	if err := g.s.log.Sync(); err != nil {
		return 0, fmt.Errorf("sync of the log: %w", err)
	}
	g.appended = true
	end, _ := g.s.log.End()
	g.count(end.Offset() - start.Offset())
	g.s.marks.synced(end)
	return start, nil
}

func (g *group) count(bytes int64) {
	c := &g.s.counted
	changes := len(g.moves)
	for _, u := range g.units {
		changes += len(u.changes)
	}
	c.groups.Add(1)
	c.changes.Add(int64(changes))
	c.written.Add(bytes)
}

// listBodies lists the bodies as the payload names them, and those that follow
// it.
func (g *group) listBodies() {
	g.list, g.data = g.list[:0], g.data[:0]
	for _, m := range g.moves {
		if b := m.body; b != nil {
			g.list = append(g.list, record.Body{ID: b.ID, Size: int64(len(b.Data)), Sum: b.Sum})
			g.data = append(g.data, *b)
		}
	}
	for _, b := range g.brought {
		w := b.stage
		if w.big != nil {
			g.list = append(g.list, record.Body{ID: w.id, File: true, Size: b.size, Sum: w.big.sum()})
			continue
		}
		g.list = append(g.list, record.Body{ID: w.id, Size: b.size, Sum: w.sum})
		g.data = append(g.data, seglog.Body{ID: w.id, Data: w.bytes(), Sum: w.sum})
	}
}

// publishPart is how many changes are published while others wait.
const publishPart = 64

// publish brings what is in memory up to what is durable now, and deletes what
// nothing refers to any more.
func (g *group) publish(start seglog.Place) {
	s := g.s
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.mu.Lock()
	at, bodies := g.publishMoves(start, len(g.payload)-g.blocks)
	g.publishBodies(bodies)
	freed, changes := false, 0
	for _, u := range g.units {
		freed = g.publishUnit(u, start, at) || freed
		at += len(u.block)
		if changes += len(u.changes); changes > publishPart {
			changes = 0
			s.mu.Unlock() // others wait
			s.mu.Lock()
		}
	}
	files := s.mu.index.Sweep()
	if g.appended {
		s.mu.end.Place, s.mu.end.Number = s.log.End()
	}
	used := s.mu.index.Bytes()
	s.mu.Unlock()
	if freed {
		s.notify()
	}
	s.use(used)
	for _, id := range files {
		name, _ := bigPath(s.bigDir, id)
		s.discard(name)
	}
}

func (g *group) publishBodies(place seglog.Place) {
	list := g.list[len(g.list)-len(g.brought):] // behind those that are moved
	for i, b := range g.brought {
		body := index.Body{Size: b.size}
		if b.stage.big != nil {
			body.File, body.Sum = true, list[i].Sum
		} else {
			body.Place = place
			place = place.Plus(seglog.FrameSize(b.size))
		}
		b.ref = g.s.mu.index.AddBody(b.stage.id, body)
	}
}

// publishUnit publishes a unit whose block begins at a byte of the payload, and
// reports whether an entry is free now.
func (g *group) publishUnit(u *unit, start seglog.Place, at int) (freed bool) {
	x := g.s.mu.index
	for i := range u.changes {
		c := &u.changes[i]
		e := c.entry
		switch {
		case c.gone:
		case c.op == spool.Remove:
			x.Remove(e.ID)
		case c.op == spool.Release:
			x.Release(e.ID)
			freed = true
		default:
			body := c.body.ref
			if c.body.brought != nil {
				body = c.body.brought.ref
			}
			place := seglog.PayloadPlace(start, at+c.at)
			x.Put(&index.Item{
				ID: e.ID, Due: e.Due, Received: e.Received, Place: place, Length: c.length, Size: c.size,
				State: e.State, Owned: c.keep, Body: body, Queue: e.Queue, Class: e.Class,
			})
			e.Rev, e.Size = uint64(place), c.size
			freed = freed || !c.keep
		}
	}
	return freed
}

// discard deletes a file on which nothing depends any more, unless somebody asks
// that it stay for a while.
func (s *Spool) discard(name string) {
	s.mu.Lock()
	later := s.mu.kept > 0
	if later {
		s.mu.discarded = append(s.mu.discarded, name)
	}
	s.mu.Unlock()
	if !later {
		s.removeFile(name)
	}
}

func (s *Spool) removeFile(name string) {
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.logger.Warn("boltspool: a file that is not needed any more stays until the spool is opened again", "file", name, "error", err)
	}
}
