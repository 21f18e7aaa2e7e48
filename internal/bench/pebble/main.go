// Command pebble is a process that `go run ./internal/bench spool` measures:
// it stores messages in Pebble, a key-value store that syncs its log for many
// callers at once. It stands in a module of its own, so that no host of the
// library comes to depend on it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/deferredqueue/deferredqueue/internal/bench/commits"
	"github.com/deferredqueue/deferredqueue/spool"
)

func main() {
	if err := commits.Serve(os.Stdin, os.Stdout, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// open opens a store for large values that are written once, in the order of
// their keys. Each of these options made it faster on the machine on which they
// were chosen:
//
//   - memtables of 64 MiB, up to four of them, rather than of 4 MiB: a burst is
//     not held up by flushes, nor the log by files that are begun all the time
//   - value separation: a body is written to a blob file once, when its memtable
//     is flushed, and compactions leave it where it is
//   - files of 64 MiB rather than of 2 MiB, so that a flush makes few of them
//   - three compactions at once when they fall behind
//
// Everything else is as it comes: the log is synced by group commit, its files
// are preallocated and used again, blocks are compressed where that pays.
func open(c commits.Config) (commits.Store, error) {
	opts := &pebble.Options{
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		TargetFileSizes:             [7]int64{64 << 20},
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 3 },
		Logger:                      silent{},
	}
	opts.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 1 << 10, MaxBlobReferenceDepth: 10, TargetGarbageRatio: 1}
	}
	db, err := pebble.Open(filepath.Join(c.Dir, "pebble"), opts)
	if err != nil {
		return nil, fmt.Errorf("bench: opening Pebble: %w", err)
	}
	return store{db}, nil
}

// A store keeps bodies under b and their ID, entries under e and theirs.
type store struct{ db *pebble.DB }

// Commit puts both into one batch and waits for the log to be synced; ctx does
// not count.
func (s store) Commit(_ context.Context, from *commits.Sender, body []byte) error {
	batch := s.db.NewBatchWithSize(len(body) + batchRoom)
	defer batch.Close()
	bodyID := spool.NewID()
	if err := batch.Set(append([]byte{'b'}, bodyID[:]...), body, nil); err != nil {
		return err
	}
	id, record := from.Record()
	if err := batch.Set(append([]byte{'e'}, id[:]...), record, nil); err != nil {
		return err
	}
	return batch.Commit(pebble.Sync)
}

// batchRoom is what a batch has beside the body.
const batchRoom = 2 << 10

// Close flushes nothing: the log has all.
func (s store) Close() error { return s.db.Close() }

// silent drops what Pebble logs.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf ends the process, as Pebble expects; the parent sees why.
func (silent) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
