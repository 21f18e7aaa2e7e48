package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the kernel end a child whose parent was killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// clockTick is the unit of the times in /proc/pid/stat, the same on all Linux.
const clockTick = 10 * time.Millisecond

// A procStat is what is needed of one /proc/pid/stat.
type procStat struct {
	pid, parent int
	cpu         time.Duration // its own, and that of children which it has waited for
}

func parseStat(data []byte) (procStat, error) {
	var s procStat
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')') // a name may contain both
	if open < 1 || end < open {
		return s, fmt.Errorf("bench: %q is no /proc/pid/stat", data)
	}
	fields := strings.Fields(string(data[end+1:])) // from the third on: state ppid ...
	if len(fields) < 15 {
		return s, fmt.Errorf("bench: %q is no /proc/pid/stat", data)
	}
	var ticks int64
	for _, f := range fields[11:15] { // utime stime cutime cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return s, fmt.Errorf("bench: /proc/pid/stat: %w", err)
		}
		ticks += n
	}
	s.cpu = time.Duration(ticks) * clockTick
	var err error
	if s.pid, err = strconv.Atoi(strings.TrimSpace(string(data[:open]))); err != nil {
		return s, fmt.Errorf("bench: /proc/pid/stat: %w", err)
	}
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, fmt.Errorf("bench: /proc/pid/stat: %w", err)
	}
	return s, nil
}

// treeCPU returns what the process root and all its descendants have used so
// far. Those that have ended are in the sum of the parent that waited for
// them, so that none is missing, as long as nobody leaves the tree.
func treeCPU(root int) (time.Duration, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	stats := map[int]procStat{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if s, err := parseStat(data); err == nil {
			stats[s.pid] = s
		}
	}
	if _, ok := stats[root]; !ok {
		return 0, fmt.Errorf("bench: process %d has ended", root)
	}
	var sum time.Duration
	for _, s := range stats {
		if descends(stats, s.pid, root) {
			sum += s.cpu
		}
	}
	return sum, nil
}

func descends(stats map[int]procStat, pid, root int) bool {
	for range len(stats) {
		if pid == root {
			return true
		}
		s, ok := stats[pid]
		if !ok {
			return false
		}
		pid = s.parent
	}
	return false
}

// endWithParent is dieWithParent for a daemon, which ends its children then.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

// endGroup kills what is left of a daemon that made a process group of its own.
func endGroup(leader int) { _ = syscall.Kill(-leader, syscall.SIGKILL) } // usually nothing is left

// syncData makes what was written durable, and of the file's own data only what
// is needed to read it.
func syncData(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("bench: fdatasync: %w", err)
	}
	return nil
}

// dropCaches empties the page cache of the machine; it needs root.
func dropCaches() error {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("bench: emptying the page cache: %w", err)
	}
	return nil
}
