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
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
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
		{"later", formatPrefix + "3\n", "format 3"},
		{"earlier", formatPrefix + "1\n", "format 1"},
		{"no name", formatPrefix + "2\n", "is damaged"},
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
	orphan := segmentFile(dir, 77)
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
	if strings.Contains(files, filepath.Base(orphan)) {
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

// TestTornTail writes what a crash may leave behind the last group: part of
// another, or zeros where it was to be. Neither is found, and the next message
// is stored there.
func TestTornTail(t *testing.T) {
	for name, tear := range map[string]func(group []byte){
		"whole but for a byte": func(g []byte) { g[len(g)-1] ^= 1 },
		"cut":                  func(g []byte) { clear(g[len(g)/2:]) },
		"without its front":    func(g []byte) { clear(g[:48]) },
		"zeros":                func(g []byte) { clear(g) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir, nil)
			first := storeOne(t, s, noise(1000))
			end, _ := s.log.End()
			marks, err := os.ReadFile(s.marksName()) // as if the power had gone before the next was acknowledged
			if err != nil {
				t.Fatal(err)
			}
			second := storeOne(t, s, noise(500))
			after, _ := s.log.End()
			abandon(s)
			segment := segmentFile(dir, end.Segment())
			b, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			tear(b[end.Offset():after.Offset()])
			if err := errors.Join(os.WriteFile(segment, b, 0o600), os.WriteFile(s.marksName(), marks, 0o600)); err != nil {
				t.Fatal(err)
			}

			s = openTest(t, dir, nil)
			if err := checkIndex(s); err != nil {
				t.Errorf("what was never finished counts as damage: %v", err)
			}
			if got, _ := s.log.End(); got != end {
				t.Errorf("the log ends at %v, want %v", got, end)
			}
			if _, err := s.Open(t.Context(), second.Body); !errors.Is(err, spool.ErrNotFound) {
				t.Errorf("a body of a torn group: got %v, want ErrNotFound", err)
			}
			third := storeOne(t, s, noise(300))
			if got := seglog.Place(third.Rev); got.Segment() != end.Segment() || got < end || got > after {
				t.Errorf("the next message stands at %v, want %v", got, end)
			}
			for _, e := range []*spool.Entry{first, third} {
				if _, err := readBody(t, s, e.Body); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestTornOrDamaged: what was acknowledged is damaged if it cannot be read, and
// not cut off, even at the end of the log.
func TestTornOrDamaged(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	first := storeOne(t, s, noise(1000))
	second := storeOne(t, s, noise(500))
	abandon(s)
	place := seglog.Place(second.Rev)
	flip(t, segmentFile(dir, place.Segment()), place.Offset()+5)

	for range 3 {
		s = openTest(t, dir, nil)
		var corrupt *spool.CorruptError
		n := 0
		for e, err := range s.Scan(t.Context(), spool.Query{}) {
			switch {
			case errors.As(err, &corrupt):
				n++
			case err != nil || e.ID != first.ID:
				t.Errorf("Scan: got %v, %v", e, err)
			}
		}
		if n != 1 {
			t.Errorf("Scan reported %d damages, want 1", n)
		}
		if _, err := readBody(t, s, first.Body); err != nil {
			t.Error(err)
		}
		if e := storeOne(t, s, noise(10)); seglog.Place(e.Rev).Segment() == place.Segment() {
			t.Error("something is written to a segment that is set aside")
		} else if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Error(errs)
		}
		if _, err := os.Stat(segmentFile(dir, place.Segment())); err != nil {
			t.Errorf("the damaged segment: %v", err)
		}
		s.Close()
	}
}
