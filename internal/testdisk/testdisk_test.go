package testdisk_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
)

var long = flag.Bool("long", false, "make a real file system (needs root and loop devices)")

// TestNew fills a disk. Without -long it only checks that New says what is
// missing, if something is.
func TestNew(t *testing.T) {
	missing := testdisk.Available()
	if !*long {
		t.Logf("short form: the disk is not made; what is missing for it: %v", missing)
		if missing == nil {
			return
		}
	}
	dir, err := testdisk.New(t, 16)
	if missing != nil && !*long {
		if err == nil {
			t.Error("New succeeded without what it needs")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(dir, "file"), make([]byte, 32<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("32 MiB on a disk of 16: got %v, want ENOSPC", err)
	}
}
