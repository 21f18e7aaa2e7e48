package boltspool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A hookFS tells of operations before they are done, with the name of the file, and
// has them fail if it is told to: create, remove, rename, sync, datasync and
// allocate.
type hookFS struct {
	vfs.FS
	hook func(op, name string) error
}

type hookFile struct {
	vfs.File
	fs   *hookFS
	name string
}

func (h *hookFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := h.hook("create", name); err != nil {
			return nil, err
		}
	}
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &hookFile{f, h, name}, nil
}

func (h *hookFS) Remove(name string) error {
	if err := h.hook("remove", name); err != nil {
		return err
	}
	return h.FS.Remove(name)
}

func (h *hookFS) Rename(from, to string) error {
	if err := h.hook("rename", from); err != nil {
		return err
	}
	return h.FS.Rename(from, to)
}

func (f *hookFile) Sync() error {
	if err := f.fs.hook("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *hookFile) Datasync() error {
	if err := f.fs.hook("datasync", f.name); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *hookFile) Allocate(size int64) error {
	if err := f.fs.hook("allocate", f.name); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

// newHooked returns a spool whose operations on files are told to what hook says,
// from the moment at which it is set.
func newHooked(t *testing.T) (s *Spool, setHook func(func(op, name string) error)) {
	t.Helper()
	var mu sync.Mutex
	var hook func(op, name string) error
	fsys := &hookFS{FS: vfs.OS{}, hook: func(op, name string) error {
		mu.Lock()
		h := hook
		mu.Unlock()
		if h == nil {
			return nil
		}
		return h(op, name)
	}}
	return newTest(t, &Options{segmentSize: taleSegment, Logger: quiet, fs: fsys}), func(h func(op, name string) error) {
		mu.Lock()
		defer mu.Unlock()
		hook = h
	}
}

// holds checks that a backup has just these messages, with these bodies.
func holds(t *testing.T, dir string, want map[spool.ID][]byte) {
	t.Helper()
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	verified, err := Verify(t.Context(), dir, opts)
	if err != nil || len(verified.Damaged) > 0 || verified.Entries != len(want) {
		t.Errorf("Verify of the backup: %v, %v, %v, want %d entries and no damage", verified, verified.Damaged, err, len(want))
	}
	s := openTest(t, dir, opts)
	defer s.Close()
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Error(err)
			continue
		}
		body, ok := want[e.ID]
		if !ok {
			t.Errorf("entry %s is in the backup", e.ID)
		} else if got, err := readBody(t, s, e.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("entry %s: its body has %d bytes, error %v, which are not the %d that were stored", e.ID, len(got), err, len(body))
		}
	}
}

func removeOne(t *testing.T, s *Spool, entries ...*spool.Entry) {
	t.Helper()
	for _, e := range entries {
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Fatal(errs)
		}
	}
}

// TestBackupMeanwhile has everything change while a backup is taken: after it has
// copied the index, and after it has begun to copy segments.
func TestBackupMeanwhile(t *testing.T) {
	s, setHook := newHooked(t)
	dir := filepath.Join(fastDir(t), "copy")
	kept := storeOne(t, s, noise(40_000))
	gone := []*spool.Entry{storeOne(t, s, noise(40_000)), storeOne(t, s, noise(maxSegmentBody+1))}
	late := []*spool.Entry{storeOne(t, s, noise(50_000)), storeOne(t, s, noise(maxSegmentBody+2))}
	want := map[spool.ID][]byte{kept.ID: noise(40_000), late[0].ID: noise(50_000), late[1].ID: noise(maxSegmentBody + 2)}
	reclaimed := make(chan string, 100)
	var index, segment sync.Once
	setHook(func(op, name string) error {
		switch {
		case op == "sync" && name == filepath.Join(dir, "index.db"):
			index.Do(func() {
				removeOne(t, s, gone...)
				for range 3 { // segments of which nothing is needed, but to know that
					removeOne(t, s, storeOne(t, s, noise(60_000)))
				}
				e := storeOne(t, s, noise(100))
				want[e.ID] = noise(100)
			})
		case op == "create" && filepath.Dir(name) == filepath.Join(dir, "seg"):
			segment.Do(func() {
				removeOne(t, s, late...)
				storeOne(t, s, noise(maxSegmentBody+3))
				storeOne(t, s, noise(60_000))
				s.keeper.run(func() { s.keeper.work() })
			})
		case op != "create" && strings.HasSuffix(name, ".seg") && filepath.Dir(name) == filepath.Join(s.dir, "seg") && op != "datasync" && op != "sync":
			reclaimed <- name
		}
		return nil
	})
	if err := s.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reclaimed: // without anything that happens after the backup
	case <-time.After(10 * time.Second):
		t.Error("space is not used again after the backup")
	}
	setHook(nil)
	holds(t, dir, want)
	if big, _ := filepath.Glob(filepath.Join(s.dir, "big", "*", "*")); len(big) != 1 {
		t.Errorf("%d files of bodies are there, want the one that is needed", len(big))
	}
}

