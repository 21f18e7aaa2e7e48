package boltspool

import (
	"bytes"
	"errors"
	"io"
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

func readBody(t *testing.T, s *Spool, id spool.ID) ([]byte, error) {
	t.Helper()
	b, err := s.Open(t.Context(), id)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

// TestDamageKeeps checks that damage to the record of a body does not lead to
// the deletion of what it would have referred to.
func TestDamageKeeps(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, nil)
	e := storeOne(t, s, noise(1000))
	name, _, _, err := bodyFile(s, e.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flipBodyRecord(t, filepath.Join(dir, "index.db"), e.Body)
	s = openTest(t, dir, nil)
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the segment of a body whose record is damaged: %v", err)
	}
	var corrupt *spool.CorruptError
	if _, err := s.Open(t.Context(), e.Body); !errors.As(err, &corrupt) {
		t.Errorf("Open: got %v, want a *CorruptError", err)
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
	if err != nil || len(got) != 1 {
		t.Fatalf("Claim: got %d entries and error %v, want the entry", len(got), err)
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: got[0]}}); errs != nil {
		t.Errorf("Remove of an entry whose body is damaged: %v", errs)
	}
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the segment after the entry was removed: %v", err)
	}
}

// flipBodyRecord flips a bit wherever the record of a body stands.
func flipBodyRecord(t *testing.T, name string, id spool.ID) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	mark := append(append([]byte{}, id[:]...), recordVersion, byte(inSegment))
	found := false
	for i := bytes.Index(b, mark); i >= 0; i = bytes.Index(b, mark) {
		b[i+len(mark)+5] ^= 1
		b[i+len(mark)-1] ^= 0x80 // the mark is not found again
		found = true
	}
	if !found {
		t.Fatal("the record was not found")
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
