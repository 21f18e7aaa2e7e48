package boltspool_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A fault is a kind of call that fails with EIO, while a host does something.
type fault struct {
	during string // "opening", "working", "stopping"
	call   string // a system call; "sync" for fsync or fdatasync
	file   string // a kind of file, as fileKind says
}

// A hit is a call of a host that failed.
type hit struct {
	at         time.Time // when the call began
	call, file string
}

// strace returns the command that runs a host and lets a call fail, on these
// paths if there are any. Each thread counts its calls for itself: from is which
// of them fail, as strace has it.
func strace(trace, call, from string, paths []string) []string {
	args := []string{
		"strace", "-f", "--seccomp-bpf", "-y", "-ttt", "-s", "8", "-o", trace, "-e", "signal=none",
		"-e", "trace=" + call, "-e", "inject=" + call + ":error=EIO:when=" + from,
	}
	for _, p := range paths {
		args = append(args, "-P", p)
	}
	return append(args, "--")
}

// readHits returns the calls that strace let fail, on a spool in dir.
func readHits(trace, dir string) (hits []hit, err error) {
	f, err := os.Open(trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	begun := map[string]string{} // by thread: a call whose end has a line of its own
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		thread, line, _ := strings.Cut(lines.Text(), " ")
		line = strings.TrimLeft(line, " ")
		if call, ok := strings.CutSuffix(line, "<unfinished ...>"); ok {
			begun[thread] = call
		}
		if !strings.HasSuffix(line, "(INJECTED)") {
			continue
		}
		if strings.Contains(line, "resumed>") {
			line = begun[thread]
		}
		h, err := parseHit(line, dir)
		if err != nil {
			return nil, err
		}
		hits = append(hits, h)
	}
	return hits, lines.Err()
}

var (
	traceLine  = regexp.MustCompile(`^(\d+)\.(\d{6}) (\w+)\((.*)`)
	tracedFile = regexp.MustCompile(`^\d+<([^>]*)>`) // of a descriptor
	tracedPath = regexp.MustCompile(`"(/[^"]*)"`)    // of calls whose names end in "at"

	// What is written where blocks were written before groups: these begin otherwise.
	tracedZeros = regexp.MustCompile(`^\d+<[^>]*>, \[\{iov_base="(\\0){8}"`)
)

func parseHit(line, dir string) (h hit, err error) {
	m := traceLine.FindStringSubmatch(line)
	if m == nil {
		return h, fmt.Errorf("strace wrote a line that the test does not know: %q", line)
	}
	sec, _ := strconv.ParseInt(m[1], 10, 64)
	usec, _ := strconv.ParseInt(m[2], 10, 64)
	h = hit{at: time.Unix(sec, usec*1000), call: m[3]}
	paths := tracedFile.FindAllStringSubmatch(m[4], 1)
	if strings.HasSuffix(h.call, "at") {
		paths = tracedPath.FindAllStringSubmatch(m[4], 2)
	}
	var kinds []string
	for _, p := range paths {
		kinds = append(kinds, fileKind(dir, p[1]))
	}
	h.file = strings.Join(kinds, " to ")
	if h.call == "pwritev" && tracedZeros.MatchString(m[4]) {
		h.file = "zeros ahead in a " + h.file
	}
	return h, nil
}

var fileKinds = []struct {
	pattern *regexp.Regexp
	kind    string
}{
	{regexp.MustCompile(`^seg/[0-9a-f]{16}\.seg$`), "segment"},
	{regexp.MustCompile(`^seg/spare-\d+$`), "spare"},
	{regexp.MustCompile(`^big/[0-9a-f]{2}$`), "big/xx/"},
	{regexp.MustCompile(`^big/[0-9a-f]{2}/[0-9a-f]{32}$`), "body"},
	{regexp.MustCompile(`^big/stage-[0-9a-f]{32}$`), "staged body"},
}

// fileKind returns what a file or a directory is to the spool in dir.
// Directories end in a slash.
func fileKind(dir, path string) string {
	path, _ = strings.CutSuffix(path, "(deleted)")
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return path
	}
	for _, k := range fileKinds {
		if k.pattern.MatchString(rel) {
			return k.kind
		}
	}
	switch rel {
	case ".":
		return "spool/"
	case "..":
		return "parent/"
	case "seg", "big":
		return rel + "/"
	}
	return rel
}

// filesOf returns paths that fileKind may call so; none if their names are not
// known before they are there.
func filesOf(dir, kind string) (paths []string) {
	switch kind {
	case "segment":
		return segmentPaths(dir)
	case "spare":
		for n := range 300 {
			paths = append(paths, filepath.Join(dir, "seg", fmt.Sprintf("spare-%d", n)))
		}
		return paths
	case "big/xx/":
		for n := range 256 {
			paths = append(paths, filepath.Join(dir, "big", fmt.Sprintf("%02x", n)))
		}
		return paths
	case "spool/":
		return []string{dir}
	case "parent/":
		return []string{filepath.Dir(dir)}
	case "body", "staged body", "":
		return nil
	}
	return []string{filepath.Join(dir, kind)}
}

// segmentPaths returns the segments that are there, and those that may follow.
func segmentPaths(dir string) (paths []string) {
	paths, _ = filepath.Glob(filepath.Join(dir, "seg", "*.seg"))
	last := int64(0)
	for _, p := range paths {
		n, _ := strconv.ParseInt(strings.TrimSuffix(filepath.Base(p), ".seg"), 16, 64)
		last = max(last, n)
	}
	for n := last + 1; n < last+200; n++ {
		paths = append(paths, filepath.Join(dir, "seg", fmt.Sprintf("%016x.seg", n)))
	}
	return paths
}
