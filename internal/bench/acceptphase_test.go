package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "run the tests that need programs of other packages")

func TestPhases(t *testing.T) {
	f, err := parseAccept(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		subject string
		size    int
		want    phase
	}{
		{subjectStock, 4 << 10, phase{Duration: 5 * time.Second}},
		{subjectBoltspool, 4 << 10, phase{Duration: 5 * time.Second, Least: 16385, Longest: 15 * time.Second}}, // a segment and more
		{subjectBoltspool, 100 << 10, phase{Duration: 1200 * time.Millisecond, Least: 656, Longest: 3600 * time.Millisecond}},
		{"postfix", 1 << 20, phase{Duration: 1200 * time.Millisecond}},
		{subjectMemory, 1023 << 10, phase{Duration: 1200 * time.Millisecond, Messages: 512}}, // of 1 MB each
	} {
		if got := f.measured(trial{tt.subject, cell{modePlain, tt.size, 50, 1}}); got != tt.want {
			t.Errorf("%s, %d: %+v, want %+v", tt.subject, tt.size, got, tt.want)
		}
	}
	at := trial{subjectBoltspool, cell{modePlain, 1 << 20, 50, 1}}
	if got := f.warmup(at); got != (phase{Duration: 400 * time.Millisecond, Messages: 64}) {
		t.Errorf("warming up: %+v", got)
	}
	if f, err = parseAccept([]string{"-duration", "1s", "-messages", "7"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got := f.measured(at); got != (phase{Duration: time.Second, Messages: 7}) {
		t.Errorf("with -duration: %+v", got)
	}
}

// TestDefaultRunTime bounds what accept takes by itself, without starting servers.
func TestDefaultRunTime(t *testing.T) {
	f, err := parseAccept(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var all time.Duration
	groups, _ := f.groups()
	for _, group := range groups {
		for _, trial := range group {
			all += time.Duration(f.rounds) * (f.measured(trial).Duration + f.warmup(trial).Duration)
		}
	}
	if all > 20*time.Minute {
		t.Errorf("the default takes %v, and what starting takes comes on top", all)
	}
}

func TestOver(t *testing.T) {
	p := phase{Duration: time.Second, Least: 10, Longest: 3 * time.Second}
	for _, tt := range []struct {
		at   time.Duration
		sent int64
		want bool
	}{
		{0, 100, false}, {time.Second - 1, 100, false}, {time.Second, 10, true}, {time.Second, 9, false}, {3 * time.Second, 9, true},
	} {
		if got := p.over(tt.at, tt.sent); got != tt.want {
			t.Errorf("%d sent at %v: over %v", tt.sent, tt.at, got)
		}
	}
	if p := (phase{Duration: time.Second}); !p.over(time.Second, 1) || p.over(0, 1) {
		t.Error("without a least number it does not end with its time")
	}
}

// TestSegment fills a segment, and what that has the spool do is counted.
func TestSegment(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 250 MB")
	}
	dir := t.TempDir()
	code, out, errs := runHere(t, "accept", "-subjects", "boltspool", "-sizes", "1000KB", "-sessions", "4", "-recipients", "1", "-rounds", "1",
		"-duration", "2m", "-messages", "200", "-dir", dir, "-json", filepath.Join(dir, "accept.json"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, filepath.Join(dir, "accept.json"))
	if r := rep.Results[0]; r.Checkpoints.Min < 1 || r.Syncs.Min < 1 || strings.Contains(out, "had no checkpoint") {
		t.Errorf("checkpoints %+v, syncs %+v\n%s", r.Checkpoints, r.Syncs, out)
	}
}

// TestPostfix measures a real Postfix, and has its load generator send too.
func TestPostfix(t *testing.T) {
	if !*long {
		t.Skip("short form: TestAccept; with -long a real Postfix and smtp-source take part")
	}
	for _, program := range []string{"postfix", "smtp-source"} {
		if _, err := lookProgram(program); err != nil {
			t.Skip(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("Postfix starts as root only")
	}
	dir, err := os.MkdirTemp("", "bench-postfix-") // the user of Postfix cannot enter that of the test
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	asJSON := filepath.Join(t.TempDir(), "accept.json")
	code, out, errs := runHere(t, "accept", "-smtp-source", "-subjects", "stock,boltspool,postfix", "-sizes", "4KB,100KB", "-sessions", "3", "-recipients", "2",
		"-rounds", "2", "-duration", "2m", "-messages", "30", "-dir", dir, "-json", asJSON)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if len(rep.Results) != 6 || len(rep.Absent) != 0 || rep.Versions["postfix"] == "" || !strings.Contains(out, "; postfix "+rep.Versions["postfix"]+"\n") {
		t.Fatalf("%d results, absent %v, versions %v\n%s", len(rep.Results), rep.Absent, rep.Versions, out)
	}
	for _, r := range rep.Results {
		if r.Messages != 60 || r.CPU.Min <= 0 || r.SourceRate == nil || r.SourceRate.Min <= 0 || r.SourceCPU.Rounds != 2 || (r.RateToPostfix == nil) != (r.Subject == "postfix") {
			t.Errorf("%s: %+v", r.Subject, r)
		}
	}
	checkEmpty(t, dir)
}

// TestQuick checks what -quick shortens, and that other flags win.
func TestQuick(t *testing.T) {
	quick := []string{"-quick"}
	a, err := parseAccept(quick, io.Discard)
	if err != nil || a.rounds != 1 || a.duration != quickDuration || a.sizes.String() != "4KB,100KB" || a.sessions.String() != "50" || a.recipients.String() != "1" {
		t.Errorf("accept: %+v, %v", a, err)
	}
	a, err = parseAccept([]string{"-quick", "-reception"}, io.Discard)
	if err != nil || a.rounds != 1 || a.duration != quickDuration || a.sizes.String() != "4KB,100KB,1MB" || len(a.modes.values) != len(modes) {
		t.Errorf("accept -reception: %+v, %v", a, err)
	}
	a, err = parseAccept([]string{"-quick", "-rounds", "4", "-duration", "2s", "-sizes", "1MB", "-sessions", "7", "-recipients", "3"}, io.Discard)
	if err != nil || a.rounds != 4 || a.duration != 2*time.Second || a.sizes.String() != "1MB" || a.sessions.String() != "7" || a.recipients.String() != "3" {
		t.Errorf("accept with flags: %+v, %v", a, err)
	}
	c, err := parseClamp(quick, io.Discard)
	if err != nil || c.rounds != 1 || c.duration != 5*time.Second || c.callback.Stall != 2*time.Second || c.callback.Every != 2*time.Second {
		t.Errorf("clamp: %+v, %v", c, err)
	}
	s, err := parseSpool(quick, io.Discard)
	if err != nil || s.rounds != 1 || s.duration != 500*time.Millisecond || s.entries != 100_000 || s.committers.String() != "1,50" || s.sizes.String() != "4KB,100KB" {
		t.Errorf("spool: %+v, %v", s, err)
	}
	st, err := parseSteady(quick, io.Discard)
	if err != nil || st.rounds != 1 || st.duration != 6*time.Second {
		t.Errorf("steady: %+v, %v", st, err)
	}
	b, err := parseBacklog(quick, io.Discard)
	if err != nil || b.rounds != 2 || b.duration != 300*time.Millisecond || b.queued.String() != "0,20000" {
		t.Errorf("backlog: %+v, %v", b, err)
	}
	i, err := parseIsolation(quick, io.Discard)
	if err != nil || i.rounds != 3 || i.messages != 500 {
		t.Errorf("isolation: %+v, %v", i, err)
	}
	fa, err := parseFairness(quick, io.Discard)
	if err != nil || fa.rounds != 3 || fa.entries != 100_000 {
		t.Errorf("fairness: %+v, %v", fa, err)
	}
}
