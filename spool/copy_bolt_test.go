package spool_test

import (
	"log/slog"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// From memory to disk, and on to a spool with other options.
func TestCopyToDisk(t *testing.T) {
	open := func(dir string, o boltspool.Options) *boltspool.Spool {
		o.Logger = slog.New(slog.DiscardHandler)
		sp, err := boltspool.Open(dir, &o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sp.Close() })
		return sp
	}
	src := spool.NewMemory()
	entries, bodies := fillCopy(t, src)
	dir := t.TempDir()
	first := open(dir, boltspool.Options{})
	res, err := spool.Copy(t.Context(), first, src, nil)
	if err != nil || res.Entries != int64(entries) || res.Bodies != int64(bodies) {
		t.Fatalf("from memory: %+v, %v, want %d entries and %d bodies", res, err, entries, bodies)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	first = open(dir, boltspool.Options{})
	sameMail(t, first, src)

	second := open(t.TempDir(), boltspool.Options{SegmentSize: 2 << 20})
	res, err = spool.Copy(t.Context(), second, first, &spool.CopyOptions{Remove: true})
	if err != nil || res.Removed != int64(entries) {
		t.Fatalf("from disk to disk: %+v, %v, want %d removed", res, err, entries)
	}
	sameMail(t, second, src)
	if left, _ := holds(t, first); len(left) != 0 {
		t.Errorf("%d entries are left in the first", len(left))
	}
}
