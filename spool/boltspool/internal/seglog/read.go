package seglog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// Reading keeps every segment in place until done is called. A Place that is
// looked up meanwhile can be read meanwhile.
func (l *Log) Reading() (done func()) {
	l.reading.RLock()
	return l.reading.RUnlock
}

// file returns the open file of a segment. The caller is Reading, or looks after
// the files.
func (l *Log) file(n uint32) (vfs.File, error) {
	if f := (*l.files.Load())[n]; f != nil {
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
	if s.f != nil { // another was faster
		f.Close()
		return s.f, nil
	}
	s.f = f
	l.publishFiles()
	return f, nil
}

// ReadAt reads what stands at a place. Like io.ReaderAt it answers io.EOF where
// the segment ends. The caller is Reading.
func (l *Log) ReadAt(b []byte, p Place) (int, error) {
	f, err := l.file(p.Segment())
	if err != nil {
		return 0, err
	}
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
