package boltspool

import (
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/record"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// parallel runs b.N calls of f in that many goroutines and returns how many
// were done in a second.
func parallel(b *testing.B, clients int, f func() error) float64 {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(b.N) / time.Since(start).Seconds()
}

// BenchmarkCommit commits messages of 4 KB, and in the same run does with
// db.Batch of bbolt what a simple spool would do. The metric x-batch is how many
// times as fast the spool is.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 16, 128} {
		b.Run(map[int]string{1: "1", 16: "16", 128: "128"}[clients], func(b *testing.B) {
			s := openTest(b, b.TempDir(), &Options{fs: vfs.OS{}})
			payload := noise(4096)
			rate := parallel(b, clients, func() error { return commitOne(b, s, payload) })
			b.StopTimer()
			b.ReportMetric(rate, "msg/s")
			b.ReportMetric(rate/batchRate(b, clients, payload), "x-batch")
		})
	}
}

func commitOne(b *testing.B, s *Spool, payload []byte) error {
	w, err := s.Create(b.Context(), 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(payload); err != nil {
		return err
	}
	return w.Commit(b.Context(), testEntry(w.ID()))
}

func batchRate(b *testing.B, clients int, payload []byte) float64 {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "index.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	return parallel(b, clients, func() error {
		e := testEntry(spool.NewID())
		return db.Batch(func(tx *bbolt.Tx) error {
			bodies, err := tx.CreateBucketIfNotExists([]byte("bodies"))
			if err != nil {
				return err
			}
			entries, err := tx.CreateBucketIfNotExists([]byte("entries"))
			if err != nil {
				return err
			}
			if err := bodies.Put(e.Body[:], payload); err != nil {
				return err
			}
			return entries.Put(e.ID[:], record.AppendEntry(nil, e, nil, 0))
		})
	})
}

// BenchmarkLifecycle commits messages and removes them again.
func BenchmarkLifecycle(b *testing.B) {
	s := openTest(b, b.TempDir(), &Options{fs: vfs.OS{}})
	payload := noise(4096)
	rate := parallel(b, 64, func() error {
		w, err := s.Create(b.Context(), 0)
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write(payload); err != nil {
			return err
		}
		e := testEntry(w.ID())
		if err := w.Commit(b.Context(), e); err != nil {
			return err
		}
		if errs := s.Apply(b.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			return errs[0]
		}
		return nil
	})
	b.ReportMetric(rate, "msg/s")
}

// BenchmarkOpen opens a spool of 100,000 entries of about 700 bytes. The metric
// B/entry is the heap that they cost.
func BenchmarkOpen(b *testing.B) {
	const n, batch = 100_000, 1000
	dir := b.TempDir()
	s := openTest(b, dir, &Options{fs: vfs.OS{}})
	for range n / batch {
		w, err := s.Create(b.Context(), 0)
		if err != nil {
			b.Fatal(err)
		}
		entries := make([]*spool.Entry, batch)
		for i := range entries {
			entries[i] = testEntry(w.ID())
			entries[i].Header = noise(500)
		}
		if err := w.Commit(b.Context(), entries...); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	var heap uint64
	for b.Loop() {
		before := heapInUse()
		s = openTest(b, dir, &Options{fs: vfs.OS{}})
		heap = heapInUse() - before
		s.Close()
	}
	b.ReportMetric(float64(heap)/n, "B/entry")
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
