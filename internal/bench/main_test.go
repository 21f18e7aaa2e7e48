package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// TestMain lets the processes that a test starts be what this program would be.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.ContainsFunc(children(), func(c command) bool { return c.name == os.Args[1] }) {
		main()
	}
	fileSystem = onDisk
	os.Setenv("GORACE", "atexit_sleep_ms=0") // or each process sleeps for a second under the race detector
	os.Exit(m.Run())
}

// onDisk says of all directories that they are on a disk: that of temporary files may not be.
func onDisk(string) (string, error) { return "ext4", nil }

// runHere runs the program in this process and returns what it wrote.
func runHere(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, streams{strings.NewReader(""), &out, &errs})
	return code, out.String(), errs.String()
}

// checkEmpty checks that nothing was left behind.
func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left in the directory of the servers", e.Name())
	}
}

// checkSVG checks that a file is an image with that many lines.
func checkSVG(t *testing.T, path string, lines int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	paths := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s is no XML: %v", path, err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "path" {
			paths++
		}
	}
	if paths != lines || strings.Contains(string(data), "NaN") {
		t.Errorf("%s has %d lines, want %d:\n%s", filepath.Base(path), paths, lines, data)
	}
}

func readReport(t *testing.T, path string) *report {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rep report
	if err := json.Unmarshal(data, &rep); err != nil {
		t.Fatal(err)
	}
	return &rep
}

func TestAccept(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "accept.json"), filepath.Join(files, "accept.svg")
	code, out, errs := runHere(t, "accept", "-quick", "-subjects", "stock,stock-file,memory,boltspool,deferredspool", "-sizes", "1KB",
		"-sessions", "2", "-recipients", "3", "-duration", "10s", "-messages", "8", "-dir", dir, "-json", asJSON, "-svg", svg, "-profiles", files)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if len(rep.Results) != 5 || len(rep.Absent) != 0 || rep.Disk != "ext4" || rep.Machine.Memory != measure.Installed() {
		t.Fatalf("%d results, absent %v, on %q, %d bytes; want 5 and none\n%s", len(rep.Results), rep.Absent, rep.Disk, rep.Machine.Memory, out)
	}
	for _, want := range []string{"\n-dir is on ext4\n1 round: ", deferredSpoolNote, "a round of boltspool had no checkpoint"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "±") {
		t.Errorf("one round has a spread:\n%s", out)
	}
	for _, r := range rep.Results {
		if r.Messages != 8 || r.CPU.Median <= 0 || r.Rate.Median <= 0 || r.P50 <= 0 || r.MaxLatency < r.P50 {
			t.Errorf("%s: %d messages, CPU %+v, rate %+v, p50 %v, max %v", r.Subject, r.Messages, r.CPU, r.Rate, r.P50, r.MaxLatency)
		}
		if bolt := strings.HasSuffix(r.Subject, "spool"); (r.Syncs != nil) != bolt || (r.Checkpoints != nil) != bolt || r.Subject == subjectBoltspool && r.Syncs.Min < 1 {
			t.Errorf("%s: syncs %v, checkpoints %v", r.Subject, r.Syncs, r.Checkpoints)
		}
		if (r.CPUToStock == nil) != (r.Subject == subjectStock) {
			t.Errorf("%s: compared with stock: %v", r.Subject, r.CPUToStock)
		}
		if !strings.Contains(out, "\n"+r.Subject+" ") || !strings.Contains(errs, r.Subject) {
			t.Errorf("%s stands not in the table or not in the progress:\n%s\n%s", r.Subject, out, errs)
		}
	}
	for _, kind := range []string{"", ".allocs", ".block", ".mutex"} {
		if paths, err := filepath.Glob(filepath.Join(files, "boltspool-plain-1KB-2s-3r-*[0-9]"+kind+".pprof")); err != nil || len(paths) != 1 {
			t.Errorf("profiles %q, %v, want one", paths, err)
		}
	}
	checkSVG(t, svg, 2*5)
	checkEmpty(t, dir)
}

