package boltspool_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestEIOCompact: an index that was written anew may still be the old one after a
// power cut, if the sync of its directory fails. What comes later must not be
// written to it then, although a second sync of the directory would succeed.
func TestEIOCompact(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	opts := &boltspool.Options{Logger: slog.New(slog.DiscardHandler)}
	s, err := boltspool.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(storeOne(t.Context(), s), s.Close()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "index.db")
	before := bloat(t, name)

	failed := 0
	s, err = boltspool.Open(dir, boltspool.HookSyncs(opts, func(name string, sync func() error) error {
		if name == dir && failed == 0 {
			failed++
			return syscall.EIO
		}
		return sync()
	}))
	if after := size(t, name); failed == 0 || after >= before {
		t.Fatalf("%d syncs failed, and the index has %d bytes, before %d: it was not compacted", failed, after, before)
	}
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("Open: got %v, want the error of the sync", err)
	}
	if err == nil {
		s.Close()
	}
	if s, err = boltspool.Open(dir, opts); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(boltspool.CheckIndex(s), storeOne(t.Context(), s), s.Close()); err != nil {
		t.Error(err)
	}
}

// bloat makes an index large and mostly empty, and returns its size.
func bloat(t *testing.T, name string) int64 {
	t.Helper()
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	junk := []byte("junk")
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(junk)
		if err != nil {
			return err
		}
		return b.Put(junk, make([]byte, 20<<20))
	})
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(junk) })
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return size(t, name)
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
