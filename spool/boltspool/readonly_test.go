package boltspool

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A dirState is what a directory holds.
type dirState map[string]string

// snapshot takes note of all that is in a directory, with contents, modes and times.
func snapshot(t *testing.T, dir string) dirState {
	t.Helper()
	state := dirState{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var contents []byte
		if !d.IsDir() {
			if contents, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		state[strings.TrimPrefix(name, dir)] = fmt.Sprint(info.Mode(), info.ModTime().Format(time.RFC3339Nano), info.Size(), " ") + string(contents)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// diff names what differs.
func (a dirState) diff(b dirState) string {
	var names []string
	for name := range a {
		if b[name] != a[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name+" (new)")
		}
	}
	return strings.Join(names, ", ")
}

// openReadOnly opens a spool to be looked at. It is closed when the test ends.
func openReadOnly(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := Open(dir, &Options{ReadOnly: true, LockTimeout: -1, Logger: quiet, segmentSize: taleSegment})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestReadOnly looks at spools with a past: after a Close, after a crash, while
// others look too. It shows what was acknowledged, and changes nothing.
func TestReadOnly(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("crash %v, %d", crash, seed), func(t *testing.T) {
				l := newTale(t, seed)
				l.run(150)
				l.s.Started(l.store(100, 1)[0].ID)
				if crash {
					abandon(l.s)
				} else {
					l.s.Close()
				}
				if seed%2 == 0 {
					os.Remove(filepath.Join(l.s.dir, "LOCK"))
				}
				before := snapshot(t, l.s.dir)
				s, other := openReadOnly(t, l.s.dir), openReadOnly(t, l.s.dir)
				l.check(s)
				l.check(other)
				if err := checkIndex(s); err != nil {
					t.Error(err)
				}
				l.checkQueues(s)
				refuseAllChanges(t, s, l.pick())
				for _, s := range []*Spool{s, other} {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}
				if diff := before.diff(snapshot(t, l.s.dir)); diff != "" {
					t.Errorf("reading changed %s", diff)
				}
			})
		}
	}
}

// checkQueues compares what Queues yields with what is known.
func (l *tale) checkQueues(s *Spool) {
	l.t.Helper()
	type key struct {
		queue, class string
		state        spool.State
	}
	want, got := map[key][2]int64{}, map[key][2]int64{}
	for _, e := range l.live {
		k := key{e.Queue, e.Class, e.State}
		want[k] = [2]int64{want[k][0] + 1, want[k][1] + e.Size}
	}
	for info, err := range s.Queues(l.t.Context()) {
		if err != nil {
			l.t.Error(err)
		}
		got[key{info.Queue, info.Class, info.State}] = [2]int64{info.Entries, info.Bytes}
	}
	if !maps.Equal(got, want) {
		l.t.Errorf("Queues: got %v, want %v", got, want)
	}
}

// refuseAllChanges calls everything that a spool which is only read does not do.
func refuseAllChanges(t *testing.T, s *Spool, e *spool.Entry) {
	t.Helper()
	_, createErr := s.Create(t.Context(), 0)
	_, _, claimErr := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 1})
	applied := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}, spool.Unit{{Op: spool.Release, Entry: e}})
	if len(applied) != 2 {
		t.Fatalf("Apply of two units: got %v", applied)
	}
	for call, err := range map[string]error{
		"Create": createErr, "Claim": claimErr, "Apply of a Remove": applied[0], "Apply of a Release": applied[1],
		"Backup": s.Backup(t.Context(), filepath.Join(fastDir(t), "copy")),
	} {
		if err == nil || !strings.Contains(err.Error(), "ReadOnly") || !strings.Contains(err.Error(), s.dir) {
			t.Errorf("%s: got %v, want an error that names the directory and ReadOnly", call, err)
		}
	}
	s.Started(e.ID)
	s.Ended(e.ID)
	if err := s.Health(); err != nil {
		t.Errorf("Health: %v", err)
	}
	select {
	case <-s.Changed():
		t.Error("a hint that something has changed")
	default:
	}
}

// TestReadOnlyClosed: what holds for every spool holds for one that is only read.
func TestReadOnlyClosed(t *testing.T) {
	s := newTest(t, nil)
	e := storeOne(t, s, noise(maxSegmentBody+1))
	s.Close()
	s = openReadOnly(t, s.dir)
	b, err := s.Open(t.Context(), e.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || len(got) != maxSegmentBody+1 {
		t.Errorf("a body that was open before Close: %d bytes, error %v", len(got), err)
	}
	for _, err := range s.Scan(t.Context(), spool.Query{}) {
		if !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Scan after Close: got %v, want ErrClosed", err)
		}
	}
	if err := s.Close(); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("second Close: got %v, want ErrClosed", err)
	}
	if _, err := s.Create(t.Context(), 0); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Create after Close: got %v, want ErrClosed", err)
	}
}