func TestReception(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "reception.json"), filepath.Join(files, "reception.svg")
	code, out, errs := runHere(t, "accept", "-reception", "-quick", "-sizes", "20KB", "-sessions", "2",
		"-duration", "10s", "-messages", "6", "-dir", dir, "-json", asJSON, "-svg", svg)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if len(rep.Reception) != len(modes) {
		t.Fatalf("%d rows, want one per mode:\n%s", len(rep.Reception), out)
	}
	for _, row := range rep.Reception {
		if row.Stock.Median <= 0 || row.Library.Median <= 0 || row.Floor <= 0 || row.Target != 0 {
			t.Errorf("%s: stock %+v, library %+v, floor %v, target %v", row.cell, row.Stock, row.Library, row.Floor, row.Target)
		}
		if (row.TLS != nil) != hasTLS(row.Mode) {
			t.Errorf("%s: the cost of TLS is %v", row.cell, row.TLS)
		}
	}
	checkSVG(t, svg, 3*len(modes))
	checkEmpty(t, dir)
}

func TestClamp(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "clamp.json"), filepath.Join(files, "clamp.svg")
	code, out, errs := runHere(t, "clamp", "-rounds", "2", "-rate", "50", "-sessions", "5", "-duration", "400ms", "-median", "30ms", "-p99", "30ms",
		"-stall", "100ms", "-every", "100ms", "-dir", dir, "-json", asJSON, "-svg", svg)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if rep.Clamp == nil || len(rep.Clamp.Rows) != len(variants) || len(rep.Targets) != 2 || rep.Clamp.ToNothing.Rounds != 2 || !strings.Contains(out, "\ntarget ") {
		t.Fatalf("%+v, targets %+v, want %v:\n%s", rep.Clamp, rep.Targets, variants, out)
	}
	for _, row := range rep.Clamp.Rows {
		if row.Messages < 2 || row.Messages > 40 || row.Latency.Count() != uint64(row.Messages) || row.P999.Rounds != 2 || row.P999.Max > row.Max {
			t.Errorf("%s: %d messages, %d latencies, p99.9 %v, max %v", row.Variant, row.Messages, row.Latency.Count(), row.P999, row.Max)
		}
	}
	if inline := rep.Clamp.Rows[0]; inline.Max < 30e3 {
		t.Errorf("no 250 took longer than %s though all callbacks take 30 ms", short(inline.Max))
	}
	checkSVG(t, svg, 2*len(variants))
	checkEmpty(t, dir)
}

