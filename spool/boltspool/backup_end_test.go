package boltspool

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestBackupEnd: damage to the end of the log of a copy, which the index in it does
// not know yet, is not taken for what a power cut leaves.
func TestBackupEnd(t *testing.T) {
	for name, spoilEnd := range map[string]func(file string, off int64) error{
		"group": func(file string, off int64) error { flip(t, file, groupBefore(t, file, off)+9); return nil },
		"entry": func(file string, off int64) error { flip(t, file, off+20); return nil },
		"cut":   func(file string, off int64) error { return os.Truncate(file, off) },
		"zeros": func(file string, off int64) error {
			return errors.Join(os.Truncate(file, off), os.Truncate(file, off+9000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, setHook := newHooked(t)
			first := storeOne(t, s, noise(100))
			s.Close()
			setHook(func(op, name string) error {
				if op == "allocate" && name == filepath.Join(s.dir, "index.db") {
					return syscall.ENOSPC // no checkpoint
				}
				return nil
			})
			s = openTest(t, s.dir, &Options{segmentSize: taleSegment, Logger: quiet, fs: s.fs})
			storeOne(t, s, noise(60_000))
			last := storeOne(t, s, noise(200))
			dir := filepath.Join(fastDir(t), "copy")
			if err := s.Backup(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			setHook(nil)
			file, off, err := entryFile(s, last.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoilEnd(filepath.Join(dir, "seg", filepath.Base(file)), off); err != nil {
				t.Fatal(err)
			}
			verified, err := Verify(t.Context(), dir, &Options{Logger: quiet})
			if err != nil || len(verified.Damaged) == 0 {
				t.Errorf("Verify: %v, %v, want damage", verified, err)
			}
			c := openTest(t, dir, &Options{segmentSize: taleSegment, Logger: quiet})
			defer c.Close()
			reported, found := false, false
			for e, err := range c.Scan(t.Context(), spool.Query{}) {
				reported = reported || err != nil
				found = found || err == nil && e.ID == first.ID
			}
			if !reported || !found {
				t.Errorf("Scan reported damage %v, and found what is not damaged %v", reported, found)
			}
		})
	}
}