// TestReadOnlyInUse: who changes a spool has it for himself, and others are told
// who it is.
func TestReadOnlyInUse(t *testing.T) {
	s := newTest(t, nil)
	pid := fmt.Sprint("process ", os.Getpid())
	_, err := Open(s.dir, &Options{ReadOnly: true, LockTimeout: -1, Logger: quiet})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), pid) {
		t.Errorf("to look at a spool in use: got %v, want ErrInUse, and %s", err, pid)
	}
	s.Close()
	reader := openReadOnly(t, s.dir)
	_, err = Open(s.dir, &Options{LockTimeout: -1, Logger: quiet})
	if !errors.Is(err, ErrInUse) || strings.Contains(err.Error(), pid) || !strings.Contains(err.Error(), "ReadOnly") {
		t.Errorf("to change a spool that is looked at: got %v, want ErrInUse, and that it is by one who reads", err)
	}
	openReadOnly(t, s.dir).Close() // still possible
	reader.Close()
	openTest(t, s.dir, nil)
}

// TestReadOnlyNothing makes no spool where there is none.
func TestReadOnlyNothing(t *testing.T) {
	none := filepath.Join(fastDir(t), "none")
	for _, dir := range []string{fastDir(t), none} {
		if _, err := Open(dir, &Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "not a spool") || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want that %s is not a spool", err, dir)
		}
		if files, _ := os.ReadDir(dir); len(files) > 0 {
			t.Errorf("%v was made", files)
		}
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a directory was made")
	}
}

// TestReadOnlyUnfinishedRebuild reads the log when the index was set aside and the
// new one not yet written.
func TestReadOnlyUnfinishedRebuild(t *testing.T) {
	l := newTale(t, 1)
	l.run(100)
	l.s.Close()
	os.Remove(filepath.Join(l.s.dir, checkpoint.Name))
	if err := checkpoint.Create(vfs.OS{}, l.s.dir, checkpoint.State{Spool: l.s.id}); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, l.s.dir)
	s := openReadOnly(t, l.s.dir)
	for _, id := range l.compare(s) {
		if !l.mayReturn(l.s.dir, id) {
			t.Errorf("entry %s came back", id)
		}
	}
	s.Close()
	if diff := before.diff(snapshot(t, l.s.dir)); diff != "" {
		t.Errorf("reading changed %s", diff)
	}
}

// TestReadOnlyPermissions takes away the permission to write.
func TestReadOnlyPermissions(t *testing.T) {
	l := newTale(t, 2)
	l.run(150)
	abandon(l.s)
	dir := l.s.dir
	setModes(t, dir, 0o500, 0o400)
	t.Cleanup(func() { setModes(t, dir, 0o700, 0o600) }) // so that it can be deleted
	if f, err := os.OpenFile(filepath.Join(dir, "FORMAT"), os.O_RDWR, 0); err == nil {
		f.Close()
		t.Skip("this user may write whatever the permissions are (root): nothing can be taken away")
	}
	if s, err := Open(dir, &Options{Logger: quiet}); err == nil {
		s.Close()
		t.Fatal("a spool that cannot be written is opened to be changed")
	}
	before := snapshot(t, dir)
	s := openReadOnly(t, dir)
	l.check(s)
	refuseAllChanges(t, s, l.pick())
	s.Close()
	if got, err := Verify(t.Context(), dir, &l.opts); err != nil || len(got.Damaged) > 0 || got.Entries != len(l.live) {
		t.Errorf("Verify: %v, %v", got, err)
	}
	if diff := before.diff(snapshot(t, dir)); diff != "" {
		t.Errorf("reading changed %s", diff)
	}
}

func setModes(t *testing.T, dir string, dirs, files os.FileMode) {
	t.Helper()
	var names []string
	walk := func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700) // to be able to look into it
		}
		names = append(names, name)
		return err
	}
	if err := filepath.WalkDir(dir, walk); err != nil {
		t.Fatal(err)
	}
	for i := len(names) - 1; i >= 0; i-- {
		mode := files
		if info, err := os.Stat(names[i]); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			mode = dirs
		}
		if err := os.Chmod(names[i], mode); err != nil {
			t.Fatal(err)
		}
	}
}