// TestLeftOut checks that what is not measured is said.
func TestLeftOut(t *testing.T) {
	code, out, errs := runHere(t, "accept", "-quick", "-subjects", "stock,exim", "-modes", "tls", "-sizes", "1KB", "-sessions", "1",
		"-messages", "2", "-dir", t.TempDir())
	if code != 0 || !strings.Contains(out, "\nabsent: exim, tls: ") || !strings.Contains(out, "\nstock ") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// TestAbsent checks that a program that is not installed is reported and does not
// end the run.
func TestAbsent(t *testing.T) {
	foreignServers["nobody"] = func(context.Context, string, string) (server, error) {
		return nil, fmt.Errorf("looking: %w", &absentError{"nobody is not installed"})
	}
	defer delete(foreignServers, "nobody")
	var progress bytes.Buffer
	r, err := newRunner(t.TempDir(), false, &progress)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	f := &acceptFlags{duration: trialTimeout, messages: 2}
	r.rounds, r.measured, r.warmup = 2, f.measured, f.warmup
	c := cell{modePlain, 1024, 1, 1}
	samples, err := r.run(t.Context(), [][]trial{{{"nobody", c}, {subjectStock, c}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != 2 || samples[0].Subject != subjectStock || samples[1].round != 1 {
		t.Errorf("%d samples, want 2 of stock", len(samples))
	}
	if r.absent["nobody"] == nil || strings.Count(progress.String(), "nobody is absent") != 1 {
		t.Errorf("absent: %v\n%s", r.absent, &progress)
	}
}

// TestFailing checks that what fails is not taken for absent: neither our own
// servers nor those of others, once they are there.
func TestFailing(t *testing.T) {
	fail := errors.New("it is broken")
	ownServers["broken"] = func(*environment) (host, error) { return nil, fail } // in this process alone: the child does not know it
	foreignServers["ill"] = func(context.Context, string, string) (server, error) { return nil, fail }
	defer delete(ownServers, "broken")
	defer delete(foreignServers, "ill")
	for name, say := range map[string]string{"broken": `no server "broken"`, "ill": fail.Error()} {
		dir := t.TempDir()
		r, err := newRunner(dir, false, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		f := &acceptFlags{duration: trialTimeout, messages: 2}
		r.rounds, r.measured, r.warmup = 1, f.measured, f.warmup
		_, err = r.run(t.Context(), [][]trial{{{name, cell{modePlain, 1024, 1, 1}}}})
		if err == nil || !strings.Contains(err.Error(), say) || len(r.absent) != 0 {
			t.Errorf("%s: %v, absent %v", name, err, r.absent)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
		checkEmpty(t, dir)
	}
}

// TestNoDisk checks that nobody judges figures of a disk where there is none.
func TestNoDisk(t *testing.T) {
	fileSystem = func(string) (string, error) { return "tmpfs", nil }
	defer func() { fileSystem = onDisk }()
	for _, args := range []string{"accept -subjects stock,boltspool", "accept -subjects postfix", "clamp", "spool", "steady", "backlog", "isolation", "fairness"} {
		code, _, errs := runHere(t, append(strings.Fields(args), "-check", "-quick", "-dir", t.TempDir())...)
		if code != 1 || !strings.Contains(errs, " is a tmpfs, ") || !strings.Contains(errs, "-dir") {
			t.Errorf("%s: exit code %d: %s", args, code, errs)
		}
	}
	short := []string{"-quick", "-sizes", "1KB", "-sessions", "1", "-messages", "1", "-dir", t.TempDir()}
	code, out, errs := runHere(t, append([]string{"accept", "-subjects", "boltspool"}, short...)...) // what is not checked
	if code != 0 || !strings.Contains(out, "tmpfs, which has no disk") {
		t.Errorf("without -check: exit code %d: %s%s", code, out, errs)
	}
	for _, args := range []string{"accept -subjects stock,memory", "accept -reception -modes bdat"} { // what does not write
		if _, out, errs := runHere(t, append(append(strings.Fields(args), "-check"), short...)...); strings.Contains(errs, "is a tmpfs") || !strings.Contains(out, "\nbench ") && !strings.HasPrefix(out, "bench ") {
			t.Errorf("%s: %s%s", args, out, errs)
		}
	}
}

func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"accept", "-quick", "-subjects", "stock", "-dir", dir}, streams{strings.NewReader(""), &out, &errs})
	if code != 1 || !strings.Contains(errs.String(), context.Canceled.Error()) {
		t.Errorf("exit code %d: %s", code, &errs)
	}
	checkEmpty(t, dir)
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		say  string
	}{
		{"", 2, "usage"},
		{"no", 2, "no command"},
		{"accept -help", 0, "-reception"},
		{"clamp -help", 0, "-stall"},
		{"accept -sizes 3", 2, "no size"},
		{"accept -subjects stock,sendmail", 2, "none of"},
		{"accept -sessions 0", 2, "no number from 1 on"},
		{"accept 4KB", 2, "no flag"},
		{"accept -rounds 0", 1, "must be positive"},
		{"accept -check -subjects stock -sizes 1KB -sessions 1 -recipients 1 -rounds 1 -messages 1", 1, "not measured"},
		{"accept -reception -dir /does/not/exist", 1, "/does/not/exist"},
		{"spool -help", 0, "-entries"},
		{"spool -subjects boltspool,oak", 2, "none of"},
		{"spool -parts all", 2, "none of"},
		{"spool -rounds 0", 1, "must be positive"},
		{"spool -bytes 1KB,2KB", 1, "one size"},
		{"spool -dir /does/not/exist", 1, "/does/not/exist"},
		{"spool -entries 1000000000000", 1, "MB free"},
		{"isolation -help", 0, "-slice"},
		{"isolation -slice 0", 1, "must be positive"},
		{"isolation -dir /does/not/exist", 1, "/does/not/exist"},
		{"fairness -help", 0, "-few"},
		{"fairness -handler 0s", 1, "must be positive"},
		{"fairness -dir /does/not/exist", 1, "/does/not/exist"},
		{"clamp -rate 0", 1, "must be positive"},
		{"clamp -size 1KB,2KB", 1, "one size"},
		{"clamp -p99 1ms", 1, "-p99"},
		{"clamp -every 0", 1, "-every"},
	} {
		if code, out, errs := runHere(t, strings.Fields(tt.args)...); code != tt.code || !strings.Contains(out+errs, tt.say) {
			t.Errorf("bench %s: exit code %d, want %d, and %q in:\n%s%s", tt.args, code, tt.code, tt.say, out, errs)
		}
	}
}
