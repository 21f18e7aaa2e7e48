package boltspool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	formatVersion = 1
	formatPrefix  = "deferredqueue spool, format "
)

var (
	bucketEntries = []byte("entries")
	bucketBodies  = []byte("bodies")
	bucketMeta    = []byte("meta")
	keyFormat     = []byte("format")
	keyMarks      = []byte("marks")
)

var errIndexDamage = errors.New("index.db is damaged")

func indexDamage(what any) error {
	return fmt.Errorf("boltspool: %w: %v; keep the directory and restore it from a copy", errIndexDamage, what)
}

// open does the work of Open. What it opened is closed by closeFiles.
func (s *Spool) open() error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockDir(s.dir, s.opts.LockTimeout); err != nil {
		return err
	}
	if err := s.initialize(); err != nil {
		return err
	}
	if err := s.openIndex(); err != nil {
		return err
	}
	if s.marks, err = openMarks(s.fs, filepath.Join(s.dir, "running"), s.log, s.countInterrupted); err != nil {
		return fmt.Errorf("boltspool: running: %w", err)
	}
	s.segs = &segments{fs: s.fs, dir: filepath.Join(s.dir, "seg"), max: s.opts.SegmentSize, use: make(map[uint64]*usage)}
	if err := s.load(); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	return nil
}

func (s *Spool) makeDirs() error {
	if err := makeDir(s.fs, s.dir); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	return nil
}

// initialize makes the files of a new spool, the format file last, or checks the
// format of an old one.
func (s *Spool) initialize() error {
	name := filepath.Join(s.dir, "FORMAT")
	contents, err := readFile(s.fs, name, 1<<10)
	if err == nil {
		return checkFormat(s.dir, string(contents))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("boltspool: %w", err)
	}
	if err := s.fs.SyncDir(filepath.Dir(s.dir)); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	seg := filepath.Join(s.dir, "seg")
	for _, d := range []string{seg, s.bigDir} {
		if err := makeDir(s.fs, d); err != nil {
			return fmt.Errorf("boltspool: %w", err)
		}
		if files, err := s.fs.ReadDir(d); err != nil {
			return fmt.Errorf("boltspool: %w", err)
		} else if len(files) > 0 {
			return fmt.Errorf("boltspool: %s holds mail, but the file FORMAT is missing: restore it, with the text %q", s.dir, formatText())
		}
	}
	if err := s.initIndex(); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	if err := writeFile(s.fs, name, []byte(formatText())); err != nil {
		return fmt.Errorf("boltspool: %w", err)
	}
	return nil
}

func formatText() string { return formatPrefix + strconv.Itoa(formatVersion) + "\n" }

func checkFormat(dir, text string) error {
	number, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), formatPrefix)
	v, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil || v < 1:
		return fmt.Errorf("boltspool: %s is not a spool: its file FORMAT says %q", dir, text)
	case v > formatVersion:
		return fmt.Errorf("boltspool: %s has format %d, and this program knows formats up to %d: use a later release", dir, v, formatVersion)
	}
	return nil
}

func (s *Spool) indexName() string { return filepath.Join(s.dir, "index.db") }

// boltOptions are those of the index. A large mapping is address space only, and
// spares the committer the wait for readers that a larger one would need.
func (s *Spool) boltOptions() *bbolt.Options {
	o := &bbolt.Options{
		Timeout:        max(s.opts.LockTimeout, time.Millisecond),
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
		NoStatistics:   true,
	}
	if strconv.IntSize == 64 && runtime.GOOS != "windows" {
		var gib int64 = 1 << 30
		o.InitialMmapSize = int(16 * gib)
	}
	return o
}

// initIndex makes an empty index under a temporary name: bbolt's own first
// writes are not safe against a crash.
func (s *Spool) initIndex() error {
	tmp := s.indexName() + ".tmp"
	if err := s.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, s.boltOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketBodies, bucketMeta} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyFormat, []byte{formatVersion})
	})
	if err2 := db.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = s.fs.Rename(tmp, s.indexName())
	}
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	return err
}