// TestBackupUnfinished takes one while a unit is written that is not durable yet, in
// a file, or in a segment that was begun for it.
func TestBackupUnfinished(t *testing.T) {
	for _, size := range []int{maxSegmentBody + 1, 65_000} {
		s, setHook := newHooked(t)
		e := storeOne(t, s, noise(1000))
		syncing, goOn, committed := make(chan struct{}), make(chan struct{}), make(chan error)
		var once sync.Once
		setHook(func(op, name string) error {
			if op == "datasync" {
				once.Do(func() {
					close(syncing)
					<-goOn
				})
			}
			return nil
		})
		go func() {
			w, err := s.Create(t.Context(), 0)
			if err == nil {
				defer w.Abort()
				_, err = w.Write(noise(size))
			}
			if err == nil {
				err = w.Commit(t.Context(), testEntry(w.ID()))
			}
			committed <- err
		}()
		<-syncing
		dir := filepath.Join(fastDir(t), "copy")
		err := s.Backup(t.Context(), dir)
		close(goOn)
		if err := errors.Join(err, <-committed); err != nil {
			t.Fatal(err)
		}
		holds(t, dir, map[spool.ID][]byte{e.ID: noise(1000)})
	}
}

// TestBackupNoCheckpoint: without space for a checkpoint the copy has the log.
func TestBackupNoCheckpoint(t *testing.T) {
	s, setHook := newHooked(t)
	want := map[spool.ID][]byte{}
	for _, n := range []int{100, 50_000, 50_000, maxSegmentBody + 1} {
		want[storeOne(t, s, noise(n)).ID] = noise(n)
	}
	s.Close()
	full := make(chan string, 10)
	setHook(func(op, name string) error {
		if op == "allocate" && name == filepath.Join(s.dir, "index.db") {
			full <- name
			return syscall.ENOSPC
		}
		return nil
	})
	s = openTest(t, s.dir, &Options{segmentSize: taleSegment, Logger: quiet, fs: s.fs})
	want[storeOne(t, s, noise(200)).ID] = noise(200)
	dir := filepath.Join(fastDir(t), "copy")
	if err := s.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	setHook(nil)
	if len(full) == 0 {
		t.Error("there was space for a checkpoint")
	}
	holds(t, dir, want)
}

// TestBackupFaults lets each operation fail: nothing stays, and the spool goes on.
func TestBackupFaults(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newTest(t, &Options{segmentSize: taleSegment, fs: fsys})
	want := map[spool.ID][]byte{}
	for _, n := range []int{100, 50_000, 50_000, maxSegmentBody + 1} {
		want[storeOne(t, s, noise(n)).ID] = noise(n)
	}
	s.keeper.run(func() { s.keeper.work() })
	base := fastDir(t)
	for _, cause := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		for at := 1; ; at++ {
			updateAny(t, s) // or there is nothing for the checkpoint
			dir := filepath.Join(base, fmt.Sprint(int(cause), ".", at))
			if at%2 == 0 {
				os.Mkdir(dir, 0o700)
			}
			fsys.Arm(at, cause)
			err := s.Backup(t.Context(), dir)
			fired := fsys.Fired()
			fsys.Arm(0, nil)
			if fired == "" && err == nil {
				if at < 20 {
					t.Errorf("a backup has %d operations, want more", at-1)
				}
				holds(t, dir, want)
				break
			}
			if strings.Contains(fired, s.dir+"/") && err == nil {
				t.Logf("%v in %s is no matter", cause, fired) // no space for a checkpoint
				holds(t, dir, want)
				continue
			}
			if !errors.Is(err, cause) {
				t.Fatalf("%v in %s: got %v", cause, fired, err)
			}
			if files, _ := os.ReadDir(dir); len(files) > 0 {
				t.Errorf("%v in %s: %v stays", cause, fired, files)
			}
			if _, err := os.Stat(dir); at%2 == 1 && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%v in %s: the directory stays: %v", cause, fired, err)
			}
			if strings.HasPrefix(fired, "commit") { // of the spool itself: uncertain
				if !errors.Is(err, spool.ErrFailed) || !errors.Is(s.Health(), spool.ErrFailed) {
					t.Errorf("%v in %s: got %v, Health %v, want ErrFailed", cause, fired, err, s.Health())
				}
				if err := s.Backup(t.Context(), dir); !errors.Is(err, spool.ErrFailed) {
					t.Errorf("a backup of a failed spool: got %v, want ErrFailed", err)
				}
				s.Close()
				s = openTest(t, s.dir, &Options{segmentSize: taleSegment, fs: fsys})
			}
			if err := s.Health(); err != nil && !errors.Is(err, spool.ErrFull) {
				t.Fatalf("%v in %s: Health: %v", cause, fired, err)
			}
		}
	}
}

