package boltspool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestIndexDescriptor puts devices in the place of the index file, so that the
// writes and syncs of bbolt itself fail.
func TestIndexDescriptor(t *testing.T) {
	for _, device := range []string{"/dev/full", "/dev/null"} { // a write fails; a sync fails
		t.Run(device, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir, nil)
			e := storeOne(t, s, noise(100))
			replaceIndex(t, s, device)
			next := e.Clone()
			next.Attempts++
			for range 2 {
				errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next}})
				if errs == nil || !errors.Is(errs[0], spool.ErrFailed) {
					t.Fatalf("got %v, want ErrFailed", errs)
				}
			}
			if err := s.Health(); !errors.Is(err, spool.ErrFailed) {
				t.Errorf("Health: got %v, want ErrFailed", err)
			}
			s.Close()
			s = openTest(t, dir, nil)
			got, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 10})
			if err != nil || len(got) != 1 || got[0].Attempts != 0 {
				t.Errorf("after reopening: got %v and error %v, want the entry as it was", got, err)
			}
		})
	}
}

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
