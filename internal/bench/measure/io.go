package measure

import (
	"iter"
	"os"
	"strconv"
	"strings"
)

// An IO is what a process has read and written since it began. What is not
// known is 0.
type IO struct {
	Reads, Writes uint64 // system calls, on files and sockets
	Written       uint64 // bytes that are to reach a disk because of it; what goes to a tmpfs does not count
}

// OwnIO returns that of this process (proc(5), /proc/pid/io).
func OwnIO() IO {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return IO{}
	}
	return parseIO(data)
}

func parseIO(data []byte) (io IO) {
	for name, n := range numbers(data) {
		switch name {
		case "syscr":
			io.Reads = n
		case "syscw":
			io.Writes = n
		case "write_bytes":
			io.Written = n
		}
	}
	return io
}

// A Memory is what of a process is in memory, in bytes. What is not known is 0.
type Memory struct {
	Anon uint64 // its own
	File uint64 // pages of files, which belong to the page cache too
}

// OwnMemory returns that of this process (proc(5), /proc/pid/status).
func OwnMemory() Memory {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return Memory{}
	}
	return parseStatus(data)
}

func parseStatus(data []byte) (m Memory) {
	for name, n := range numbers(data) {
		switch name {
		case "RssAnon":
			m.Anon = n << 10
		case "RssFile":
			m.File = n << 10
		}
	}
	return m
}

// numbers yields the names and numbers of lines such as "syscr: 12" and
// "RssAnon:  340 kB"; other lines are left out.
func numbers(data []byte) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err == nil && !yield(name, n) {
				return
			}
		}
	}
}
