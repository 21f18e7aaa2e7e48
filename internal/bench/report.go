package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// A report is what is written as JSON.
type report struct {
	Command   string            `json:"command"`
	Time      time.Time         `json:"time"`
	Machine   machine           `json:"machine"`
	Rounds    int               `json:"rounds"`
	Absent    map[string]string `json:"absent,omitempty"`
	Results   []*result         `json:"results,omitempty"`
	Reception []*receptionRow   `json:"reception,omitempty"`
	Clamp     []*clampRow       `json:"clamp,omitempty"`
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
}

func thisMachine() machine {
	m := machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), CPU: "unknown", Kernel: "unknown"}
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
	return fmt.Sprintf("%s/%s, %s, %d CPUs (%s), kernel %s", m.OS, m.Arch, m.Go, m.CPUs, m.CPU, m.Kernel)
}

func newReport(command string, args []string, r *runner) *report {
	rep := &report{
		Command: strings.TrimSpace(command + " " + strings.Join(args, " ")), Time: time.Now().UTC().Truncate(time.Second),
		Machine: thisMachine(), Rounds: r.rounds, Absent: map[string]string{},
	}
	for name, err := range r.absent {
		rep.Absent[name] = err.Error()
	}
	return rep
}

// heading says what was measured where.
func (rep *report) heading(w io.Writer) {
	fmt.Fprintf(w, "bench %s\n%s\n%d rounds, in which they take turns: medians ± half the distance of the extremes\n",
		rep.Command, rep.Machine, rep.Rounds)
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
