package boltspool

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	marksFile = "running"
	markSize  = len(spool.ID{})
	maxMarks  = 64 << 20 // bytes of the file
	firstMark = 2        // place of the first entry
)

// marks is the file "running": 16 bytes that name this opening of the spool, 16
// that say how much of the log is durable, and then one ID for each entry whose
// handler may run. It is written without a sync: the page cache outlives the
// process, and that is all a mark must do. What it says of the log is true
// whenever it is read, though perhaps not the latest.
type marks struct {
	f   vfs.File
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

// A leftover is what the marks of an earlier process say.
type leftover struct {
	opening spool.ID
	synced  seglog.Place
	ids     []spool.ID // each once
}

func readMarks(fsys vfs.FS, name string) (left leftover, err error) {
	b, err := vfs.ReadFile(fsys, name, maxMarks)
	if errors.Is(err, fs.ErrNotExist) {
		return left, nil
	}
	return parseMarks(b), err
}

func parseMarks(b []byte) (left leftover) {
	if len(b) < firstMark*markSize {
		return left
	}
	copy(left.opening[:], b)
	le := binary.LittleEndian
	if place := b[markSize : 2*markSize]; seglog.Checksum(place[:8]) == le.Uint32(place[8:]) {
		left.synced = seglog.Place(le.Uint64(place))
	}
	for b = b[firstMark*markSize:]; len(b) >= markSize; b = b[markSize:] {
		if id := spool.ID(b[:markSize]); !id.IsZero() {
			left.ids = append(left.ids, id)
		}
	}
	slices.SortFunc(left.ids, func(a, b spool.ID) int { return bytes.Compare(a[:], b[:]) })
	left.ids = slices.Compact(left.ids)
	return left
}

// newMarks begins the file anew.
func newMarks(fsys vfs.FS, name string, log *slog.Logger) (*marks, error) {
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	m := &marks{f: f, log: log}
	m.mu.slots = make(map[spool.ID]int)
	m.mu.next = firstMark
	var opening spool.ID
	rand.Read(opening[:]) // never fails: crypto/rand documents it
	m.write(0, opening)
	return m, nil
}

// synced says that the log is durable up to a place. A write that fails costs
// nothing but help with telling damage from what was never finished.
func (m *marks) synced(p seglog.Place) { _, _ = m.f.WriteAt(endMark(p), int64(markSize)) }

func endMark(p seglog.Place) []byte {
	b := make([]byte, markSize)
	binary.LittleEndian.PutUint64(b, uint64(p))
	binary.LittleEndian.PutUint32(b[8:], seglog.Checksum(b[:8]))
	return b
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

// clear ends all marks for good. How much of the log is durable stays: no checkpoint
// may say it.
func (m *marks) clear() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ended = true
	clear(m.mu.slots)
	return m.f.Truncate(int64(firstMark * markSize))
}

// Started marks entries whose handlers are about to run, with one small write
// to the page cache each. The marks outlive the process, though not the loss of
// power. When the process dies before Ended or Close, the next Open adds one to
// Interrupted of these entries. It does not wait for the disk.
func (s *Spool) Started(ids ...spool.ID) {
	if s.closed.Load() || s.marks == nil {
		return
	}
	for _, id := range ids {
		s.marks.start(id)
	}
}

// Ended takes the marks of Started away. To end what was not started does
// nothing.
func (s *Spool) Ended(ids ...spool.ID) {
	if s.closed.Load() || s.marks == nil {
		return
	}
	for _, id := range ids {
		s.marks.end(id)
	}
}
