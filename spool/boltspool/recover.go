package boltspool

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// open does the work of Open. What it opened is closed by closeFiles.
func (s *Spool) open() (err error) {
	if !s.opts.ReadOnly {
		if err := vfs.MakeDir(s.fs, s.dir); err != nil {
			return fmt.Errorf("boltspool: %w", err)
		}
	}
	if s.lock == nil { // Rebuild has it already
		if s.lock, err = lockDir(s.dir, s.opts.ReadOnly, s.opts.LockTimeout); err != nil {
			return err
		}
	}
	if err := s.initialize(); err != nil {
		return err
	}
	left, err := readMarks(s.fs, s.marksName())
	if err != nil {
		s.logger.Warn("boltspool: the file of the marks cannot be read, as after a power cut: no interruption is counted", "dir", s.dir, "error", err)
	}
	if err := s.openIndex(); err != nil {
		return err
	}
	if err := s.load(max(left.synced, s.synced)); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return nil
	}
	if err := s.resume(left); err != nil {
		return fmt.Errorf("boltspool: %s: %w", s.dir, err)
	}
	return nil
}

func (s *Spool) marksName() string { return filepath.Join(s.dir, marksFile) }

// openIndex opens the checkpoint, and makes it smaller before if that is worth
// it.
func (s *Spool) openIndex() error {
	if !s.opts.ReadOnly {
		switch err := s.opts.index.compact(s.fs, s.dir); {
		case err == nil, errors.Is(err, checkpoint.ErrDamaged):
		case errors.Is(err, checkpoint.ErrUncertain):
			return fmt.Errorf("boltspool: %s: %w", s.dir, err)
		default:
			s.logger.Warn("boltspool: the index is not compacted", "dir", s.dir, "error", err)
		}
	}
	file, err := s.opts.index.open(s.fs, s.dir, s.opts.ReadOnly, s.opts.LockTimeout)
	if err == nil {
		s.keeper = newKeeper(s, file)
		s.mu.end, err = file.State()
		s.keeper.saved.Store(uint64(s.mu.end.Place))
	}
	switch {
	case errors.Is(err, checkpoint.ErrLocked):
		return fmt.Errorf("boltspool: %s is %w by another process: one process at a time can open a spool", s.dir, ErrInUse)
	case errors.Is(err, checkpoint.ErrDamaged):
		return fmt.Errorf("boltspool: %s: %w; Rebuild makes it anew from the segments", s.dir, err)
	case err != nil:
		return fmt.Errorf("boltspool: %s: %w", s.dir, err)
	case s.mu.end.Spool != s.id:
		return fmt.Errorf("boltspool: %s: the index is of spool %s, and FORMAT of spool %s: files of two spools are mixed", s.dir, s.mu.end.Spool, s.id)
	}
	return nil
}

// load brings what the checkpoint says and what the log says beyond it into
// memory. It changes nothing on disk.
func (s *Spool) load(synced seglog.Place) (err error) {
	if s.log, err = s.openLog(s.opts.ReadOnly); err != nil {
		return err
	}
	s.mu.index.Live = s.log.AddLive
	bad, err := s.loadCheckpoint()
	if err != nil {
		return fmt.Errorf("boltspool: %s: %w; Rebuild makes it anew from the segments", s.dir, err)
	}
	start := seglog.Start{Place: s.mu.end.Place, Number: s.mu.end.Number, Synced: synced}
	gone, err := s.replay(start, len(bad) > 0)
	if err != nil {
		return fmt.Errorf("boltspool: %s: reading the log: %w", s.dir, err)
	}
	return s.heal(bad, gone)
}