// updateAny changes some entry, which it claims.
func updateAny(t *testing.T, s *Spool) {
	t.Helper()
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		claimed, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
		if err != nil {
			t.Fatal(err)
		}
		if len(claimed) == 1 {
			e = claimed[0]
		}
		updateOne(t, s, e)
		return
	}
}

// TestBackupCancelled ends it at each moment at which it looks at its context.
func TestBackupCancelled(t *testing.T) {
	s := newTest(t, nil)
	e := storeOne(t, s, noise(maxSegmentBody+1))
	dir := filepath.Join(fastDir(t), "copy")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := s.Stats().Checkpoints
	if err := s.Backup(ctx, dir); !errors.Is(err, context.Canceled) || s.Stats().Checkpoints != before {
		t.Errorf("with a context that is done: got %v, and %d checkpoints", err, s.Stats().Checkpoints-before)
	}
	n := cancelAnywhere(t, func(ctx context.Context) error {
		err := s.Backup(ctx, dir)
		if _, serr := os.Stat(dir); err != nil && !errors.Is(serr, os.ErrNotExist) {
			t.Errorf("after %v the directory stays: %v", err, serr)
		}
		return err
	})
	if n < 6 { // of the index two pages and more, one segment, and two pieces of a file
		t.Errorf("the context was looked at %d times, want more", n)
	}
	holds(t, dir, map[spool.ID][]byte{e.ID: noise(maxSegmentBody + 1)})
}

// TestBackupFailing: nothing is written to the index once the spool has failed.
func TestBackupFailing(t *testing.T) {
	s := newTest(t, nil)
	storeOne(t, s, noise(100))
	before := s.Stats().Checkpoints
	s.fail(errors.New("for the test"))
	b := &backup{s: s, ctx: t.Context(), fs: s.fs}
	if err := b.checkpoint(); !errors.Is(err, spool.ErrFailed) || s.Stats().Checkpoints != before {
		t.Errorf("got %v, and %d checkpoints, want ErrFailed and none", err, s.Stats().Checkpoints-before)
	}
}

// TestBackupClosed closes the spool in the midst of one.
func TestBackupClosed(t *testing.T) {
	for _, file := range []string{"index.db", "seg/0000000000000001.seg"} {
		s, setHook := newHooked(t)
		storeOne(t, s, noise(1000))
		dir := filepath.Join(fastDir(t), "copy")
		closed := make(chan error)
		setHook(func(op, name string) error {
			if op == "create" && name == filepath.Join(dir, file) {
				go func() { closed <- s.Close() }()
				<-s.committerDone
			}
			return nil
		})
		if err := s.Backup(t.Context(), dir); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("%s: a Backup that Close ended: got %v, want ErrClosed", file, err)
		}
		if err := <-closed; err != nil {
			t.Errorf("%s: Close: %v", file, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the directory stays: %v", file, err)
		}
		if err := s.Backup(t.Context(), dir); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Backup of a closed spool: got %v, want ErrClosed", err)
		}
	}
}

