package measure

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
)

// How much of what blocks is noted: all of it would be felt.
const (
	blockRate     = 10_000 // one of blocking for so many nanoseconds
	mutexFraction = 10     // one of so many contentions
)

// Profiles are what a process notes about itself.
type Profiles struct {
	path string
	cpu  *os.File
}

// StartProfiles begins a CPU profile in the file path, and notes where goroutines
// block. An empty path means none.
func StartProfiles(path string) (*Profiles, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("bench: the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: the profile: %w", err), f.Close())
	}
	runtime.SetBlockProfileRate(blockRate)
	runtime.SetMutexProfileFraction(mutexFraction)
	return &Profiles{path, f}, nil
}

// Stop ends the CPU profile, and writes those of allocations, of blocking and of
// mutexes beside it: NAME.allocs.pprof for NAME.pprof, and so on. It does nothing
// for nil.
func (p *Profiles) Stop() error {
	if p == nil {
		return nil
	}
	pprof.StopCPUProfile()
	runtime.SetBlockProfileRate(0)
	runtime.SetMutexProfileFraction(0)
	errs := []error{p.cpu.Close()}
	for _, name := range []string{"allocs", "block", "mutex"} {
		errs = append(errs, writeProfile(name, strings.TrimSuffix(p.path, ".pprof")+"."+name+".pprof"))
	}
	return errors.Join(errs...)
}

func writeProfile(name, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("bench: the profile: %w", err)
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}
