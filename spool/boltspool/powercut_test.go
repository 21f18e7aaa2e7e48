package boltspool

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestPowerCut cuts the power of a spool at random operations, on a file system
// that forgets any part of what was not synced, and looks for everything that was
// acknowledged. What a seed does depends on it alone, but for the IDs.
func TestPowerCut(t *testing.T) { simulate(t, 0, 250, 6_000) }

// TestEIO lets an operation fail in each life, too, as a damaged disk does.
func TestEIO(t *testing.T) { simulate(t, syscall.EIO, 150, 6_000) }

// TestENOSPC lets one find no space, which the spool must get over.
func TestENOSPC(t *testing.T) { simulate(t, syscall.ENOSPC, 150, 6_000) }

var simSeed = flag.Uint64("simseed", 0, "run simulations with this seed alone")

// simulate runs simulations of many seeds, or of the one that is asked for.
func simulate(t *testing.T, fault syscall.Errno, few uint64, many int) {
	dir := filepath.Join(fastDir(t), "spool")
	runs, base := few, rand.Uint64()
	if *long {
		runs = uint64(tries(many))
	}
	if *simSeed != 0 {
		runs, base = 1, *simSeed
	}
	start, cuts, faults := time.Now(), 0, 0
	for i := range runs {
		sim := newSim(dir, base+i)
		sim.fault = fault
		if err := sim.run(); err != nil {
			t.Fatalf("with -simseed %d: %v", base+i, err)
		}
		cuts += sim.cuts
		faults += sim.faults
	}
	t.Logf("%d power cuts, %d faults, %.0f lives a second", cuts, faults, 3*float64(runs)/time.Since(start).Seconds())
	if fault != 0 && faults == 0 && *simSeed == 0 {
		t.Error("no operation failed")
	}
}

// TestPowerCutTeeth shows that the test above would notice what it is for: a
// spool whose syncs do nothing loses mail.
func TestPowerCutTeeth(t *testing.T) {
	for name, without := range map[string]func(fs *vfstest.Crash){
		"file": func(fs *vfstest.Crash) { fs.NoSync = true },
		"dir":  func(fs *vfstest.Crash) { fs.NoSyncDir = true },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fastDir(t), "spool")
			for seed := range uint64(50) {
				sim := newSim(dir, seed)
				without(sim.fs)
				if err := sim.run(); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("a spool that does not sync lost nothing")
		})
	}
}
