package smtpserver

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// usage returns the resident memory of this process and the CPU time that it
// has taken.
func usage() (rss int64, cpu time.Duration, err error) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0, 0, err
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, err
	}
	var size, resident int64 // in pages
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, 0, err
	}
	return resident * int64(os.Getpagesize()), time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), nil
}

// mayOpen raises the limit of open files, and returns how many of n connections
// it allows; it says why if not all.
func mayOpen(t *testing.T, n int) int {
	t.Helper()
	const others = 200
	want := uint64(n + others)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur >= want {
		return n
	}
	raised := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)}
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) // beyond Max for root alone
	if err == nil {
		return n
	}
	n = min(n, int(limit.Max)-others)
	t.Logf("%d connections only: the limit of open files is %d and cannot be raised to %d: %v", n, limit.Max, want, err)
	return n
}

// smallBuffers has the kernel keep little of a connection, so that it does not
// take long until neither end can go on.
func smallBuffers(_, _ string, c syscall.RawConn) (err error) {
	for _, option := range []int{syscall.SO_RCVBUF, syscall.SO_SNDBUF} {
		failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, option, 16<<10) })
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}