// TestBackupRefuses looks at directories to which none can be written.
func TestBackupRefuses(t *testing.T) {
	s := newTest(t, nil)
	storeOne(t, s, noise(1000))
	base := fastDir(t)
	full, file := filepath.Join(base, "full"), filepath.Join(base, "file")
	err := errors.Join(os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "x"), []byte("x"), 0o600), os.WriteFile(file, nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, base)
	for dir, want := range map[string]error{full: nil, file: nil, s.dir: nil, filepath.Join(base, "none", "copy"): os.ErrNotExist} {
		err := s.Backup(t.Context(), dir)
		if err == nil || !strings.Contains(err.Error(), dir) || want != nil && !errors.Is(err, want) {
			t.Errorf("Backup to %s: got %v", dir, err)
		}
	}
	if diff := before.diff(snapshot(t, base)); diff != "" {
		t.Errorf("Backup changed %s", diff)
	}
	if err := checkIndex(s); err != nil {
		t.Error(err)
	}
	s.Close()
	ro, err := Open(s.dir, &Options{ReadOnly: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if err := ro.Backup(t.Context(), filepath.Join(base, "copy")); err == nil || !strings.Contains(err.Error(), "ReadOnly") {
		t.Errorf("Backup of a spool that is read only: got %v, want an error that says so", err)
	}
}

// TestBackupTwice: two at a time to one directory do not mix.
func TestBackupTwice(t *testing.T) {
	s := newTest(t, nil)
	e := storeOne(t, s, noise(maxSegmentBody+1))
	for range 5 {
		dir := filepath.Join(fastDir(t), "copy")
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() { errs[i] = s.Backup(t.Context(), dir) })
		}
		wg.Wait()
		succeeded := slices.Index(errs, nil)
		if succeeded < 0 {
			if files, _ := os.ReadDir(dir); len(files) > 0 {
				t.Errorf("none succeeded, and %v stays", files)
			}
			continue
		}
		if slices.Index(errs[succeeded+1:], nil) >= 0 {
			t.Errorf("two succeeded: %v", errs)
		}
		holds(t, dir, map[spool.ID][]byte{e.ID: noise(maxSegmentBody + 1)})
	}
}

// TestBackupDamaged: damage is copied, and what it may hide.
func TestBackupDamaged(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	missing, bad, lost, big := storeOne(t, s, noise(60_000)), storeOne(t, s, noise(60_000)), storeOne(t, s, noise(60_000)), storeOne(t, s, noise(maxSegmentBody+1))
	last := storeOne(t, s, noise(60_000))
	segmentOf := func(e *spool.Entry) (name string, off int64) {
		name, off, err := entryFile(s, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		return name, off
	}
	missingFile, _ := segmentOf(missing)
	badFile, _, _, err := bodyFile(s, bad.Body)
	if err != nil {
		t.Fatal(err)
	}
	lostFile, lostOff := segmentOf(lost)
	bigSegment, bigOff := segmentOf(big)
	bigFile, _, _, err := bodyFile(s, big.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	os.Remove(missingFile)
	flip(t, badFile, 30_000)
	flip(t, lostFile, lostOff+25)
	flip(t, bigSegment, bigOff+25)
	spoilRecord(t, s.dir, lost.ID, spoils["place"])
	spoilRecord(t, s.dir, big.ID, spoils["place"])

	s = openTest(t, s.dir, opts)
	dir := filepath.Join(fastDir(t), "copy")
	if err := s.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{badFile, lostFile, bigSegment, bigFile} {
		rel, err := filepath.Rel(s.dir, name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, rel)); err != nil || !bytes.HasPrefix(want, got) || len(bytes.TrimRight(want[len(got):], "\x00")) > 0 {
			t.Errorf("%s: %d bytes in the copy, error %v, which are not those of the original", rel, len(got), err)
		}
	}
	s.Close()
	original, err := Verify(t.Context(), s.dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := Verify(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := []spool.ID{missing.ID, lost.ID, big.ID, bad.Body}
	slices.SortFunc(want, compareIDs)
	for _, v := range []VerifyResult{original, copied} {
		var ids []spool.ID
		for _, corrupt := range v.Damaged {
			ids = append(ids, corrupt.ID)
		}
		if slices.SortFunc(ids, compareIDs); !slices.Equal(ids, want) {
			t.Errorf("Verify of the spool, or of its copy: %v, want damage to %v", v.Damaged, want)
		}
	}
	s = openTest(t, dir, opts)
	if b, err := readBody(t, s, last.Body); err != nil || len(b) != 60_000 {
		t.Errorf("a message that is not damaged: %d bytes, error %v", len(b), err)
	}
}
