package boltspool

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A RebuildResult says what Rebuild found.
type RebuildResult struct {
	Entries int // that are in the new index
	LeftOut int // whose bodies are gone, most likely since they had ended
	Damaged int // parts of the log that cannot be read; Scan reports them
}

// Rebuild makes the index of a spool anew from its log, when Open says that it is
// damaged. Nobody may have the spool open. The old index stays beside the new one
// under a name of its own. It reads all segments, but of bodies only where they
// stand.
//
// Nothing is lost by it. But some messages that had ended may come back: what
// said so may have been in a segment that was taken away since, while what said
// that they came has not. Their IDs, and what became of them, are in the records.
func Rebuild(dir string, opts *Options) (result RebuildResult, err error) {
	o, err := opts.withDefaults()
	if err != nil {
		return result, err
	}
	if o.ReadOnly {
		return result, errors.New("boltspool: Rebuild with Options.ReadOnly: it writes an index")
	}
	s := newSpool(dir, o)
	if err := s.setIndexAside(); err != nil {
		s.closeFiles()
		return result, err
	}
	if err := s.begin(); err != nil { // which reads all of the log
		return result, err
	}
	s.mu.Lock()
	result = RebuildResult{
		Entries: s.mu.index.Len() + len(s.mu.damaged), LeftOut: s.leftOut, Damaged: len(s.mu.regions) + len(s.mu.damaged),
	}
	s.mu.Unlock()
	return result, s.Close()
}

// setIndexAside puts an empty index in the place of the one that is there, and
// keeps the lock.
func (s *Spool) setIndexAside() (err error) {
	if err := s.checkIsSpool(); err != nil { // before the lock, which makes a file
		return err
	}
	if s.lock, err = lockDir(s.dir, false, s.opts.LockTimeout); err != nil {
		return err
	}
	if err := s.initialize(); err != nil {
		return err
	}
	s.synced = s.knownEnd()
	name := filepath.Join(s.dir, checkpoint.Name)
	err = s.fs.Rename(name, name+time.Now().UTC().Format(".20060102T150405.000000000"))
	if err != nil && !isMissing(err) {
		return fmt.Errorf("boltspool: %w", err)
	}
	if err := s.opts.index.create(s.fs, s.dir, checkpoint.State{Spool: s.id}); err != nil {
		return fmt.Errorf("boltspool: %s: %w", s.dir, err)
	}
	return nil
}

func (s *Spool) checkIsSpool() error {
	files, err := s.fs.ReadDir(s.segDir())
	if err != nil {
		return fmt.Errorf("boltspool: %s is not a spool: %w", s.dir, err)
	}
	_, err = vfs.ReadFile(s.fs, s.formatName(), 1<<10)
	switch {
	case !isMissing(err):
		return nil // initialize looks at it
	case len(files) > 0:
		return fmt.Errorf("boltspool: %w", errNoFormat(s.dir))
	}
	return fmt.Errorf("boltspool: %s is not a spool: it has no file FORMAT", s.dir)
}

// knownEnd returns up to where the log was durable, as far as the old index can
// tell. All that is there up to here and cannot be read is damage.
func (s *Spool) knownEnd() seglog.Place {
	old, err := s.opts.index.open(s.fs, s.dir, true, s.opts.LockTimeout)
	if err != nil {
		return 0
	}
	defer old.Close()
	if state, err := old.State(); err == nil && state.Spool == s.id {
		return state.Place
	}
	return 0
}
