package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A report is what is written as JSON.
type report struct {
	Command   string            `json:"command"`
	Time      time.Time         `json:"time"`
	Machine   machine           `json:"machine"`
	Disk      string            `json:"file_system,omitempty"` // of -dir
	Versions  map[string]string `json:"versions,omitempty"`    // of other people's servers
	Rounds    int               `json:"rounds"`
	Absent    map[string]string `json:"absent,omitempty"`
	Results   []*result         `json:"results,omitempty"`
	Reception []*receptionRow   `json:"reception,omitempty"`
	Clamp     *clampResult      `json:"clamp,omitempty"`
	Commits   []*commitRow      `json:"commits,omitempty"`
	Scale     *scaleRow         `json:"scale,omitempty"`
	Steady    *steadyResult     `json:"steady,omitempty"`
	Backlog   *backlogResult    `json:"backlog,omitempty"`
	Isolation *isolationResult  `json:"isolation,omitempty"`
	Fairness  *fairnessResult   `json:"fairness,omitempty"`
	Targets   []target          `json:"targets,omitempty"` // of the commands that keep them apart
}

// A machine is where it was measured.
type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Go     string `json:"go"`
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu"`
	Kernel string `json:"kernel"`
	Memory uint64 `json:"memory_bytes,omitempty"` // 0: not known
}

func thisMachine() machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), CPU: "unknown", Kernel: "unknown", Memory: measure.Installed()}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = string(bytes.TrimSpace(data))
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%s/%s, %s, %d CPUs (%s), %s GB of memory, kernel %s", m.OS, m.Arch, m.Go, m.CPUs, m.CPU, known(float64(m.Memory)/(1<<30)), m.Kernel)
}

func newReport(command string, args []string, r *runner) *report {
	rep := &report{
		Command: strings.TrimSpace(command + " " + strings.Join(args, " ")), Time: time.Now().UTC().Truncate(time.Second),
		Machine: thisMachine(), Disk: r.fileSystem, Versions: r.versions, Rounds: r.rounds, Absent: map[string]string{},
	}
	for name, err := range r.absent {
		rep.Absent[name] = err.Error()
	}
	return rep
}

// heading says what was measured where.
func (rep *report) heading(w io.Writer) {
	fmt.Fprintf(w, "bench %s\n%s\n%s\n", rep.Command, rep.Machine, rep.surroundings())
	if rep.Rounds == 1 {
		fmt.Fprintln(w, "1 round: how far apart several would be is not known")
		return
	}
	fmt.Fprintf(w, "%d rounds, in which they take turns: medians ± half the distance of the extremes\n", rep.Rounds)
}

// surroundings names what the figures depend on beside the machine.
func (rep *report) surroundings() string {
	text := "-dir is on " + cmp.Or(rep.Disk, "a file system that is not known")
	if slices.Contains(withoutDisk, rep.Disk) {
		text += ", which has no disk: flushes cost nothing"
	}
	for _, name := range subjectOrder(rep.Versions) {
		text += "; " + name + " " + cmp.Or(rep.Versions[name], "of a version that is not known")
	}
	return text
}

// footer names what is missing.
func (rep *report) footer(w io.Writer) {
	for _, name := range subjectOrder(rep.Absent) {
		fmt.Fprintf(w, "absent: %s: %s\n", name, rep.Absent[name])
	}
}

// writeJSON writes to a file; an empty path means that nobody asked.
func (rep *report) writeJSON(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return fmt.Errorf("bench: the report as JSON: %w", err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
