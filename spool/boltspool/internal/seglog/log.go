// Package seglog is the log in which a spool keeps everything: groups of changes
// with the bodies that they bring, in segment files. What a payload says is up
// to its user.
package seglog

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Options say what a Log is.
type Options struct {
	FS    vfs.FS
	Dir   string
	Spool spool.ID // the name of the spool
	Size  int64    // at which a segment is closed
	Log   *slog.Logger

	ReadOnly bool // neither Resume nor Append will be called
}

// A Log is a directory of segments. One goroutine appends, one looks after the
// files (Prepare, Reclaim), and any may read.
type Log struct {
	Options
	seed seed

	// What the goroutine that appends owns.
	cur      *segment // nil before the first group
	off      int64    // where the next group will stand
	number   uint64   // that it will have
	capacity int64    // allocated size of cur; -1 if the file system cannot allocate
	filled   int64    // up to where cur has no blocks that were never written
	stale    bool     // what an Append that failed has left stands at off
	scratch  scratch

	unproven struct{ from, to Place } // the last group that Replay found, if it may not be durable

	// reading is held by readers from the moment at which they look a Place up
	// until they have read there.
	reading sync.RWMutex

	work  atomic.Bool                          // a segment is to be looked at
	files atomic.Pointer[map[uint32]*openFile] // of mu.segments; replaced when it changes

	mu struct {
		sync.Mutex
		segments map[uint32]*segment
		last     uint32   // the highest number that was ever given
		spares   []*spare // to become segments
		found    []string // names of spares of an earlier process
		serial   int      // of spares
		kept     int      // how many ask that nothing be taken away
	}
}

// A segment is one file of the log.
type segment struct {
	number   uint32
	f        *openFile // nil unless it is open
	live     int64     // bytes in it that somebody needs
	end      int64     // where its groups end; of a sealed one found at open, the size of the file
	capacity int64
	filled   int64 // see Log.filled
	sealed   bool
	noted    bool // that it is sparse
	set      bool // set aside: it is damaged, and stays
	missing  bool // something in it is needed, and there is no file
}

// A Body is what a group brings beside its payload.
type Body struct {
	ID   spool.ID
	Data []byte
	Sum  uint32 // Checksum of Data
}

// scratch is memory that each Append uses again.
type scratch struct {
	headers []byte
	bufs    [][]byte
}

var errTooLong = errors.New("seglog: a group of 4 GiB or more")

// SegmentName returns the name of the file of a segment.
func SegmentName(n uint32) string { return fmt.Sprintf("%016x.seg", n) }

func (l *Log) path(n uint32) string { return filepath.Join(l.Dir, SegmentName(n)) }

// FrameSize is what a body of that many bytes takes.
func FrameSize(body int64) int64 { return frameHeader + body }

// BodyPlace returns where the first body of a group stands. Each one follows the
// other.
func BodyPlace(group Place, payload int) Place { return group.Plus(FrameSize(int64(payload))) }

// PayloadPlace returns where a byte of the payload of a group stands.
func PayloadPlace(group Place, at int) Place { return group.Plus(frameHeader + int64(at)) }

