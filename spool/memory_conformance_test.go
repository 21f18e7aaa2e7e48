package spool_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

func TestMemory(t *testing.T) { spooltest.Run(t, memoryHarness()) }

// Nobody can tell whether what a failed sync was for is there later.
func TestMemoryFailSyncKept(t *testing.T) {
	h := memoryHarness()
	h.Rounds, h.Space = 200, nil
	h.Fail = func(_ *testing.T, s spool.Spool) { s.(*spool.Memory).FailSyncKept() }
	spooltest.Run(t, h)
}

// With a delay there is time for things to happen while an Apply waits.
func TestMemoryDelayed(t *testing.T) {
	h := memoryHarness()
	h.Rounds, h.Space = 100, nil
	h.Open = func(*testing.T) spool.Spool {
		m := spool.NewMemory()
		m.SetDelay(200 * time.Microsecond)
		return m
	}
	spooltest.Run(t, h)
}

func memoryHarness() spooltest.Harness {
	return spooltest.Harness{
		Open:   func(*testing.T) spool.Spool { return spool.NewMemory() },
		Reopen: func(_ *testing.T, s spool.Spool) spool.Spool { return s.(*spool.Memory).Reopen() },
		Crash:  func(_ *testing.T, s spool.Spool) spool.Spool { return s.(*spool.Memory).Crash() },
		Second: func(_ *testing.T, s spool.Spool) spool.Spool { return s.(*spool.Memory).Attach() },
		Fail:   func(_ *testing.T, s spool.Spool) { s.(*spool.Memory).FailSync() },
		Damage: func(t *testing.T, s spool.Spool, id spool.ID, part string) {
			if err := s.(*spool.Memory).Damage(id, part); err != nil {
				t.Fatal(err)
			}
		},
		Space: func(*testing.T, spool.Spool) int64 {
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc)
		},
	}
}
