package boltspool

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A crampedFS opens no segment for want of descriptors while it is cramped.
type crampedFS struct {
	vfs.FS
	cramped bool
}

func (f *crampedFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if f.cramped && filepath.Ext(name) == ".seg" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestClaimBusy: a claim that fails for want of descriptors claims nothing, and the
// next one claims, and reports the damage that it did not.
func TestClaimBusy(t *testing.T) {
	opts := &Options{segmentSize: 64 << 10, manual: true}
	s := newTest(t, opts)
	for range 10 {
		storeOne(t, s, noise(12_000))
	}
	work(t, s)
	s.Close()
	cramped := &crampedFS{FS: vfs.OS{}}
	opts.fs = cramped
	s = openTest(t, s.dir, opts)
	s.noteDamage(spool.ID{}, damage{err: errors.New("a part of the log")})
	cramped.cramped = true
	req := spool.ClaimRequest{Due: time.Now().Add(time.Hour), Limit: 100}
	if got, _, err := s.Claim(t.Context(), req); len(got) > 0 || !errors.Is(err, spool.ErrBusy) {
		t.Fatalf("claimed %d, error %v, want ErrBusy", len(got), err)
	}
	cramped.cramped = false
	var corrupt *spool.CorruptError
	if got, _, err := s.Claim(t.Context(), req); len(got) != 10 || !errors.As(err, &corrupt) {
		t.Fatalf("claimed %d, error %v, want 10 and the damage", len(got), err)
	}
}
