package boltspool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestDamagedFiles flips a bit here and there in every file, and cuts every
// file: a spool that opens nevertheless returns right bytes or a CorruptError.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	bodies := map[spool.ID][]byte{}
	for _, n := range []int{0, 10, 5000, 100_000, 1_500_000} {
		e := storeOne(t, s, noise(n))
		bodies[e.Body] = noise(n)
	}
	s.Close()
	os.Remove(filepath.Join(dir, "LOCK"))

	var files []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(whole, "\x00")) // beyond are blocks allocated ahead
		for _, part := range []int{0, 1, 3, 7, 9, 12, 15, 16} {
			at := max(min(part*used/16, used-1), 0)
			if used > 0 {
				bad := bytes.Clone(whole)
				bad[at] ^= 0x04
				found += lookAt(t, copyWith(t, dir, name, bad), bodies)
			}
			found += lookAt(t, copyWith(t, dir, name, whole[:at]), bodies)
		}
	}
	if found == 0 {
		t.Error("no damage was found")
	}
}

// copyWith copies a spool, with other contents of one file.
func copyWith(t *testing.T, dir, name string, contents []byte) string {
	t.Helper()
	to := fastDir(t)
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, rel), contents, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// lookAt opens a damaged spool and counts what it reports.
func lookAt(t *testing.T, dir string, bodies map[spool.ID][]byte) (damage int) {
	t.Helper()
	s, err := Open(dir, &Options{Logger: quiet})
	if err != nil {
		return 1
	}
	defer s.Close()
	for _, err := range s.Scan(t.Context(), spool.Query{}) {
		var corrupt *spool.CorruptError
		if errors.As(err, &corrupt) {
			damage++
		} else if err != nil {
			t.Errorf("Scan: got %v, want a *CorruptError", err)
		}
	}
	for id, want := range bodies {
		var corrupt *spool.CorruptError
		got, err := readBody(t, s, id)
		switch {
		case errors.As(err, &corrupt):
			damage++
		case err != nil && !errors.Is(err, spool.ErrNotFound):
			t.Errorf("body %s: got %v, want a *CorruptError", id, err)
		case err == nil && !bytes.Equal(got, want):
			t.Errorf("body %s: wrong bytes without an error", id)
		}
	}
	return damage
}
