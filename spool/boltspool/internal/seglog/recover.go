package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A Start is where a replay begins.
type Start struct {
	Place  Place  // of the first group that is not known yet; 0: the beginning of all that there is, with gaps
	Number uint64 // of that group
	Synced Place  // what ends there or before was durable, even if no later group says so; 0: not known
}

// A Group is a group that was found in the log.
type Group struct {
	Place   Place
	Payload []byte
	Err     error // the payload is damaged: what can be told from it has to be told without its checksum
}

// A Damage is a part of the log that was durable and cannot be read.
type Damage struct {
	From, To Place // To is where reading went on, or should have
	Err      error
}

// Error says what is damaged, and how.
func (d *Damage) Error() string {
	if d.To == d.From {
		return fmt.Sprintf("%s: %v", d.at(), d.Err)
	}
	return fmt.Sprintf("%s to %v: %v", d.from(), d.To, d.Err)
}

func (d *Damage) at() string   { return fmt.Sprintf("the log at %v", d.From) }
func (d *Damage) from() string { return fmt.Sprintf("the log from %v", d.From) }

// Says reports whether a text is that of a Damage which begins at the same place.
func (d *Damage) Says(text string) bool {
	return strings.HasPrefix(text, d.at()+":") || strings.HasPrefix(text, d.from()+" ")
}

// Segments returns those that are damaged.
func (d *Damage) Segments() (numbers []uint32) {
	for n := d.From.Segment(); n <= max(d.From.Segment(), d.To.Segment()); n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Err }

// Open finds the segments in a directory, without reading them. Replay comes
// next.
func Open(opts Options) (*Log, error) {
	l := &Log{Options: opts, seed: newSeed(opts.Spool), number: 1}
	l.mu.segments = make(map[uint32]*segment)
	l.publishFiles()
	numbers, spares, err := l.list()
	if err != nil {
		return nil, err
	}
	for n, size := range numbers {
		l.mu.segments[n] = &segment{number: n, sealed: true, end: size, capacity: size}
		l.mu.last = max(l.mu.last, n)
	}
	l.mu.found = spares
	return l, nil
}

// list returns the segments in the directory with their sizes, and the names of
// spares.
func (l *Log) list() (segments map[uint32]int64, spares []string, err error) {
	files, err := l.FS.ReadDir(l.Dir)
	if err != nil {
		return nil, nil, err
	}
	segments = make(map[uint32]int64)
	for _, f := range files {
		if n, ok := parseSegmentName(f.Name()); ok {
			info, err := f.Info()
			if err != nil {
				return nil, nil, err
			}
			segments[n] = info.Size()
		} else if isSpare(f) {
			spares = append(spares, f.Name())
		}
	}
	return segments, spares, nil
}

// Replay hands out the groups from start on, in their order. A group that was
// not durable, since the process or the power ended while it was written, is
// none: it and what follows it are left out. Damage to what was durable is
// reported, and the segment set aside.
func (l *Log) Replay(start Start, apply func(Group) error, report func(*Damage) error) error {
	w := &walk{l: l, start: start, off: segmentHeader, number: start.Number, gaps: start.Place == 0, report: report}
	if n := start.Place.Segment(); n > 0 { // the next group may not stand before it, although the segments there are gone
		if start.Place.Offset() <= segmentHeader {
			n--
		}
		l.mu.last = max(l.mu.last, n)
	}
	for n := range l.mu.segments {
		if n >= start.Place.Segment() {
			w.segments = append(w.segments, n)
		}
	}
	slices.Sort(w.segments)
	if len(w.segments) > 0 && w.segments[0] == start.Place.Segment() {
		w.off = max(start.Place.Offset(), segmentHeader)
	}
	for {
		g, err := w.next()
		if err != nil {
			return err
		}
		if g == nil {
			break
		}
		if w.held != nil {
			if err := apply(w.held.Group); err != nil {
				return err
			}
		}
		w.held = g
	}
	return w.end(apply)
}

// Resume makes the log ready for Append: what is behind its end is cut off. It
// takes over spares, and deletes segments behind the end, in which nothing was
// durable.
func (l *Log) Resume() error {
	l.adoptSpares(l.mu.found)
	l.mu.found = nil
	if err := l.confirm(); err != nil {
		return err
	}
	if err := l.deleteBehind(); err != nil {
		return err
	}
	if l.cur != nil && l.cur.set { // nothing is written to a segment that is damaged
		l.cur = nil
	}
	s := l.cur
	if err := l.FS.SyncDir(l.Dir); err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	f, err := l.file(s.number)
	if err != nil {
		return err
	}
	defer f.release()
	s.sealed = false
	l.capacity = s.capacity
	clean, err := l.zeroBehind(f, l.off)
	if err != nil {
		return err
	}
	if !clean {
		if err := f.Truncate(l.off); err != nil {
			return err
		}
		size := l.capacity
		l.capacity = l.off
		if err := l.allocateAgain(f, size); err != nil {
			return err
		}
	}
	if l.off == segmentHeader { // the power may have been cut before the header was there
		if _, err := f.WriteAt(appendSegmentHeader(nil, l.Spool, s.number), 0); err != nil {
			return err
		}
	}
	return f.Sync()
}

// allocateAgain gives the current segment the room back that it had behind its end,
// on which updates and removes may rely, if there still is any.
func (l *Log) allocateAgain(f vfs.File, size int64) error {
	if size <= l.off {
		return nil
	}
	switch err := f.Allocate(size); {
	case err == nil:
		l.capacity = size
	case errors.Is(err, errors.ErrUnsupported), errors.Is(vfs.WriteError(err), vfs.ErrNoSpace):
	default:
		return err
	}
	return nil
}

// deleteBehind deletes segments behind the end. One that stayed would stand between
// the groups before it and those that follow.
func (l *Log) deleteBehind() error {
	s := l.cur
	if s == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.publishFiles()
	for n, behind := range l.mu.segments {
		if n <= s.number || behind.set {
			continue
		}
		if behind.f != nil { // Replay has looked into it
			behind.f.Close()
			behind.f = nil
		}
		if err := l.FS.Remove(l.path(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		delete(l.mu.segments, n)
	}
	return nil
}

// confirm makes the last group durable if nothing says that it is: the process
// may not have lived to see its sync, or the sync has failed. After a failed one
// Linux takes what it could not write for written, and the next sync succeeds: so
// the group is written again. It counts from here on.
func (l *Log) confirm() error {
	at, end := l.unproven.from, l.unproven.to
	if at == end {
		return nil
	}
	f, err := l.file(at.Segment())
	if err != nil {
		return err
	}
	defer f.release()
	const part = 1 << 20
	for b := make([]byte, min(end-at, part)); at < end; at = at.Plus(int64(len(b))) {
		b = b[:min(int(end-at), len(b))]
		if _, err := f.ReadAt(b, at.Offset()); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, at.Offset()); err != nil {
			return err
		}
	}
	return f.Sync()
}

// zeroBehind reports whether nothing was ever written behind off, as far as that can
// be read.
func (l *Log) zeroBehind(f vfs.File, off int64) (bool, error) {
	b := make([]byte, windowSize)
	for {
		n, err := f.ReadAt(b, off)
		if len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return false, nil
		}
		if err == io.EOF {
			return true, nil
		}
		if errors.Is(err, syscall.EIO) { // nothing is needed there: it is cut off
			return false, nil
		}
		if err != nil {
			return false, err
		}
		off += int64(n)
	}
}
