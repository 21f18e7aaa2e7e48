package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestSteady(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "steady.json"), filepath.Join(files, "steady.svg")
	code, out, errs := runHere(t, "steady", "-size", "2KB", "-sessions", "3", "-rounds", "2", "-duration", "300ms",
		"-dir", dir, "-json", asJSON, "-svg", svg, "-profile", filepath.Join(files, "cpu.pprof"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	r := rep.Steady
	if r == nil || r.Accepted.Rounds != 2 || r.Disk.Rounds != 3 || r.Disk.Min <= 0 || len(rep.Targets) != 3 {
		t.Fatalf("%+v, targets %+v\n%s", r, rep.Targets, out)
	}
	if r.Accepted.Min <= 0 || r.CPU.Min <= 0 || r.P50.Min <= 0 || r.P999.Rounds != 2 || r.Max < r.P999.Max || r.Latency.Count() == 0 {
		t.Errorf("%+v", r)
	}
	// What was accepted is removed, but for what is queued: all of it on a machine that is very busy.
	if lost := r.Accepted.Median*r.Seconds - r.Removed.Median*r.Seconds; lost > r.Queued.Max+float64(r.Sessions)+0.2*r.Accepted.Median*r.Seconds {
		t.Errorf("accepted %v, removed %v, queued %v", r.Accepted, r.Removed, r.Queued)
	}
	if len(r.Samples) < 1 || r.Samples[0].Anon == 0 || r.Samples[0].Heap == 0 || r.Samples[0].Disk == 0 {
		t.Errorf("samples %+v", r.Samples)
	}
	for _, want := range []string{"\nthe disk alone, ", "\naccepted ", "\nremoved ", "\nsecond ", "KumoMTA publishes 750 a second"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(errs, "round 2/2") {
		t.Errorf("progress: %s", errs)
	}
	checkSVG(t, svg, 8)
	checkEmpty(t, dir)
}

func TestSteadyTargets(t *testing.T) {
	for _, test := range []struct {
		name                    string
		disk, accepted, removed float64
		queued, device          float64
		want                    string // of the error; empty: all are met
	}{
		{"a fast disk", 8000, 3000, 2900, 100, 1.03, ""},
		{"a slow disk", 1000, 850, 820, 10, 1.03, ""},
		{"a slow disk, too little", 1000, 850, 700, 10, 1.03, "messages a second, accepted and removed (0.8 of what the disk alone can do): 700, want at least 800"},
		{"a fast disk, too little", 8000, 1400, 1400, 10, 1.03, "1400, want at least 1500: MISSED: 7% below"},
		{"bodies written twice", 8000, 3000, 3000, 10, 2.1, "the device wrote per byte received: 2.10, want at most 1.10"},
		{"a device that does not say", 8000, 3000, 3000, 10, 0, "the system does not say"},
		{"a queue that grows", 8000, 3000, 2000, 9000, 1.03, "queued at the end, in seconds of work: 4.50, want at most 1.00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := func(v float64) []float64 { return []float64{v} }
			r := &steadyResult{disk: one(test.disk), accepted: one(test.accepted), removed: one(test.removed), queued: one(test.queued), device: one(test.device)}
			r.sumUp()
			err := checkTargets(r.targets())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestSteadyFlags(t *testing.T) {
	for _, args := range [][]string{{"-size", "1KB,2KB"}, {"-sessions", "0"}, {"-rounds", "0"}, {"-duration", "-1s"}} {
		if code, _, errs := runHere(t, append([]string{"steady"}, args...)...); code == 0 || errs == "" {
			t.Errorf("%q: exit code %d, %q", args, code, errs)
		}
	}
}
