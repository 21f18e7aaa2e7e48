package boltspool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// maxSegmentBody is the largest body that goes into a segment.
	maxSegmentBody = 1 << 20
	// allocateStep is how far ahead of the frames a segment is allocated, so
	// that a sync need not change the size of the file.
	allocateStep = 4 << 20
	// writeSize is how many bytes of small frames are written at once.
	writeSize = 1 << 20
)

// errNoSpace says that there was no room for a write, and that no sync has
// failed: what was written can be taken back.
var errNoSpace = errors.New("no space")

// errTooMany says that a file could not be opened for want of descriptors or
// memory, which says nothing about the disk.
var errTooMany = errors.New("too much is open")

func openError(err error) error {
	if isTooMany(err) {
		return fmt.Errorf("%w: %w", errTooMany, err)
	}
	return noSpace(err)
}

func isTooMany(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// noSpace turns the error of a write into errNoSpace if it is harmless.
func noSpace(err error) error {
	if err != nil && isNoSpace(err) {
		return fmt.Errorf("%w: %w", errNoSpace, err)
	}
	return err
}

// segments writes frames to the current segment and knows what the others still
// hold. The committer owns it.
type segments struct {
	fs   vfs
	dir  string
	max  int64 // a segment that is longer than this gets no more frames
	last uint64
	use  map[uint64]*usage

	cur      file // nil before the first frame
	curNum   uint64
	off      int64 // where buf will be written
	buf      []byte
	capacity int64 // allocated size; -1 if the file system cannot allocate
	dirty    bool
	left     []uint64 // segments that were current when the group began
}

// usage counts what of a segment is still referred to.
type usage struct {
	bodies int
	bytes  int64
	end    int64 // where its last frame ends that was referred to at open
}

func segmentName(n uint64) string { return fmt.Sprintf("%016x.seg", n) }

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (n uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil && segmentName(n) == name
}

func (s *segments) path(n uint64) string { return filepath.Join(s.dir, segmentName(n)) }

// mark returns the place to which rewind can go back as long as nothing was
// synced.
func (s *segments) mark() (num uint64, off int64) { return s.curNum, s.off + int64(len(s.buf)) }

// rewind forgets the frames that were appended since mark. What of them is in a
// segment that was left meanwhile is garbage to which nothing refers.
func (s *segments) rewind(num uint64, off int64) {
	s.buf = s.buf[:0]
	s.dirty = false
	if s.curNum != num {
		off = segmentHeader
	}
	s.off = off
}

// append adds a frame. It is in the file when flush has returned and durable
// when sync has.
func (s *segments) append(id spool.ID, body []byte, sum uint32) (r bodyRecord, err error) {
	need := int64(frameHeaderSize + len(body))
	if s.cur == nil || s.off+int64(len(s.buf))+need > s.max {
		if err := s.rotate(); err != nil {
			return r, err
		}
	}
	at := s.off + int64(len(s.buf))
	if err := s.reserve(at + need); err != nil {
		return r, err
	}
	h := frameHeader{Type: frameBody, Generation: s.curNum, Length: uint64(len(body)), ID: id, Sum: sum}
	s.buf = h.append(s.buf, at)
	if len(s.buf)+len(body) <= writeSize {
		s.buf = append(s.buf, body...)
	} else if err := s.flush(); err != nil {
		return r, err
	} else if err := s.write(body); err != nil {
		return r, err
	}
	s.dirty = true
	return bodyRecord{kind: inSegment, size: int64(len(body)), segment: s.curNum, off: at, sum: sum}, nil
}

// flush writes what append has collected.
func (s *segments) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := s.write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *segments) write(b []byte) error {
	if _, err := s.cur.WriteAt(b, s.off); err != nil {
		return noSpace(err)
	}
	s.off += int64(len(b))
	return nil
}

