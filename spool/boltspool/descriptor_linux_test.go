package boltspool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// replaceIndex lets the descriptor that bbolt holds refer to a device instead.
func replaceIndex(t *testing.T, s *Spool, device string) {
	t.Helper()
	want, err := filepath.EvalSymlinks(s.indexName())
	if err != nil {
		t.Fatal(err)
	}
	dev, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dev)
	own := int(s.indexFile.f.(*faultFile).file.(osFile).Fd())
	replaced := false
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil || fd == own {
			continue
		}
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && name == want {
			if err := unix.Dup3(dev, fd, 0); err != nil {
				t.Fatal(err)
			}
			replaced = true
		}
	}
	if !replaced {
		t.Fatal("bbolt holds no descriptor of the index")
	}
}
