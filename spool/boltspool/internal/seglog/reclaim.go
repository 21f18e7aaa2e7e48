package seglog

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Usage is what one segment holds.
type Usage struct {
	Segment   uint32
	Live, End int64 // bytes that are needed, and bytes in all
	Sealed    bool
	Set       bool // set aside
}

// Usage returns what the segments hold, the oldest first.
func (l *Log) Usage() []Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Usage, 0, len(l.mu.segments))
	for _, s := range l.mu.segments {
		list = append(list, Usage{s.number, s.live, s.end, s.sealed, s.set})
	}
	slices.SortFunc(list, func(a, b Usage) int { return cmp.Compare(a.Segment, b.Segment) })
	return list
}

// Spares returns how many bytes are allocated ahead in files of their own.
func (l *Log) Spares() (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.mu.spares {
		bytes += s.capacity
	}
	return bytes
}

// SetAside keeps a segment for good: something in it is damaged.
func (l *Log) SetAside(n uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segment(n).set = true
}

// Keep keeps all that is there in place until let is called.
func (l *Log) Keep() (let func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.kept++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.kept--
	}
}

// Reclaim takes the closed segments away of which nothing is needed, if their
// numbers are below before: it deletes their files, or keeps them as spares. It
// reports whether it found any.
func (l *Log) Reclaim(before uint32) bool {
	dead := l.findDead(before)
	if len(dead) == 0 {
		return false
	}
	l.reading.Lock()   // whoever looked them up, before nothing of them was needed, has read
	l.reading.Unlock() //lint:ignore SA2001 the wait is what is wanted
	l.mu.Lock()
	for _, s := range dead {
		delete(l.mu.segments, s.number)
	}
	l.publishFiles()
	l.mu.Unlock()
	for _, s := range dead {
		l.recycle(s)
	}
	return true
}

func (l *Log) findDead(before uint32) (dead []*segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.kept > 0 {
		return nil
	}
	for n, s := range l.mu.segments {
		if s.sealed && s.live == 0 && !s.set && n < before {
			dead = append(dead, s)
		}
	}
	return dead
}

// recycle makes a spare of a segment, if another is wanted and it is as long as
// one should be.
func (l *Log) recycle(s *segment) {
	name := l.path(s.number)
	l.mu.Lock()
	want := len(l.mu.spares) < maxSpares
	l.mu.Unlock()
	if s.f != nil && want && l.fits(s.capacity) {
		to := l.spareName()
		if err := l.FS.Rename(name, to); err == nil {
			l.putSpare(&spare{to, s.f.File, s.capacity, s.end})
			return
		}
	}
	if s.f != nil {
		s.f.Close()
	}
	l.remove(name)
}

// parseSegmentName is the inverse of SegmentName.
func parseSegmentName(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), err == nil && n > 0 && SegmentName(uint32(n)) == name
}

// isSpare reports whether a file was allocated ahead by an earlier process.
func isSpare(f fs.DirEntry) bool { return strings.HasPrefix(f.Name(), sparePrefix) && !f.IsDir() }

// adoptSpares takes over what an earlier process has allocated ahead.
func (l *Log) adoptSpares(names []string) {
	for _, name := range names {
		n, _ := strconv.Atoi(strings.TrimPrefix(name, sparePrefix))
		l.mu.serial = max(l.mu.serial, n)
		if path := filepath.Join(l.Dir, name); len(l.mu.spares) == maxSpares || !l.adopt(path) {
			l.remove(path)
		}
	}
}

func (l *Log) adopt(path string) bool {
	f, err := l.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	size, err := f.Size()
	if err != nil || !l.fits(size) {
		f.Close()
		return false
	}
	l.putSpare(&spare{name: path, f: f, capacity: size})
	return true
}

// fits reports whether a file of that size is one for a segment.
func (l *Log) fits(size int64) bool { return size >= l.Size-l.Size/4 && size <= l.Size+l.Size/4 }
