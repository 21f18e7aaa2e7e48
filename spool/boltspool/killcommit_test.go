package boltspool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// TestKilledInCheckpoint: a process is killed before the sync of a checkpoint
// that it has written, the next one deletes what that does not need, and the power
// fails. What was removed does not come back, and nothing is damaged.
func TestKilledInCheckpoint(t *testing.T) {
	opts := &Options{segmentSize: 64 << 10, manual: true, fs: vfs.OS{}}
	s := newTest(t, opts)
	var gone, kept []*spool.Entry
	for range 3 {
		for range 8 {
			gone = append(gone, storeOne(t, s, noise(6000)))
		}
		kept = append(kept, storeOne(t, s, noise(6000)))
	}
	work(t, s)
	name := filepath.Join(s.dir, checkpoint.Name)
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	removeAll(t, s, gone)
	for range 30 { // so that their end stands in a segment of which nothing is needed
		removeAll(t, s, []*spool.Entry{storeOne(t, s, noise(6000))})
	}
	storeOne(t, s, noise(100))
	s.keeper.run(func() { err = s.keeper.checkpoint() })
	if err != nil {
		t.Fatal(err)
	}
	abandon(s)

	durable := false
	s = openTest(t, s.dir, HookSyncs(opts, func(synced string, sync func() error) error {
		durable = durable || synced == name
		return sync()
	}))
	s.keeper.run(func() { err = errors.Join(err, s.keeper.work()) })
	abandon(s)
	if !durable {
		err = errors.Join(err, os.WriteFile(name, before, 0o600))
	}
	if err := errors.Join(err, os.Remove(s.marksName())); err != nil {
		t.Fatal(err)
	}

	s = openTest(t, s.dir, opts)
	if err := checkIndex(s); err != nil {
		t.Error(err)
	}
	if n := s.Stats().Entries; n != len(kept)+1 {
		t.Errorf("%d messages are there, want %d", n, len(kept)+1)
	}
}
