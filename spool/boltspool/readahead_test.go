package boltspool

import (
	"io/fs"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// updateAll changes entries, which nobody owns then.
func updateAll(t *testing.T, s *Spool, entries []*spool.Entry, attempts int) {
	t.Helper()
	for _, e := range entries {
		next := e.Clone()
		next.Attempts = attempts
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next}}); errs != nil {
			t.Fatal(errs)
		}
	}
}

// TestScanWhileWritten: a Scan reads ahead, beyond the end of the log as it is then.
// What is written there before it comes to it must not be taken for damage.
func TestScanWhileWritten(t *testing.T) {
	s := newTest(t, &Options{manual: true})
	var entries []*spool.Entry
	for range readBatch + 10 {
		entries = append(entries, storeMany(t, s, 0, 1)...)
	}
	n := 0
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatalf("after %d entries: %v", n, err)
		}
		if n == 0 {
			updateAll(t, s, entries[readBatch:], 7)
		}
		if n >= readBatch && e.Attempts != 7 {
			t.Errorf("entry %s: %d attempts, want 7", e.ID, e.Attempts)
		}
		n++
	}
	if n != len(entries) {
		t.Errorf("%d entries, want %d", n, len(entries))
	}
}

// A watchedReads is a file system that tells of each read of a segment.
type watchedReads struct {
	vfs.FS
	read func(end int64)
}

func (w *watchedReads) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := w.FS.OpenFile(name, flag, perm)
	if err == nil && filepath.Ext(name) == ".seg" {
		f = watchedFile{f, w}
	}
	return f, err
}

type watchedFile struct {
	vfs.File
	w *watchedReads
}

func (f watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.w.read(off + int64(n))
	return n, err
}

// TestClaimWhileWritten is TestScanWhileWritten for a Claim, which would set aside
// what seems to be damaged.
func TestClaimWhileWritten(t *testing.T) {
	w := &watchedReads{FS: vfs.OS{}, read: func(int64) {}}
	s := newTest(t, &Options{manual: true, fs: w})
	var entries []*spool.Entry
	for range readBatch + 10 {
		entries = append(entries, storeMany(t, s, 0, 1)...)
	}
	for _, e := range entries[:readBatch] {
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Release, Entry: e}}); errs != nil {
			t.Fatal(errs)
		}
	}
	s.mu.Lock()
	end := s.mu.end.Place.Offset()
	s.mu.Unlock()
	var once sync.Once
	w.read = func(read int64) {
		if read > end {
			once.Do(func() { updateAll(t, s, entries[readBatch:], 7) })
		}
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 1000})
	if err != nil || len(got) != len(entries) {
		t.Fatalf("Claim: got %d entries and error %v, want %d", len(got), err, len(entries))
	}
	for i, e := range got {
		if want := i >= readBatch; want != (e.Attempts == 7) {
			t.Errorf("entry %d: %d attempts", i, e.Attempts)
		}
	}
}