// sync makes the frames in the current segment durable.
func (s *segments) sync() error {
	if err := s.flush(); err != nil {
		return err
	}
	if !s.dirty {
		return nil
	}
	if err := s.cur.Datasync(); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// rotate makes the current segment durable and begins the next.
func (s *segments) rotate() error {
	if err := s.sync(); err != nil {
		return err
	}
	n := s.last + 1
	f, err := s.fs.OpenFile(s.path(n), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return openError(err)
	}
	s.last = n
	if _, err := f.WriteAt(appendSegmentHeader(nil, n), 0); err != nil {
		f.Close()
		s.fs.Remove(s.path(n))
		return noSpace(err)
	}
	err = f.Sync()
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		f.Close()
		return err
	}
	if s.cur != nil {
		s.cur.Close()
		s.left = append(s.left, s.curNum)
	}
	s.cur, s.curNum, s.off, s.capacity = f, n, segmentHeader, segmentHeader
	return nil
}

// reserve allocates the current segment up to end at least.
func (s *segments) reserve(end int64) error {
	if s.capacity < 0 || end <= s.capacity {
		return nil
	}
	size := max(end, min(end+allocateStep, s.max))
	err := s.cur.Allocate(size)
	if err != nil && isNoSpace(err) {
		size = end
		err = s.cur.Allocate(size)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		s.capacity = -1
		return nil
	}
	if err != nil {
		return noSpace(err)
	}
	s.capacity = size
	return nil
}

// resume goes on in segment n, in which nothing stands behind end.
func (s *segments) resume(n uint64, end int64) error {
	f, err := s.fs.OpenFile(s.path(n), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size > end {
		err = f.Truncate(end)
	}
	if err == nil && size > end {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return err
	}
	s.cur, s.curNum, s.off, s.capacity = f, n, end, end
	return nil
}

// added and removed keep the books of what is referred to.
func (s *segments) added(r bodyRecord) {
	u := s.use[r.segment]
	if u == nil {
		u = &usage{}
		s.use[r.segment] = u
	}
	u.bodies++
	u.bytes += r.size
	u.end = max(u.end, r.off+frameHeaderSize+r.size)
}

// removed reports whether nothing in the segment is needed any more. The current
// segment is given up too if it is long, or space is short; to begin a new one
// costs two syncs.
func (s *segments) removed(r bodyRecord, short bool) (unused bool) {
	u := s.use[r.segment]
	if u == nil {
		return false
	}
	u.bodies--
	u.bytes -= r.size
	if u.bodies > 0 {
		return false
	}
	if r.segment == s.curNum && s.cur != nil {
		if s.off < s.max/8 && !short {
			return false
		}
		s.cur.Close()
		s.cur = nil
	}
	delete(s.use, r.segment)
	return true
}

// takeLeft returns the segments that were left and hold nothing that is needed.
func (s *segments) takeLeft() (unused []uint64) {
	for _, n := range s.left {
		if u := s.use[n]; u == nil || u.bodies == 0 {
			delete(s.use, n)
			unused = append(unused, n)
		}
	}
	s.left = s.left[:0]
	return unused
}

func (s *segments) close() {
	if s.cur != nil {
		s.cur.Close()
	}
}

// readSegment reads and verifies one body.
func readSegment(fsys vfs, dir string, id spool.ID, r bodyRecord) ([]byte, error) {
	f, err := fsys.OpenFile(filepath.Join(dir, segmentName(r.segment)), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, frameHeaderSize+r.size)
	if _, err := f.ReadAt(b, r.off); err == io.EOF {
		return nil, fmt.Errorf("%s ends before byte %d", segmentName(r.segment), r.off+int64(len(b)))
	} else if err != nil {
		return nil, err
	}
	h, err := parseFrame(b, r.segment, r.off)
	switch {
	case err != nil:
	case h.Type != frameBody || h.ID != id || h.Length != uint64(r.size) || h.Sum != r.sum:
		err = errors.New("frame of something else")
	case checksum(b[frameHeaderSize:]) != h.Sum:
		err = errors.New("wrong checksum of the body")
	}
	if err != nil {
		return nil, fmt.Errorf("%s at byte %d: %w", segmentName(r.segment), r.off, err)
	}
	return b[frameHeaderSize:], nil
}
