package boltspool

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var quiet = slog.New(slog.DiscardHandler)

func TestOptions(t *testing.T) {
	if _, err := Open(t.TempDir(), &Options{SegmentSize: 1000}); err == nil || !strings.Contains(err.Error(), "SegmentSize") {
		t.Errorf("a SegmentSize of 1000 bytes: got %v, want an error that names it", err)
	}
	s := newTest(t, &Options{MaxMessageSize: 10})
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, 10)); err != nil {
		t.Errorf("Write of 10 bytes of 10: %v", err)
	}
	if _, err := w.Write(make([]byte, 1)); !errors.Is(err, spool.ErrTooLarge) {
		t.Errorf("Write of byte 11 of 10: got %v, want ErrTooLarge", err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openTest(t, dir, nil)
	storeOne(t, s, noise(100))
	storeOne(t, s, noise(2_000_000))
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// storeOne commits one entry with a body.
func storeOne(t testing.TB, s *Spool, b []byte) *spool.Entry {
	t.Helper()
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	e := testEntry(w.ID())
	if err := w.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	start := time.Now()
	_, err := Open(dir, &Options{LockTimeout: 50 * time.Millisecond, Logger: quiet})
	if err == nil {
		t.Fatal("a second opener succeeded")
	}
	if waited := time.Since(start); waited < 50*time.Millisecond {
		t.Errorf("the second opener gave up after %v, want 50ms", waited)
	}
	for _, want := range []string{dir, "process"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not name %s", err, want)
		}
	}
	done := make(chan error)
	go func() {
		s2, err := Open(dir, &Options{LockTimeout: time.Minute, Logger: quiet})
		if err == nil {
			err = s2.Close()
		}
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the opener that waited: %v", err)
	}
}

func TestFormat(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"later", formatPrefix + "2\n", "format 2"},
		{"other", "hello\n", "not a spool"},
		{"empty", "", "not a spool"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			openTest(t, dir, nil).Close()
			if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, &Options{Logger: quiet})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}

// TestMissing takes away files without which mail would be lost silently.
func TestMissing(t *testing.T) {
	for _, missing := range []string{"FORMAT", "index.db"} {
		t.Run(missing, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir, nil)
			storeOne(t, s, noise(2_000_000))
			s.Close()
			before := listFiles(t, filepath.Join(dir, "big"))
			if err := os.Remove(filepath.Join(dir, missing)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, &Options{Logger: quiet}); err == nil {
				t.Errorf("Open without %s succeeded", missing)
			}
			if after := listFiles(t, filepath.Join(dir, "big")); after != before {
				t.Errorf("Open deleted mail: %s became %s", before, after)
			}
		})
	}
}

func listFiles(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(name, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// TestSweep checks that what a crash left behind is deleted, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	small, big := storeOne(t, s, noise(10)), storeOne(t, s, noise(2_000_000))
	staged, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Write(noise(2_000_000)); err != nil {
		t.Fatal(err)
	}
	if err := staged.(*writer).prepare(); err != nil { // as a crash before the commit leaves it
		t.Fatal(err)
	}
	other, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write(noise(2_000_000)); err != nil {
		t.Fatal(err)
	}
	abandon(s)
	orphan := filepath.Join(dir, "seg", segmentName(77))
	if err := os.WriteFile(orphan, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir, nil)
	files := listFiles(t, dir)
	for _, id := range []spool.ID{staged.ID(), other.ID()} {
		if strings.Contains(files, id.String()) {
			t.Errorf("the staged body %s is still there: %s", id, files)
		}
	}
	if strings.Contains(files, segmentName(77)) {
		t.Error("a segment to which nothing refers is still there")
	}
	for _, e := range []*spool.Entry{small, big} {
		b, err := s.Open(t.Context(), e.Body)
		if err != nil {
			t.Errorf("body %s: %v", e.Body, err)
			continue
		}
		b.Close()
	}
}

// TestSegments checks that a segment goes with its last body, and that the
// bodies behind a restart stand in the same one.
func TestSegments(t *testing.T) {
	dir := t.TempDir()
	opts := &Options{SegmentSize: 2 << 20}
	s := openTest(t, dir, opts)
	var entries []*spool.Entry
	for range 6 {
		entries = append(entries, storeOne(t, s, noise(900_000)))
	}
	seg := filepath.Join(dir, "seg")
	if files, _ := os.ReadDir(seg); len(files) != 3 {
		t.Errorf("6 bodies of 900 kB stand in %d segments of 2 MiB, want 3", len(files))
	}
	body, err := s.Open(t.Context(), entries[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	for _, e := range entries[:4] {
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Fatal(errs)
		}
	}
	if files, _ := os.ReadDir(seg); len(files) != 1 {
		t.Errorf("after all but the last segment became unused, there are %d, want 1", len(files))
	}
	if _, err := body.ReadAt(make([]byte, 900_000), 0); err != nil {
		t.Errorf("a body that was open when it was removed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir, opts)
	storeOne(t, s, noise(10))
	if files, _ := os.ReadDir(seg); len(files) != 1 {
		t.Errorf("after a restart there are %d segments, want 1", len(files))
	}
}

// TestTornTail writes garbage behind the last frame, as a crash does.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	first := storeOne(t, s, noise(1000))
	name, off, size, err := bodyFile(s, first.Body)
	if err != nil {
		t.Fatal(err)
	}
	abandon(s)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn := frameHeader{Type: frameBody, Generation: 1, Length: 500, ID: spool.NewID()}.append(nil, off+size)
	f.WriteAt(append(torn, noise(200)...), off+size)
	f.Close()

	s = openTest(t, dir, nil)
	if info, err := os.Stat(name); err != nil || info.Size() != off+size {
		t.Errorf("the segment has %d bytes (error %v), want the torn tail cut off at %d", info.Size(), err, off+size)
	}
	second := storeOne(t, s, noise(300))
	if n, at, _, _ := bodyFile(s, second.Body); n != name || at != off+size+frameHeaderSize {
		t.Errorf("the next body stands in %s at %d, want %s at %d", n, at, name, off+size+frameHeaderSize)
	}
	if _, err := s.Open(t.Context(), first.Body); err != nil {
		t.Error(err)
	}
}
