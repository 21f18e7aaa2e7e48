package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// keepAwake keeps every processor from sleeping until stop is called. To wake one
// up, in a virtual machine above all, takes longer than what is measured, and how
// often that happens is up to chance. What runs here gives way to everything else
// at once.
func keepAwake() (stop func(), err error) {
	n := runtime.NumCPU()
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + n) // the others of this process go on
	var ended atomic.Bool
	var threads sync.WaitGroup
	stop = func() {
		ended.Store(true)
		threads.Wait()
		runtime.GOMAXPROCS(procs)
	}
	errs := make(chan error, n)
	for range n {
		threads.Go(func() {
			runtime.LockOSThread() // and never unlock it: the thread ends with its policy
			err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0)
			errs <- err
			for err == nil && !ended.Load() {
				unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // to what is of another control group, which does not know how little this is worth
			}
		})
	}
	for range n {
		if err := <-errs; err != nil {
			stop()
			return nil, fmt.Errorf("bench: keeping processors awake: %w", os.NewSyscallError("sched_setattr", err))
		}
	}
	return stop, nil
}
