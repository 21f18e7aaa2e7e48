package recordlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A stream is the segments with one suffix, one after the other. It is the writer's.
type stream struct {
	log    *Log
	suffix string

	file  *counted // nil: none is begun
	name  string
	zip   *zstd.Encoder
	begun time.Time
	last  time.Time // by which a segment was named, or of a record; zero: none was
	bytes int64     // of JSON in the segment
	whole int64     // of the file, with all that is on disk for sure

	unsynced []line // what is not on disk for sure
	err      error  // of the last attempt to write
	pause    time.Duration
	retryAt  time.Time
}

// A counted file knows how long it is.
type counted struct {
	file
	size int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	c.size += int64(n)
	return n, err
}

const (
	shortestPause = time.Second
	longestPause  = 30 * time.Second
)

// flush is write, but for what nobody waits for, which after an error is not tried again
// at once.
func (s *stream) flush(rotate, asked bool) error {
	urgent := asked || slices.ContainsFunc(s.unsynced, func(l line) bool { return l.waits })
	if s.err != nil && !urgent && time.Now().Before(s.retryAt) {
		return s.err
	}
	if s.err = s.write(rotate); s.err == nil {
		s.pause = 0
		return nil
	}
	s.pause = min(max(2*s.pause, shortestPause), longestPause)
	s.retryAt = time.Now().Add(s.pause)
	return s.err
}

// write writes what waits, and finishes the segment if it is its time, or if rotate
// says so. After an error everything that was taken and is not on disk is written
// again, into another segment.
func (s *stream) write(rotate bool) error {
	if s.file != nil && s.old() { // before what is new
		if err := s.finish(); err != nil {
			s.forgetRefused()
			return err
		}
	}
	if len(s.unsynced) > 0 {
		if err := s.append(); err != nil {
			s.forgetRefused()
			return errors.Join(err, s.takeBack())
		}
	}
	if s.file != nil && (rotate || s.bytes >= s.log.opts.MaxBytes) {
		return s.finish()
	}
	return nil
}

func (s *stream) old() bool {
	limit := s.log.opts.MaxDuration
	return limit > 0 && time.Since(s.begun) >= limit
}

// append writes what waits to disk.
func (s *stream) append() error {
	if s.file == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	for _, one := range s.unsynced {
		if _, err := s.zip.Write(one.text); err != nil {
			return fmt.Errorf("recordlog: writing %s: %w", s.name, err)
		}
	}
	if err := s.zip.Flush(); err != nil {
		return fmt.Errorf("recordlog: writing %s: %w", s.name, err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("recordlog: writing %s: %w", s.name, err)
	}
	for _, one := range s.unsynced {
		s.bytes += int64(len(one.text))
		s.last = latest(s.last, one.at)
	}
	s.last, s.whole = latest(s.last, time.Now()), s.file.size
	clear(s.unsynced)
	s.unsynced = s.unsynced[:0]
	return nil
}

// forgetRefused drops what comes again, because its caller is told of the error.
func (s *stream) forgetRefused() {
	s.unsynced = slices.DeleteFunc(s.unsynced, func(l line) bool { return l.waits })
}

// begin makes a segment, and sees to it that the directory keeps it.
func (s *stream) begin() error {
	at, err := s.next()
	if err != nil {
		return fmt.Errorf("recordlog: beginning a segment: %w", err)
	}
	s.name = filepath.Join(s.log.dir, segmentName(at, s.suffix))
	f, err := s.log.fs.create(s.name)
	if err != nil {
		return fmt.Errorf("recordlog: beginning a segment: %w", err)
	}
	s.file, s.begun, s.last, s.bytes, s.whole = &counted{file: f}, time.Now(), at, 0, 0
	if err := errors.Join(s.log.fs.syncDir(s.log.dir), s.log.names.begun(s.suffix, at)); err != nil {
		return fmt.Errorf("recordlog: beginning %s: %w", s.name, err)
	}
	if s.zip != nil {
		s.zip.Reset(s.file)
		return nil
	}
	s.zip, err = zstd.NewWriter(s.file, zstd.WithEncoderLevel(s.log.opts.level()), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	return err
}

// next is the time by which the next segment is named: now, or just after that of the last
// one, which may have been archived, and after whatever was written to it. A clock that
// was set back must not name a segment before those that readers are done with, nor
// before records of the one before.
func (s *stream) next() (time.Time, error) {
	last := latest(s.last, s.log.names.last(s.suffix))
	names, err := segments(s.log.dir)
	for _, name := range names {
		if begun, suffix, _ := parseName(name); suffix == s.suffix {
			last = latest(last, begun)
			if info, err := os.Stat(filepath.Join(s.log.dir, name)); err == nil {
				last = latest(last, info.ModTime())
			}
		}
	}
	at := time.Now().Round(0)
	if !at.After(last) {
		at = last.Add(time.Nanosecond)
	}
	return at, err
}

// latest returns the later one of two times by the wall clock.
func latest(a, b time.Time) time.Time {
	if a, b = a.Round(0), b.Round(0); b.After(a) {
		return b
	}
	return a
}

// finish ends a segment, all of which is on disk, and makes it read-only.
func (s *stream) finish() error {
	err := s.zip.Close() // the end of the frame
	err = errors.Join(err, s.file.Sync())
	if err != nil {
		err = fmt.Errorf("recordlog: finishing %s: %w", s.name, err)
	}
	return errors.Join(err, s.abandon())
}

// takeBack ends a segment behind what is on disk for sure, and deletes one that has
// nothing of it: the rest is written again, and must not use up the room that is left.
func (s *stream) takeBack() error {
	if s.file == nil {
		return nil
	}
	if s.whole == 0 {
		err := errors.Join(s.file.Close(), s.log.fs.remove(s.name))
		s.file = nil
		return err
	}
	return errors.Join(s.file.Truncate(s.whole), s.abandon())
}

// abandon leaves a segment as it is.
func (s *stream) abandon() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Finish(), s.file.Close())
	s.file = nil
	if err != nil {
		return fmt.Errorf("recordlog: finishing %s: %w", s.name, err)
	}
	return nil
}