// Append writes a group behind the last one. It is durable when Sync has
// returned nil, which must be before the next Append. After an error that is
// vfs.ErrNoSpace or vfs.ErrTooMany the log is as before.
func (l *Log) Append(payload []byte, bodies []Body) (Place, error) {
	need := FrameSize(int64(len(payload)))
	for i := range bodies {
		need += FrameSize(int64(len(bodies[i].Data)))
	}
	if need > MaxOffset-segmentHeader {
		return 0, errTooLong
	}
	if l.cur == nil || l.off+need > max(l.limit(), segmentHeader+need) {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	if err := l.makeRoom(need); err != nil {
		return 0, err
	}
	start := At(l.cur.number, l.off)
	n, err := l.cur.f.WriteVAt(l.buffers(payload, bodies, need), l.off)
	if err != nil {
		l.stale = l.stale || n > 0
		return 0, l.takeBack(vfs.WriteError(err))
	}
	l.stale = false
	l.off += need
	l.number++
	l.fill(need)
	l.mu.Lock()
	if l.cur.end < l.Size/2 && l.off >= l.Size/2 {
		l.work.Store(true) // for Prepare
	}
	l.cur.end = l.off
	l.mu.Unlock()
	return start, nil
}

const (
	// fillAhead is how far ahead of the groups blocks are filled.
	fillAhead = 1 << 20
	// maxFilled bounds the groups for which that is done: the sync of a larger one
	// costs so much that nothing is saved.
	maxFilled = 64 << 10
)

// fill has what follows written where blocks were written before. A sync commits to
// the journal of the file system which blocks are new, and for small groups that
// costs more than the rest of it. Nothing depends on fill.
func (l *Log) fill(need int64) {
	if l.off <= l.filled || l.capacity < 0 {
		return
	}
	l.filled = l.off
	n := min(fillAhead, l.capacity-l.off)
	if need > maxFilled || n <= 0 {
		return
	}
	if err := l.cur.f.Fill(l.off, n); err != nil {
		l.filled = l.capacity
		return
	}
	l.filled += n
}

// limit is up to where groups stand in the current segment. Behind a group that is larger
// than a segment should be there may be room that Secure has promised.
func (l *Log) limit() int64 { return max(l.Size, l.capacity) }

// buffers returns what a group consists of.
func (l *Log) buffers(payload []byte, bodies []Body, total int64) [][]byte {
	s := &l.scratch
	need := frameHeader * (1 + len(bodies))
	if cap(s.headers) < need { // no append may move it below
		s.headers = make([]byte, 0, 2*need)
	}
	s.headers, s.bufs = s.headers[:0], s.bufs[:0]
	h := header{Type: frameGroup, Length: uint64(len(payload)), Sum: Checksum(payload), Number: l.number, Total: uint64(total)}
	off := l.off
	s.add(&h, l.seed, l.cur.number, off, payload)
	off += FrameSize(int64(len(payload)))
	for i := range bodies {
		b := &bodies[i]
		h := header{Type: frameBody, Length: uint64(len(b.Data)), Sum: b.Sum, ID: b.ID}
		s.add(&h, l.seed, l.cur.number, off, b.Data)
		off += FrameSize(int64(len(b.Data)))
	}
	return s.bufs
}

func (s *scratch) add(h *header, seed seed, segment uint32, off int64, payload []byte) {
	at := len(s.headers)
	s.headers = h.append(s.headers, seed, segment, off)
	s.bufs = append(s.bufs, s.headers[at:], payload)
}

// Sync makes what was appended durable. Its error is final.
func (l *Log) Sync() error {
	clear(l.scratch.bufs) // the bodies are others'
	return l.cur.f.Datasync()
}

// GoesOn reports whether the next group may stand in a segment that is there.
func (l *Log) GoesOn() bool { return l.cur != nil }

// End returns where the next group would stand, or later, and the number that it
// would have: a Start for what follows.
func (l *Log) End() (Place, uint64) {
	if l.cur == nil {
		return At(l.mu.last+1, segmentHeader), l.number
	}
	return At(l.cur.number, l.off), l.number
}

// takeBack removes what an Append has left that found no space: it is answered as not
// stored, and must not be found whole because what was not written was as it should be.
func (l *Log) takeBack(failure error) error {
	if !errors.Is(failure, vfs.ErrNoSpace) {
		return failure // final
	}
	if err := l.wipe(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
		return err
	}
	return failure
}

// wipe removes what an Append that failed has left behind the last group, so
// that nothing ever takes it for one.
func (l *Log) wipe() error {
	if !l.stale {
		return nil
	}
	if _, err := l.cur.f.WriteAt(make([]byte, frameHeader), l.off); err != nil {
		return vfs.WriteError(err)
	}
	if err := l.cur.f.Datasync(); err != nil {
		return err
	}
	l.stale = false
	return nil
}

// AddLive says that some bytes at a place are needed, or, if they are less than
// 0, that they no longer are.
func (l *Log) AddLive(p Place, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segment(p.Segment())
	s.live += bytes
	if bytes < 0 && s.sealed && !s.set && (s.live == 0 || s.sparse() && !s.noted) {
		s.noted = true
		l.work.Store(true)
	}
}

// sparse reports whether so little of a segment is needed that the rest is worth
// moving.
func (s *segment) sparse() bool { return s.live < s.end/4 }

// Work reports, once, whether segments have come to be hardly needed, or the next
// one has to be made ready.
func (l *Log) Work() bool { return l.work.Load() && l.work.Swap(false) }

// segment returns a segment, which may be missing. The caller holds mu.
func (l *Log) segment(n uint32) *segment {
	s := l.mu.segments[n]
	if s == nil {
		s = &segment{number: n, sealed: true, missing: true}
		l.mu.segments[n] = s
		l.mu.last = max(l.mu.last, n) // no other gets its number
	}
	return s
}

// publishFiles lets readers know which files are open. The caller holds mu.
func (l *Log) publishFiles() {
	files := make(map[uint32]*openFile, maxOpen)
	for n, s := range l.mu.segments {
		if s.f != nil {
			files[n] = s.f
		}
	}
	l.files.Store(&files)
}

// Close closes all files. It writes nothing.
func (l *Log) Close() {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.mu.segments {
		if s.f != nil {
			s.f.Close()
			s.f = nil
		}
	}
	l.publishFiles()
	for _, s := range l.mu.spares {
		s.f.Close()
	}
	l.mu.spares = nil
}
