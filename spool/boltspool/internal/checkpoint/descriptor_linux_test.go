package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// TestDescriptor puts devices in the place of the file, so that the writes and
// syncs of bbolt itself fail.
func TestDescriptor(t *testing.T) {
	for _, device := range []string{"/dev/full", "/dev/null"} { // a write fails; a sync fails
		t.Run(device, func(t *testing.T) {
			f, dir, state := newFile(t, vfs.OS{})
			l := ledger{}
			c := changes(l, &state, 10, 0)
			if err := f.Write(c); err != nil {
				t.Fatal(err)
			}
			l.apply(c)
			before := state
			replaceFile(t, f, device)
			if err := f.Write(changes(l, &state, 10, 5)); err == nil {
				t.Error("a Write to a device succeeded")
			}
			f.Close()
			l.compare(t, openFile(t, vfs.OS{}, dir), before)
		})
	}
}

// replaceFile lets the descriptor that bbolt holds refer to a device instead.
func replaceFile(t *testing.T, f *File, device string) {
	t.Helper()
	want, err := filepath.EvalSymlinks(f.name)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := unix.Open(device, unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dev)
	own := int(f.space.f.(interface{ Fd() uintptr }).Fd())
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
