package recordlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	nameLayout = "20060102T150405.000000000Z"
	nameExt    = ".jsonl.zst"

	modeOpen     = 0o640
	modeFinished = 0o440
)

func segmentName(begun time.Time, suffix string) string {
	name := begun.UTC().Format(nameLayout)
	if suffix != "" {
		name += "-" + suffix
	}
	return name + nameExt
}

// parseName reads the name of a segment.
func parseName(name string) (begun time.Time, suffix string, ok bool) {
	stem, ok := strings.CutSuffix(filepath.Base(name), nameExt)
	if !ok {
		return begun, "", false
	}
	stem, suffix, _ = strings.Cut(stem, "-")
	begun, err := time.Parse(nameLayout, stem)
	return begun, suffix, err == nil
}

// segments lists the names of the segments in a directory, the oldest first. If one is
// there, all of its suffix are that are older: a directory that is read while segments are
// made may lack one and have a later one, but what is older than something in a first
// list was there before a second one was begun.
func segments(dir string) ([]string, error) {
	first, err := listSegments(dir)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	last := map[string]string{}
	for _, name := range first {
		_, suffix, _ := parseName(name)
		last[suffix] = name
	}
	names, err := listSegments(dir)
	return slices.DeleteFunc(names, func(name string) bool {
		_, suffix, _ := parseName(name)
		return name > last[suffix]
	}), err
}

func listSegments(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// isFinished reports whether nothing is written to a segment any more.
func isFinished(info os.FileInfo) bool { return info.Mode()&0o222 == 0 }

// finishOrphans makes segments read-only whose process is gone.
func finishOrphans(dir string, log *slog.Logger) error {
	names, err := segments(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		done, err := finishOrphan(filepath.Join(dir, name))
		if done {
			log.Info("recordlog: finished a segment that another process has left", "segment", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func finishOrphan(path string) (done bool, err error) {
	info, err := os.Stat(path)
	if err != nil || isFinished(info) {
		return false, err
	}
	return true, os.Chmod(path, modeFinished)
}

// lockDir keeps other Logs out of a directory, until the file is closed or the process
// has ended.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, modeOpen)
	if err != nil {
		return nil, fmt.Errorf("recordlog: Open: %w", err)
	}
	if !lock(f) {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrInUse, dir), f.Close())
	}
	return f, nil
}

// A fileSystem is what a Log does with files.
type fileSystem interface {
	create(name string) (file, error) // exclusively
	remove(name string) error
	syncDir(name string) error
}

type file interface {
	Write(p []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Finish() error // make it read-only
	Close() error
}

type osFiles struct{}

type osFile struct{ *os.File }

func (f osFile) Finish() error { return f.Chmod(modeFinished) }

func (osFiles) create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, modeOpen)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) remove(name string) error { return os.Remove(name) }

func (osFiles) syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
