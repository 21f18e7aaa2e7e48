package boltspool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// TestRebuildRandom takes the index away from spools with a past, and compares
// what Rebuild makes of their logs with what is known.
func TestRebuildRandom(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newTale(t, seed)
			l.run(400)
			dir := l.s.dir
			if seed%2 == 0 {
				abandon(l.s)
			} else {
				l.s.Close()
			}
			if err := os.Remove(filepath.Join(dir, checkpoint.Name)); err != nil {
				t.Fatal(err)
			}
			l.rebuild(dir)
		})
	}
}

// rebuild makes the index of a spool anew whose log is whole, and compares.
func (l *tale) rebuild(dir string) {
	l.t.Helper()
	result, err := Rebuild(dir, &l.opts)
	if err != nil {
		l.t.Fatal(err)
	}
	if result.Damaged != 0 {
		l.t.Errorf("Rebuild found %d damages in a log that is whole", result.Damaged)
	}
	s := openTest(l.t, dir, &l.opts)
	defer s.Close()
	back := l.compare(s)
	for _, id := range back {
		if !l.mayReturn(dir, id) {
			l.t.Errorf("entry %s came back, although the segment that says that it ended is there", id)
		}
	}
	if want := len(l.live) + len(back); result.Entries != want {
		l.t.Errorf("Rebuild says that there are %d entries, want %d", result.Entries, want)
	}
	if err := checkIndex(s); err != nil {
		l.t.Error(err)
	}
	l.t.Logf("%d live, %d ended, %d of them came back; %+v", len(l.live), len(l.ended), len(back), result)
}

// TestRebuildIndexStates does it with indexes that are damaged in every way.
func TestRebuildIndexStates(t *testing.T) {
	l := newTale(t, 7)
	l.run(300)
	l.s.Close()
	dir := l.s.dir
	name := filepath.Join(dir, checkpoint.Name)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(newTest(t, nil).dir, checkpoint.Name))
	if err != nil {
		t.Fatal(err)
	}
	for test, contents := range map[string][]byte{
		"whole": whole, "empty": {}, "cut": whole[:5000], "noise": noise(len(whole)), "of another spool": other,
		"begin overwritten": append(noise(9000), whole[9000:]...), "zeros": make([]byte, len(whole)),
	} {
		t.Run(test, func(t *testing.T) {
			if err := os.WriteFile(name, contents, 0o600); err != nil {
				t.Fatal(err)
			}
			to := fastDir(t)
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			l.t = t
			l.rebuild(to)
			beside, err := filepath.Glob(filepath.Join(to, checkpoint.Name+".*"))
			if err != nil || len(beside) != 1 {
				t.Fatalf("beside the new index there are %v, want the old one", beside)
			}
			if old, err := os.ReadFile(beside[0]); err != nil || !bytes.Equal(old, contents) {
				t.Errorf("the old index is not as it was; error %v", err)
			}
			verified, err := Verify(t.Context(), to, &l.opts)
			if err != nil || len(verified.Damaged) > 0 || verified.Healed > 0 {
				t.Errorf("Verify: got %v, %v, want no damage", verified, err)
			}
		})
	}
}

// TestRebuildRefuses looks at what Rebuild must leave alone.
func TestRebuildRefuses(t *testing.T) {
	s := newTest(t, nil)
	storeOne(t, s, noise(100))
	before := snapshot(t, s.dir)
	if _, err := Rebuild(s.dir, &Options{LockTimeout: -1, Logger: quiet}); !errors.Is(err, ErrInUse) {
		t.Errorf("Rebuild of a spool in use: got %v, want ErrInUse", err)
	}
	if diff := before.diff(snapshot(t, s.dir)); diff != "" {
		t.Errorf("Rebuild of a spool in use changed %s", diff)
	}
	s.Close()
	before = snapshot(t, s.dir)
	if _, err := Rebuild(s.dir, &Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "ReadOnly") {
		t.Errorf("Rebuild with ReadOnly: got %v, want an error that names it", err)
	}
	if diff := before.diff(snapshot(t, s.dir)); diff != "" {
		t.Errorf("Rebuild with ReadOnly changed %s", diff)
	}
	for name, files := range map[string][]string{
		"nothing": nil, "something else": {"seg.txt", "LOCK"}, "an empty directory seg": {"seg/"}, "no FORMAT": {"seg/0000000000000001.seg"},
	} {
		dir := fastDir(t)
		for _, f := range files {
			err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o700)
			if !strings.HasSuffix(f, "/") {
				err = errors.Join(err, os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		before := snapshot(t, dir)
		_, err := Rebuild(dir, &Options{Logger: quiet})
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: Rebuild: got %v, want an error that names the directory", name, err)
		}
		if diff := before.diff(snapshot(t, dir)); diff != "" {
			t.Errorf("%s: Rebuild changed %s", name, diff)
		}
	}
	if _, err := Rebuild(filepath.Join(fastDir(t), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Rebuild of what is not there: got %v, want os.ErrNotExist", err)
	}
}

// TestRebuildDamagedLog damages the log at a place, after which the index is lost
// too: what is not damaged is found, and the damage is reported and kept.
func TestRebuildDamagedLog(t *testing.T) {
	const n = 7
	for _, test := range []struct {
		name string
		size int // of the bodies: with 50,000 every group has a segment of its own
		lose int // number of the first message whose group is damaged
		at   int64
		old  bool // the old index is there
	}{
		{"first, several in a segment", 1000, 0, 5, false},
		{"in between, several in a segment", 1000, 3, 5, false},
		{"last, several in a segment", 1000, n - 1, 5, false},
		{"last, its checksum", 1000, n - 1, 45, false},
		{"last, old index", 1000, n - 1, 9, true},
		{"last payload", 1000, n - 1, 60, false},
		{"last payload, old index", 1000, n - 1, 60, true},
		{"first, alone", 50_000, 0, 5, false},
		{"in between, alone", 50_000, 3, 5, false},
		{"last, alone", 50_000, n - 1, 1, false},
		{"last, alone, old index", 50_000, n - 1, 1, true},
		{"last two, alone", 50_000, n - 2, 1, false},
		{"last two, alone, old index", 50_000, n - 2, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := &Options{segmentSize: taleSegment, Logger: quiet}
			s := openTest(t, fastDir(t), opts)
			var entries []*spool.Entry
			for range n {
				entries = append(entries, storeOne(t, s, noise(test.size)))
			}
			victims := entries[test.lose : test.lose+1]
			if strings.HasPrefix(test.name, "last two") {
				victims = entries[test.lose:]
			}
			var files []string
			for _, e := range victims {
				name, off, err := entryFile(s, e.ID)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, name)
				flip(t, name, groupBefore(t, name, off)+test.at)
			}
			s.Close()
			if !test.old {
				os.Remove(filepath.Join(s.dir, checkpoint.Name))
			}
			result, err := Rebuild(s.dir, opts)
			if err != nil || result.Damaged != 1 {
				t.Fatalf("Rebuild: got %+v, %v, want 1 damage", result, err)
			}
			for range 2 {
				s = openTest(t, s.dir, opts)
				if got := damagedEntries(t, s); len(got) != 1 {
					t.Errorf("Scan reports %v, want 1 damage", got)
				}
				for _, e := range entries {
					if _, err := readBody(t, s, e.Body); err != nil && !slices.Contains(victims, e) {
						t.Errorf("a message that is not damaged: %v", err)
					}
				}
				storeOne(t, s, noise(test.size))
				s.keeper.run(func() { s.keeper.work() })
				for _, name := range files {
					if _, err := os.Stat(name); err != nil {
						t.Errorf("a damaged segment: %v", err)
					}
				}
				s.Close()
			}
			if result, err = Rebuild(s.dir, opts); err != nil || result.Damaged != 1 {
				t.Errorf("Rebuild once more: got %+v, %v, want 1 damage", result, err)
			}
		})
	}
}