func (s *Spool) openLog(readOnly bool) (*seglog.Log, error) {
	log, err := seglog.Open(seglog.Options{
		FS: s.fs, Dir: s.segDir(), Spool: s.id, Size: s.opts.SegmentSize, Log: s.logger, ReadOnly: readOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("boltspool: %w", err)
	}
	return log, nil
}

func (s *Spool) segDir() string { return filepath.Join(s.dir, "seg") }

// A badRecord is what is damaged in the checkpoint.
type badRecord struct {
	key, value []byte
	err        error
}

// loadCheckpoint returns the records that are damaged.
func (s *Spool) loadCheckpoint() (bad []badRecord, err error) {
	file := s.keeper.file
	n := uint64(0)
	s.mu.index.Expect(int(min(s.mu.end.Entries, math.MaxInt32)))
	err = file.Load(func(v *index.Saved) {
		n++
		s.mu.index.Load(v)
	}, func(key, value []byte, err error) {
		n++
		bad = append(bad, badRecord{append([]byte{}, key...), append([]byte{}, value...), err})
	})
	if err == nil && n != s.mu.end.Entries {
		err = fmt.Errorf("%w: %d entries are in it, and there should be %d", checkpoint.ErrDamaged, n, s.mu.end.Entries)
	}
	if err == nil {
		err = file.Damage(func(text []byte) { s.loadDamage(text) })
	}
	return bad, err
}

// resume makes the spool ready to be changed.
func (s *Spool) resume(left leftover) error {
	// A process that was killed may have made directory entries and not synced
	// them. From here on everything relies on them.
	for _, dir := range []string{s.dir, s.bigDir} {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := s.log.Resume(); err != nil {
		return err
	}
	s.mu.end.Place, s.mu.end.Number = s.log.End()
	if err := s.countInterrupted(left); err != nil {
		return err
	}
	var err error
	if s.marks, err = newMarks(s.fs, s.marksName(), s.logger); err != nil {
		return err
	}
	// Else damage that was found now, and that no checkpoint tells of, looks like a torn
	// end to the next process.
	synced := max(left.synced, s.synced)
	if end := s.mu.end.Place; s.log.GoesOn() {
		synced = min(synced, end)                     // a segment that was begun behind it is gone
		if end.Offset() > seglog.Beginning.Offset() { // behind a group
			synced = end
		}
	}
	if synced > 0 {
		s.marks.synced(synced)
	}
	if err := s.keeper.begin(); err != nil {
		return err
	}
	return s.sweepBig()
}

// countInterrupted adds one to Interrupted of the entries that an earlier
// process left marked, durably, and once for each opening of the spool.
func (s *Spool) countInterrupted(left leftover) error {
	if len(left.ids) == 0 || left.opening == s.mu.end.Opening {
		return nil
	}
	s.logger.Warn("boltspool: the last process died while handlers ran", "dir", s.dir, "entries", len(left.ids))
	payload := record.AppendBodies(nil, nil)
	for _, id := range left.ids {
		at, ok := s.mu.index.Find(id)
		if !ok {
			continue
		}
		e, err := s.newReader().entry(at)
		if err != nil {
			continue // reported when the entry is read
		}
		e.Interrupted++
		payload, _ = record.AppendPut(payload, e, nil, 0)
	}
	payload = record.AppendCounted(payload, left.opening)
	place, err := s.log.Append(payload, nil)
	if err == nil {
		err = s.log.Sync()
	}
	if errors.Is(err, vfs.ErrNoSpace) {
		s.logger.Warn("boltspool: interruptions are not counted, since there is no space", "dir", s.dir, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.end.Place, s.mu.end.Number = s.log.End()
	s.mu.end.Opening = left.opening
	return newReplay(s.mu.index).apply(seglog.Group{Place: place, Payload: payload})
}

// sweepBig deletes files of bodies to which nothing refers.
func (s *Spool) sweepBig() error {
	known := make(map[spool.ID]bool)
	for _, id := range s.mu.index.Files() {
		known[id] = true
	}
	dirs, err := s.fs.ReadDir(s.bigDir)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		name := filepath.Join(s.bigDir, d.Name())
		if !d.IsDir() {
			if strings.HasPrefix(d.Name(), stagePrefix) {
				s.removeOrphan(name)
			}
			continue
		}
		files, err := s.fs.ReadDir(name)
		if err != nil {
			return err
		}
		for _, f := range files {
			if id, err := spool.ParseID(f.Name()); err == nil && !known[id] && !s.uncertain() {
				s.removeOrphan(filepath.Join(name, f.Name()))
			}
		}
	}
	return nil
}

// uncertain reports whether damage hides what some entries refer to. Nothing is
// deleted then, since it might be that.
func (s *Spool) uncertain() bool {
	return len(s.mu.regions) > 0 || len(s.mu.damaged) > 0
}

func (s *Spool) removeOrphan(name string) {
	s.logger.Debug("boltspool: deleting a file to which nothing refers", "file", name)
	s.removeFile(name)
}

func isMissing(err error) bool    { return errors.Is(err, fs.ErrNotExist) }
func isPermission(err error) bool { return errors.Is(err, fs.ErrPermission) }
