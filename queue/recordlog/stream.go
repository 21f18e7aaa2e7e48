package recordlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A stream is the segments with one suffix, one after the other. It is the writer's.
type stream struct {
	log    *Log
	suffix string

	file  file // nil: none is begun
	name  string
	zip   *zstd.Encoder
	begun time.Time
	last  time.Time // by which a segment was named; zero: none was
	bytes int64     // of JSON in the segment

	unsynced []line // what is not on disk for sure
}

// flush writes what waits, and finishes the segment if it is its time, or if rotate
// says so. After an error everything that was taken and is not on disk is written
// again, into another segment.
func (s *stream) flush(rotate bool) error {
	if s.file != nil && s.old() { // before what is new
		if err := s.finish(); err != nil {
			s.forgetRefused()
			return err
		}
	}
	if len(s.unsynced) > 0 {
		if err := s.append(); err != nil {
			s.forgetRefused()
			return errors.Join(err, s.abandon())
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
	}
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
	s.file, s.begun, s.last, s.bytes = f, time.Now(), at, 0
	if err := s.log.fs.syncDir(s.log.dir); err != nil {
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
// one. A clock that was set back must not name a segment before those that readers are
// done with.
func (s *stream) next() (time.Time, error) {
	at, last := time.Now(), s.last
	names, err := segments(s.log.dir)
	for _, name := range names {
		if begun, suffix, _ := parseName(name); suffix == s.suffix && begun.After(last) {
			last = begun
		}
	}
	if !at.After(last) {
		at = last.Add(time.Nanosecond)
	}
	return at, err
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