// TestRebuildBodyUnknown: where damage hides a body, a message that needs it is not
// taken for one that has ended.
func TestRebuildBodyUnknown(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	e := storeOne(t, s, noise(1000))
	name, off, err := entryFile(s, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	updateOne(t, s, e)
	s.Close()
	flip(t, name, groupBefore(t, name, off))
	os.Remove(filepath.Join(s.dir, checkpoint.Name))
	result, err := Rebuild(s.dir, &Options{Logger: quiet})
	if want := (RebuildResult{Entries: 1, Damaged: 1}); err != nil || result != want {
		t.Errorf("Rebuild: got %+v, %v, want %+v", result, err, want)
	}
	s = openTest(t, s.dir, nil)
	if _, err := readBody(t, s, e.Body); !isCorrupt(err, e.Body) {
		t.Errorf("the body that is hidden: got %v, want a *CorruptError", err)
	}
}

func updateOne(t *testing.T, s *Spool, e *spool.Entry) {
	t.Helper()
	e.Attempts++
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: e, Keep: true}}); errs != nil {
		t.Fatal(errs)
	}
}

// TestRebuildBigFiles: a message whose file is gone has ended, and is left out; one
// whose file is damaged stays, and so does the file, even if nothing is left in the
// log that tells how long it was.
func TestRebuildBigFiles(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := newTest(t, opts)
	var entries []*spool.Entry
	for i := range 3 {
		entries = append(entries, storeOne(t, s, noise(maxSegmentBody+1+i)))
	}
	gone, bad, good := entries[0], entries[1], entries[2]
	filler := storeOne(t, s, noise(taleSegment))
	for _, e := range entries { // in another segment
		updateOne(t, s, e)
	}
	first := seglog.Beginning.Segment()
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: filler}}); errs != nil {
		t.Fatal(errs)
	}
	storeOne(t, s, noise(taleSegment)) // and the segment before is closed
	s.keeper.run(func() { s.keeper.work() })
	if hasSegment(s.dir, first) {
		t.Fatal("the first segment is still there")
	}
	file := func(e *spool.Entry) string {
		name, _, _, err := bodyFile(s, e.Body)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	goneFile, badFile := file(gone), file(bad)
	s.Close()
	info, err := os.Stat(badFile)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, badFile, info.Size()-1) // in its table
	if err := errors.Join(os.Remove(goneFile), os.Remove(filepath.Join(s.dir, checkpoint.Name))); err != nil {
		t.Fatal(err)
	}
	result, err := Rebuild(s.dir, opts)
	if want := (RebuildResult{Entries: 3, LeftOut: 1}); err != nil || result != want {
		t.Errorf("Rebuild: got %+v, %v, want %+v", result, err, want)
	}
	s = openTest(t, s.dir, opts)
	if _, err := readBody(t, s, good.Body); err != nil {
		t.Error(err)
	}
	if _, err := readBody(t, s, bad.Body); !isCorrupt(err, bad.Body) {
		t.Errorf("the body whose file is damaged: got %v, want a *CorruptError", err)
	}
	if _, err := os.Stat(badFile); err != nil {
		t.Errorf("the damaged file: %v", err)
	}
}

func isCorrupt(err error, id spool.ID) bool {
	corrupt, ok := errors.AsType[*spool.CorruptError](err)
	return ok && corrupt.ID == id
}