func (s *Spool) openIndex() (err error) {
	if s.indexFile, err = openIndexFile(s.fs, s.indexName()); err != nil {
		return fmt.Errorf("boltspool: the index is missing or cannot be opened: %w", err)
	}
	if err := verifyPages(s.indexFile.f); err != nil {
		return indexDamage(err)
	}
	defer recoverIndex(&err)()
	o := s.boltOptions()
	s.db, err = bbolt.Open(s.indexName(), 0o600, o)
	if errors.Is(err, syscall.ENOMEM) { // address space is limited
		o.InitialMmapSize = 0
		s.db, err = bbolt.Open(s.indexName(), 0o600, o)
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("boltspool: %s is in use by another process: one process at a time can open a spool", s.dir)
	}
	if err != nil {
		return fmt.Errorf("boltspool: index.db: %w", err)
	}
	s.db.AllocSize = indexStep
	return s.db.View(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketBodies, bucketMeta} {
			if tx.Bucket(b) == nil {
				return indexDamage(fmt.Sprintf("bucket %q is missing", b))
			}
		}
		v := tx.Bucket(bucketMeta).Get(keyFormat)
		if len(v) != 1 || v[0] != formatVersion {
			return indexDamage(fmt.Sprintf("it says format %v instead of %d", v, formatVersion))
		}
		return nil
	})
}

// load reads the index into memory.
func (s *Spool) load() error {
	return s.view(func(entries, bodies *bbolt.Bucket) error {
		err := bodies.ForEach(func(k, v []byte) error {
			r, err := parseBodyRecord(v, k)
			if err != nil {
				s.bodyDamage = true
				s.log.Error("boltspool: the record of a body is damaged", "dir", s.dir, "key", fmt.Sprintf("%x", k), "error", err)
				return nil
			}
			s.used += r.size
			if r.kind == inSegment {
				s.segs.added(r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return entries.ForEach(func(k, v []byte) error {
			s.used += int64(len(v))
			s.loadEntry(k, v)
			return nil
		})
	})
}

func (s *Spool) loadEntry(k, v []byte) {
	b, err := parseBrief(v, k)
	if err != nil {
		var id spool.ID
		copy(id[:], k)
		s.mu.unsaid = append(s.mu.unsaid, s.setAside(id, err))
		return
	}
	s.rev = max(s.rev, b.rev)
	s.mu.index.put(item{id: spool.ID(k), due: b.due, received: b.received, size: b.size, rev: b.rev, state: b.state}, b.queue, b.class)
}

// setAside keeps a damaged entry from every claim until the spool is opened
// again. The caller holds mu, or is alone.
func (s *Spool) setAside(id spool.ID, err error) error {
	err = &spool.CorruptError{ID: id, Part: "entry", Err: err}
	s.log.Error("boltspool: an entry is damaged and set aside", "dir", s.dir, "error", err)
	s.mu.index.remove(id)
	s.mu.damaged[id] = err
	return err
}

// sweep cuts off what was never acknowledged and deletes files to which nothing
// refers, unless damage makes it uncertain what refers to them.
func (s *Spool) sweep() error {
	// A process that was killed may have made directory entries and not synced
	// them. From here on everything relies on them.
	for _, dir := range []string{s.dir, s.segs.dir, s.bigDir} {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	files, err := s.fs.ReadDir(s.segs.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		n, ok := parseSegmentName(f.Name())
		if !ok {
			continue
		}
		s.segs.last = max(s.segs.last, n)
		if s.segs.use[n] == nil {
			s.removeOrphan(filepath.Join(s.segs.dir, f.Name()))
		}
	}
	if err := s.sweepBig(); err != nil {
		return err
	}
	u := s.segs.use[s.segs.last]
	if u == nil || s.bodyDamage || u.end >= s.opts.SegmentSize {
		return nil // the next body begins a new segment
	}
	if err := s.segs.resume(s.segs.last, u.end); err != nil {
		s.log.Error("boltspool: the last segment cannot be continued; a new one will be begun", "dir", s.dir, "error", err)
	}
	return nil
}

func (s *Spool) sweepBig() error {
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
		err = s.view(func(_, bodies *bbolt.Bucket) error {
			for _, f := range files {
				id, err := spool.ParseID(f.Name())
				if err == nil && bodies.Get(id[:]) == nil {
					s.removeOrphan(filepath.Join(name, f.Name()))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) removeOrphan(name string) {
	s.log.Debug("boltspool: deleting a file to which nothing refers", "file", name)
	s.removeFile(name)
}
