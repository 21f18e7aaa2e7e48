package boltspool

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

const (
	formatVersion = 2
	formatPrefix  = "deferredqueue spool, format "
	formatID      = ", id "
)

func (s *Spool) formatName() string { return filepath.Join(s.dir, "FORMAT") }

// initialize makes the files of a new spool, the format file last, or checks the
// format of an old one.
func (s *Spool) initialize() error {
	contents, err := vfs.ReadFile(s.fs, s.formatName(), 1<<10)
	if err == nil {
		s.id, err = parseFormat(s.dir, string(contents))
		return err
	}
	if !isMissing(err) {
		return fmt.Errorf("boltspool: %w", err)
	}
	if s.opts.ReadOnly {
		return fmt.Errorf("boltspool: %s is not a spool: it has no file FORMAT", s.dir)
	}
	if err := s.create(); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	return nil
}

func (s *Spool) create() error {
	if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil {
		return err
	}
	for _, d := range []string{s.segDir(), s.bigDir} {
		if err := vfs.MakeDir(s.fs, d); err != nil {
			return err
		}
		if files, err := s.fs.ReadDir(d); err != nil {
			return err
		} else if len(files) > 0 {
			return errNoFormat(s.dir)
		}
	}
	s.id = spool.NewID()
	if err := s.opts.index.create(s.fs, s.dir, checkpoint.State{Spool: s.id, Place: seglog.Beginning, Number: 1}); err != nil {
		return err
	}
	return vfs.WriteFile(s.fs, s.formatName(), []byte(formatText(s.id)))
}

func errNoFormat(dir string) error {
	return fmt.Errorf("%s holds mail, but the file FORMAT is missing: restore it, with the text %q and the id that the segments have",
		dir, formatText(spool.ID{}))
}

func formatText(id spool.ID) string {
	return formatPrefix + strconv.Itoa(formatVersion) + formatID + id.String() + "\n"
}

func parseFormat(dir, text string) (id spool.ID, err error) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), formatPrefix)
	number, name, _ := strings.Cut(rest, formatID)
	v, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || v < 1:
		return id, fmt.Errorf("boltspool: %s is not a spool: its file FORMAT says %q", dir, text)
	case v > formatVersion:
		return id, fmt.Errorf("boltspool: %s has format %d, and this program knows format %d: use a later release", dir, v, formatVersion)
	case v < formatVersion:
		return id, fmt.Errorf("boltspool: %s has format %d, which no release has written, and this program knows format %d: let the program that made it empty it", dir, v, formatVersion)
	}
	if id, err = spool.ParseID(name); err != nil {
		return id, fmt.Errorf("boltspool: %s: the file FORMAT is damaged: it says %q", dir, text)
	}
	return id, nil
}
