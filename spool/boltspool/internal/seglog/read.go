package seglog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Reading keeps every segment in place until done is called. A Place that is
// looked up meanwhile can be read meanwhile.
func (l *Log) Reading() (done func()) {
	l.reading.RLock()
	return l.reading.RUnlock
}

// maxOpen is how many segments are kept open, unless more are read at a time.
const maxOpen = 256

// An openFile is a file that is closed only while nobody uses it.
type openFile struct {
	vfs.File
	users atomic.Int32 // -1: it is closed
}

// use reports whether the file is open. It stays so until release.
func (f *openFile) use() bool {
	for {
		n := f.users.Load()
		if n < 0 {
			return false
		}
		if f.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (f *openFile) release() { f.users.Add(-1) }

// file returns the file of a segment, in use. The caller is Reading, or looks
// after the files.
func (l *Log) file(n uint32) (*openFile, error) {
	if f := (*l.files.Load())[n]; f != nil && f.use() {
		return f, nil
	}
	l.mu.Lock()
	s := l.mu.segments[n]
	l.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%s: %w", SegmentName(n), os.ErrNotExist)
	}
	flag := os.O_RDWR // it may become a spare
	if l.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := l.FS.OpenFile(l.path(n), flag, 0)
	if err != nil {
		return nil, vfs.OpenError(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.f != nil && s.f.use() { // another was faster
		f.Close()
		return s.f, nil
	}
	s.f = &openFile{File: f}
	s.f.use()
	l.closeSome()
	l.publishFiles()
	return s.f, nil
}

// closeSome closes files that nobody uses, if many are open. The caller holds mu.
func (l *Log) closeSome() {
	open := 0
	for _, s := range l.mu.segments {
		if s.f != nil {
			open++
		}
	}
	if open <= maxOpen {
		return
	}
	for _, s := range l.mu.segments {
		if s.f == nil || !s.sealed || !s.f.users.CompareAndSwap(0, -1) {
			continue
		}
		s.f.Close()
		s.f = nil
		if open--; open <= maxOpen/2 {
			return
		}
	}
}

// CheckSegment says what is wrong with the first bytes of a segment.
func (l *Log) CheckSegment(n uint32) error {
	defer l.Reading()()
	b := make([]byte, segmentHeader)
	if _, err := l.ReadAt(b, At(n, 0)); err != nil && err != io.EOF {
		return err
	}
	if err := checkSegmentHeader(b, l.Spool, n); err != nil {
		return fmt.Errorf("%s: %w", SegmentName(n), err)
	}
	return nil
}

// ReadAt reads what stands at a place. Like io.ReaderAt it answers io.EOF where
// the segment ends. The caller is Reading.
func (l *Log) ReadAt(b []byte, p Place) (int, error) {
	f, err := l.file(p.Segment())
	if err != nil {
		return 0, err
	}
	defer f.release()
	return f.ReadAt(b, p.Offset())
}

// Body reads and verifies a body. The caller is Reading.
func (l *Log) Body(p Place, id spool.ID, size int64) ([]byte, error) {
	b := make([]byte, FrameSize(size))
	if _, err := l.ReadAt(b, p); err == io.EOF {
		return nil, fmt.Errorf("%v: the segment ends before its body of %d bytes", p, size)
	} else if err != nil {
		return nil, err
	}
	h, err := parseHeader(b, l.seed, p.Segment(), p.Offset())
	switch {
	case err != nil:
	case h.Type != frameBody || h.ID != id || h.Length != uint64(size):
		err = errors.New("the frame is of something else")
	case Checksum(b[frameHeader:]) != h.Sum:
		err = errors.New("wrong checksum of the body")
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	return b[frameHeader:], nil
}

// BodyID returns which body begins at a place.
func (l *Log) BodyID(p Place) (id spool.ID, size int64, err error) {
	var b [frameHeader]byte
	if _, err := l.ReadAt(b[:], p); err != nil {
		return id, 0, err
	}
	h, err := parseHeader(b[:], l.seed, p.Segment(), p.Offset())
	if err == nil && h.Type != frameBody {
		err = errors.New("the frame is of something else")
	}
	if err != nil {
		return id, 0, fmt.Errorf("%v: %w", p, err)
	}
	return h.ID, int64(h.Length), nil
}
