package boltspool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	markSize = len(spool.ID{})
	maxMarks = 64 << 20 // bytes of the file
)

// marks is the file "running": 16 bytes that name this opening of the spool, then
// one ID for each entry whose handler may run. It is written without a sync: the
// page cache outlives the process, and that is all a mark must do.
type marks struct {
	f   file
	log *slog.Logger
	mu  struct {
		sync.Mutex
		slots map[spool.ID]int // place in the file
		free  []int
		next  int
		said  bool // that a write failed
		ended bool // by clear
	}
}

// openMarks hands what an earlier process left to count, with the name of its
// opening, and begins anew.
func openMarks(fsys vfs, name string, log *slog.Logger, count func(opening spool.ID, ids []spool.ID) error) (*marks, error) {
	old, err := readFile(fsys, name, maxMarks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if opening, ids := parseMarks(old); len(ids) > 0 {
		if err := count(opening, ids); err != nil {
			return nil, err
		}
	}
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	m := &marks{f: f, log: log}
	m.mu.slots = make(map[spool.ID]int)
	m.mu.next = 1
	var opening spool.ID
	rand.Read(opening[:]) // never fails: crypto/rand documents it
	m.write(0, opening)
	return m, nil
}

// parseMarks returns the entries that are marked, each once.
func parseMarks(b []byte) (opening spool.ID, ids []spool.ID) {
	if len(b) < markSize {
		return opening, nil
	}
	copy(opening[:], b)
	for b = b[markSize:]; len(b) >= markSize; b = b[markSize:] {
		if id := spool.ID(b[:markSize]); !id.IsZero() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b spool.ID) int { return slices.Compare(a[:], b[:]) })
	return opening, slices.Compact(ids)
}

func (m *marks) start(id spool.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.slots[id]; ok || m.mu.ended {
		return
	}
	place := m.mu.next
	if n := len(m.mu.free); n > 0 {
		place = m.mu.free[n-1]
		m.mu.free = m.mu.free[:n-1]
	} else {
		m.mu.next++
	}
	m.mu.slots[id] = place
	m.write(place, id)
}

func (m *marks) end(id spool.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	place, ok := m.mu.slots[id]
	if !ok {
		return
	}
	delete(m.mu.slots, id)
	m.mu.free = append(m.mu.free, place)
	m.write(place, spool.ID{})
}

// write sets one place. An error costs the count of an interruption and no
// mail, so that it is only logged, once.
func (m *marks) write(place int, id spool.ID) {
	if _, err := m.f.WriteAt(id[:], int64(place*markSize)); err != nil && !m.mu.said {
		m.mu.said = true
		m.log.Warn("boltspool: an interruption of the handlers that start now may not be counted", "error", err)
	}
}

// clear ends all marks for good.
func (m *marks) clear() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ended = true
	clear(m.mu.slots)
	return m.f.Truncate(0)
}

// Started marks entries whose handlers are about to run, with one small write
// to the page cache each. The marks outlive the process, though not the loss of
// power. When the process dies before Ended or Close, the next Open adds one to
// Interrupted of these entries. It does not wait for the disk.
func (s *Spool) Started(ids ...spool.ID) {
	if s.closed.Load() {
		return
	}
	for _, id := range ids {
		s.marks.start(id)
	}
}

// Ended takes the marks of Started away. To end what was not started does
// nothing.
func (s *Spool) Ended(ids ...spool.ID) {
	if s.closed.Load() {
		return
	}
	for _, id := range ids {
		s.marks.end(id)
	}
}

// countInterrupted adds one to Interrupted of the entries that an earlier
// process left marked, durably, and once for each opening of the spool.
func (s *Spool) countInterrupted(opening spool.ID, ids []spool.ID) (err error) {
	defer recoverIndex(&err)()
	s.log.Warn("boltspool: the last process died while handlers ran", "dir", s.dir, "entries", len(ids))
	err = s.indexFile.reserve(0, 0)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if string(meta.Get(keyMarks)) == string(opening[:]) {
			return nil
		}
		entries := tx.Bucket(bucketEntries)
		entries.FillPercent = fillPercent
		for _, id := range ids {
			if err := s.interrupted(entries, id); err != nil {
				return err
			}
		}
		return meta.Put(keyMarks, opening[:])
	})
}

func (s *Spool) interrupted(entries *bbolt.Bucket, id spool.ID) error {
	v := entries.Get(id[:])
	if v == nil {
		return nil
	}
	e, err := parseRecord(v, id[:])
	if err != nil {
		return nil // reported when the entries are read
	}
	e.Interrupted++
	rec := appendRecord(nil, e)
	sealRecord(rec, id, e.Rev+1, e.Size)
	if err := entries.Put(id[:], rec); err != nil {
		return fmt.Errorf("entry %s in %s: %w", id, filepath.Base(s.indexName()), err)
	}
	return nil
}
