package testdisk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
)

// TestNewPower cuts the power after one file was synced and another was not.
// Without -long it only checks that NewPower says what is missing, if something
// is.
func TestNewPower(t *testing.T) {
	missing := testdisk.AvailablePower()
	if !*long {
		t.Logf("short form: the power is not cut; what is missing for it: %v", missing)
		if missing == nil {
			return
		}
	}
	p, err := testdisk.NewPower(t, 64)
	if missing != nil && !*long {
		if err == nil {
			t.Error("NewPower succeeded without what it needs")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("content "), 4096)
	write(t, filepath.Join(p.Dir, "synced"), content, true)
	write(t, filepath.Join(p.Dir, "unsynced"), content, false)
	for range 2 {
		cut(t, p, content)
	}
	if b, err := os.ReadFile(filepath.Join(p.Dir, "unsynced")); err != nil || !bytes.Equal(b, content) {
		t.Errorf("the file system did not go on: %v", err)
	}
}

func write(t *testing.T, name string, content []byte, sync bool) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err = f.Write(content); err == nil && sync {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, p *testdisk.Power, content []byte) {
	t.Helper()
	image, err := p.Cut()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := image.Mount()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "synced")); err != nil || !bytes.Equal(b, content) {
		t.Errorf("what was synced is lost: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "unsynced")); err == nil && bytes.Equal(b, content) {
		t.Error("what was not synced is there")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := image.Close(); err != nil {
		t.Error(err)
	}
}
