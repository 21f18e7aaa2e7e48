package boltspool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// scanAll looks at everything while the others work, and compares what is of m.
func (c *crowd) scanAll(m *sim) error {
	found, err := c.entriesOf(m.s)
	if err != nil || found == nil {
		return err
	}
	return c.compare(m, found)
}

// entriesOf returns what a Scan shows, nil if there is damage, or the power is cut.
func (c *crowd) entriesOf(s *Spool) (map[spool.ID]*spool.Entry, error) {
	found := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(context.Background(), spool.Query{}) {
		var corrupt *spool.CorruptError
		switch {
		case err == nil:
			found[e.ID] = e
		case errors.Is(err, spool.ErrFailed), errors.Is(err, vfstest.ErrPower), c.harmed && errors.As(err, &corrupt):
			return nil, nil
		default:
			return nil, fmt.Errorf("Scan while others work: %w", err)
		}
	}
	return found, nil
}

// compare compares what was found with what m knows, who does nothing meanwhile.
func (c *crowd) compare(m *sim, found map[spool.ID]*spool.Entry) error {
	for id, want := range m.entries {
		if !m.maybe[id] && !c.suspect[id] && !sameEntry(found[id], want) {
			return fmt.Errorf("entry %s: found %+v, want %+v", id, found[id], want)
		}
	}
	for id := range m.done {
		if found[id] != nil && !c.suspect[id] {
			return fmt.Errorf("entry %s was removed, and is found", id)
		}
	}
	return nil
}

// backup takes a copy while the others work, and looks at what is of m in it.
func (c *crowd) backup(m *sim) error {
	dir := fmt.Sprintf("%s-%s", c.dir, spool.NewID())
	err := m.s.Backup(context.Background(), dir)
	if err != nil {
		return nil // it may have been a fault
	}
	o := m.s.opts
	o.fs, o.ReadOnly, o.segmentSize, o.SegmentSize = c.fs, true, o.SegmentSize, 0
	s, err := Open(dir, &o)
	if errors.Is(err, vfstest.ErrPower) || errors.Is(err, fs.ErrNotExist) && m.s.failed() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("Open of the backup: %w", err)
	}
	defer s.Close()
	found, err := c.entriesOf(s)
	if err != nil || found == nil {
		return err
	}
	if err := c.compare(m, found); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	c.backups.Add(1)
	c.copies.Lock()
	defer c.copies.Unlock()
	c.copies.list = append(c.copies.list, copied{dir, found})
	for id, e := range found {
		if m.entries[id] == nil || c.suspect[id] {
			continue
		}
		var corrupt *spool.CorruptError
		err := m.readable(s, e)
		if err != nil && !errors.Is(err, vfstest.ErrPower) && !(c.harmed && errors.As(err, &corrupt)) {
			return fmt.Errorf("backup: %w", err)
		}
	}
	return nil
}

// A copied is a backup, and what was in it.
type copied struct {
	dir     string
	entries map[spool.ID]*spool.Entry
}

// lookAtCopies looks at the backups of the last life, which are durable.
func (c *crowd) lookAtCopies() error {
	list := c.copies.list
	c.copies.list = nil
	for _, from := range list {
		o := c.options(c.fs)
		o.ReadOnly = true
		s, err := Open(from.dir, o)
		if err != nil {
			return fmt.Errorf("Open of a backup: %w", err)
		}
		defer s.Close()
		found, err := c.entriesOf(s)
		if err == nil && !maps.EqualFunc(found, from.entries, sameEntry) && (found != nil || !c.harmed) {
			err = fmt.Errorf("%d entries, want %d", len(found), len(from.entries))
		}
		for id, e := range found {
			m := c.clientOf(id)
			if err == nil && m != nil && m.bodies[e.Body] != nil && !c.harmed {
				err = m.readable(s, e)
			}
		}
		if err != nil {
			return fmt.Errorf("a backup, later: %w", err)
		}
	}
	return nil
}

// glance looks at the spool without changing it, and lets Verify read it.
func (c *crowd) glance(o *Options) (map[spool.ID]*spool.Entry, error) {
	look := *o
	look.ReadOnly = true
	if _, err := vfs.ReadFile(c.fs, filepath.Join(c.dir, "FORMAT"), 1000); err != nil {
		return nil, nil // it is not made yet
	}
	verified, err := Verify(context.Background(), c.dir, &look)
	if err != nil || !c.harmed && (len(verified.Damaged) > 0 || verified.Healed > 0) {
		return nil, fmt.Errorf("Verify: %v, %v, %w", verified, verified.Damaged, err)
	}
	s, err := Open(c.dir, &look)
	if err != nil {
		return nil, fmt.Errorf("Open with ReadOnly: %w", err)
	}
	defer s.Close()
	found := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(context.Background(), spool.Query{}) {
		if err == nil {
			found[e.ID] = e
		}
	}
	return found, nil
}
