package seglog

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	// minStep and maxStep bound how far ahead of the groups a segment is
	// allocated: as far again as it is long.
	minStep = 1 << 20
	maxStep = 16 << 20
	// maxSpares is how many files are kept ready to become segments.
	maxSpares = 2

	sparePrefix = "spare-"
)

// A spare is a file that no group stands in: it was a segment, or was allocated
// ahead. To write where something was written before spares the file system the
// notes that new blocks cost.
type spare struct {
	name     string
	f        vfs.File
	capacity int64
	filled   int64 // see Log.filled
}

// rotate closes the current segment and begins the next.
func (l *Log) rotate() error {
	if err := l.wipe(); err != nil {
		return err
	}
	l.mu.Lock()
	n := l.mu.last + 1
	l.mu.Unlock()
	if n == math.MaxUint32 {
		return errors.New("seglog: no more segments can be numbered")
	}
	s, err := l.begin(n)
	if err != nil {
		return err
	}
	l.trim()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.last = n
	if old := l.mu.segments[n]; old != nil { // counted before it was there: impossible but for damage
		s.live = old.live
	}
	l.mu.segments[n] = s
	if l.cur != nil {
		l.cur.sealed, l.cur.capacity = true, l.capacity
		l.work.Store(true)
	}
	l.closeSome()
	l.publishFiles()
	l.cur, l.off, l.capacity, l.filled = s, segmentHeader, s.capacity, s.filled
	return nil
}

// trim gives back what the current segment has and does not need, if that is
// much.
func (l *Log) trim() {
	if l.cur == nil || l.capacity-l.off <= l.Size/8 {
		return
	}
	if err := l.cur.f.Truncate(l.off); err != nil {
		l.Log.Warn("boltspool: a segment stays longer than it needs to be", "file", l.path(l.cur.number), "error", err)
		return
	}
	l.capacity = l.off
}

// begin makes the file of segment n, from a spare if there is one, and its
// directory entry durable.
func (l *Log) begin(n uint32) (*segment, error) {
	name := l.path(n)
	s := &segment{number: n, end: segmentHeader, capacity: segmentHeader}
	var f vfs.File
	var err error
	if sp := l.takeSpare(); sp != nil {
		f, s.capacity, s.filled = sp.f, sp.capacity, sp.filled
		err = vfs.WriteError(l.FS.Rename(sp.name, name))
	} else {
		f, err = l.FS.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, vfs.OpenError(err)
		}
	}
	s.f = &openFile{File: f}
	if err == nil {
		_, err = s.f.WriteAt(appendSegmentHeader(nil, l.Spool, n), 0)
		err = vfs.WriteError(err)
	}
	if err != nil {
		s.f.Close()
		if errors.Is(err, vfs.ErrNoSpace) {
			l.remove(name)
		}
		return nil, err
	}
	if err := l.FS.SyncDir(l.Dir); err != nil { // the file itself is synced with its first group
		s.f.Close()
		return nil, err
	}
	return s, nil
}

// remove deletes a file on which nothing depends any more.
func (l *Log) remove(name string) {
	if err := l.FS.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.Log.Warn("boltspool: a file that is not needed any more stays until the spool is opened again", "file", name, "error", err)
	}
}

// allocate reserves the current segment up to end at least.
func (l *Log) allocate(end int64) error {
	if l.capacity < 0 || end <= l.capacity {
		return nil
	}
	step := min(max(l.capacity, minStep), maxStep)
	size := max(end, min(end+step, l.Size))
	err := l.cur.f.Allocate(size)
	if err != nil && errors.Is(vfs.WriteError(err), vfs.ErrNoSpace) {
		size = end
		err = l.cur.f.Allocate(size)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		l.capacity = -1
		return nil
	}
	if err != nil {
		return vfs.WriteError(err)
	}
	l.capacity = size
	return nil
}

// makeRoom reserves the room for a group in the current segment, or begins another one
// with a spare that has it when the disk has none.
func (l *Log) makeRoom(need int64) error {
	err := l.allocate(l.off + need)
	if !errors.Is(err, vfs.ErrNoSpace) || !l.hasSpare(segmentHeader+need) {
		return err
	}
	if err := l.rotate(); err != nil {
		return err
	}
	return l.allocate(l.off + need)
}

// hasSpare reports whether the spare that is the next to be taken is as long.
func (l *Log) hasSpare(size int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.mu.spares)
	return n > 0 && l.mu.spares[n-1].capacity >= size
}

// GiveBack deletes spares until so many bytes are free, but not the one on which Secure
// counts for groups of need bytes. It returns how many bytes that gives.
func (l *Log) GiveBack(bytes, need int64) (freed int64) {
	l.mu.Lock()
	keep := 0
	if l.cur == nil || l.capacity >= 0 && l.off+need > l.capacity {
		keep = 1
	}
	n := 0
	for ; freed < bytes && n < len(l.mu.spares)-keep; n++ {
		freed += l.mu.spares[n].capacity
	}
	dropped := l.mu.spares[:n:n]
	l.mu.spares = l.mu.spares[n:]
	l.mu.Unlock()
	for _, s := range dropped {
		s.f.Close()
		l.remove(s.name)
	}
	return freed
}

// Allocates reports whether the file system can allocate ahead.
func (l *Log) Allocates() bool { return l.capacity >= 0 }

// Secure makes sure that a group of need bytes can be written, and that behind
// it there is room for further ones of keep bytes, whatever becomes of the disk.
// Where the file system cannot allocate it promises nothing.
func (l *Log) Secure(need, keep int64) error {
	if l.cur == nil {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.capacity < 0 {
		return nil
	}
	want := segmentHeader + need + keep
	if end := l.off + need + keep; end <= l.limit() {
		err := l.allocate(end)
		if errors.Is(err, vfs.ErrNoSpace) && l.hasSpare(want) {
			return nil
		}
		return err
	}
	if l.hasSpare(want) {
		return nil
	}
	err := l.addSpare(max(l.Size, want))
	if errors.Is(err, vfs.ErrNoSpace) && want < l.Size {
		err = l.addSpare(want)
	}
	return err
}

// Prepare sees to it that the next segment is ready before it is needed.
func (l *Log) Prepare() error {
	l.mu.Lock()
	ready := len(l.mu.spares) > 0 || len(l.mu.segments) == 0
	if s := l.mu.segments[l.mu.last]; s != nil && s.end < l.Size/2 {
		ready = true
	}
	l.mu.Unlock()
	if ready {
		return nil
	}
	return l.addSpare(l.Size)
}

// addSpare allocates a file.
func (l *Log) addSpare(size int64) error {
	name := l.spareName()
	f, err := l.FS.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return vfs.OpenError(err)
	}
	if err := f.Allocate(size); err != nil {
		f.Close()
		l.remove(name)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return vfs.WriteError(err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	l.putSpare(&spare{name: name, f: f, capacity: size})
	return nil
}

func (l *Log) spareName() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.serial++
	return filepath.Join(l.Dir, fmt.Sprintf("%s%d", sparePrefix, l.mu.serial))
}

func (l *Log) takeSpare() *spare {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.mu.spares)
	if n == 0 {
		return nil
	}
	s := l.mu.spares[n-1]
	l.mu.spares = l.mu.spares[:n-1]
	return s
}

func (l *Log) putSpare(s *spare) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.spares = append(l.mu.spares, s)
}
