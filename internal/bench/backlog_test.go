package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestBacklog(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	asJSON, svg := filepath.Join(files, "backlog.json"), filepath.Join(files, "backlog.svg")
	code, out, errs := runHere(t, "backlog", "-queued", "0,1500", "-size", "1KB", "-workers", "3", "-rounds", "2", "-duration", "30ms",
		"-cold=false", "-dir", dir, "-json", asJSON, "-svg", svg)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rep := readReport(t, asJSON)
	if rep.Backlog == nil || len(rep.Backlog.Rows) != 2 || len(rep.Targets) != 4 || rep.Rounds != 2 {
		t.Fatalf("%+v, targets %+v\n%s", rep.Backlog, rep.Targets, out)
	}
	for _, r := range rep.Backlog.Rows {
		for name, f := range map[string]figure{"killed": r.KilledFirst, "open": r.Open, "first inject": r.First, "heap": r.Heap, "accepting": r.AcceptCPU, "injecting": r.InjectCPU, "rate": r.InjectRate} {
			if f.Rounds != 2 || f.Min <= 0 {
				t.Errorf("%d queued: %s %+v", r.Queued, name, f)
			}
		}
		if r.First.Min < r.Open.Min || r.Files == 0 || (r.HeapEach == nil) != (r.Queued == 0) || (r.Anon.Min > 0) != (r.KilledAnon.Min > 0) || (r.Anon.Min > 0) != (r.Freed.Min > 0) || (r.AcceptToNone == nil) != (r.Queued == 0) {
			t.Errorf("%d queued: %+v", r.Queued, r)
		}
	}
	if strings.Count(out, "\n1500 ") != 3 || !strings.Contains(out, "\nabsent: restarts with a cold page cache: ") || !strings.Contains(errs, "round 2/2") {
		t.Errorf("%s\n%s", out, errs)
	}
	checkSVG(t, svg, 8)
	checkEmpty(t, dir)
}

func TestBacklogTargets(t *testing.T) {
	for _, test := range []struct {
		name           string
		queued         int
		accept, inject float64 // microseconds, of 100 with none
		anon, first    float64
		want           string // of the error; empty: all are met
	}{
		{"all met", 1_000_000, 119, 101, 149e6, 2.9, ""},
		{"fewer", 1000, 119, 101, 149e3, 2.9, ""},
		{"accepting costs more", 1_000_000, 150, 101, 149e6, 2.9, "CPU of accepting, of that with an empty queue: 1.50, want at most 1.20: MISSED: 25% above"},
		{"injecting costs more", 1_000_000, 110, 130, 149e6, 2.9, "CPU of injecting, of that with an empty queue: 1.30"},
		{"memory", 1_000_000, 110, 101, 300e6, 2.9, "bytes of RssAnon per message, garbage collected: 300, want at most 150"},
		{"a slow start, of fewer", 1000, 110, 101, 149e3, 6, "its first inject (of 1000 messages, not of a million): 6.00, want at most 3.00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			one := func(v float64) []float64 { return []float64{v} }
			row := func(queued int, accept, inject, anon, first float64) *backlogRow {
				return &backlogRow{Queued: queued, open: one(first), first: one(first), heap: one(anon), anon: one(1e6 + 3*anon), freed: one(1e6 + anon), file: one(1),
					acceptRate: one(1), injectRate: one(1), acceptCPU: one(accept), injectCPU: one(inject)}
			}
			b := &backlogResult{Rows: []*backlogRow{row(0, 100, 100, 0, 0.1), row(test.queued, test.accept, test.inject, test.anon, test.first)}}
			for _, r := range b.Rows {
				r.sumUp(b.Rows[0])
			}
			err := checkTargets(b.targets())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestBacklogFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-queued", "0"}, {"-queued", "10,20"}, {"-queued", "0,20,10"}, {"-queued", "0,20,20"}, {"-queued", "0,many"}, {"-queued", "0,-1"},
		{"-size", "1KB,2KB"}, {"-workers", "0"}, {"-rounds", "0"}, {"-duration", "0s"},
	} {
		if code, _, errs := runHere(t, append([]string{"backlog"}, args...)...); code == 0 || errs == "" {
			t.Errorf("%q: exit code %d, %q", args, code, errs)
		}
	}
}
