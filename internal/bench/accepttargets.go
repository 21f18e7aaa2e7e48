package main

import "fmt"

// acceptSessions are the sessions in which the targets of accept are measured.
const acceptSessions = 50

const (
	subjectBoltspool     = "boltspool"
	subjectDeferredSpool = "deferredspool"
	subjectMemory        = "memory"
)

// What is wanted of boltspool, as a share of another subject's messages a second.
var acceptTargets = []struct {
	size    int
	subject string
	want    float64
}{
	{4 << 10, subjectStock, 0.9},
	{4 << 10, "postfix", 5},
	{100 << 10, subjectStock, 2},
	{100 << 10, "postfix", 3},
	{1 << 20, subjectStock, 1},
	{1 << 20, "postfix", 1},
}

// fanOutShare is what a message for many recipients may use of CPU beyond what
// stock uses on the same RCPT commands, of that for one.
const fanOutShare = 2

// targets compares what was measured with what is wanted. What was left out, or is
// not installed, is a target that was not measured.
func (rep *report) acceptTargets(samples []*sample) []target {
	var targets []target
	for _, want := range acceptTargets {
		t := target{
			Name: fmt.Sprintf("messages a second, %s, %d sessions, boltspool / %s", formatSize(want.size), acceptSessions, want.subject),
			Want: want.want,
		}
		c := cell{modePlain, want.size, acceptSessions, 1}
		if t.Note = "this run leaves it out"; rep.Absent[want.subject] != "" {
			t.Note = rep.Absent[want.subject]
		}
		t.set(ratio(ofTrial(samples, trial{subjectBoltspool, c}), samples, want.subject, (*sample).rate))
		targets = append(targets, t)
	}
	return append(targets, fanOutTarget(samples))
}

func (t *target) set(f *figure) {
	if f != nil {
		t.Value, t.Note = &f.Median, ""
	}
}

func ofTrial(samples []*sample, t trial) (some []*sample) {
	for _, s := range samples {
		if s.trial == t {
			some = append(some, s)
		}
	}
	return some
}

// fanOutTarget is about one body for 50 recipients.
func fanOutTarget(samples []*sample) target {
	one := cell{modePlain, 100 << 10, acceptSessions, 1}
	many := one
	many.Recipients = 50
	var values []float64
	for _, s := range ofTrial(samples, trial{subjectBoltspool, many}) {
		alone := find(samples, trial{subjectBoltspool, one}, s.round)
		stockMany, stockAlone := find(samples, trial{subjectStock, many}, s.round), find(samples, trial{subjectStock, one}, s.round)
		if alone != nil && stockMany != nil && stockAlone != nil {
			values = append(values, (s.cpu()-(stockMany.cpu()-stockAlone.cpu()))/alone.cpu())
		}
	}
	t := target{
		Name: fmt.Sprintf("CPU, %s, 50 recipients less what RCPTs cost stock / 1 recipient", formatSize(one.Size)),
		Want: fanOutShare, AtMost: true, Note: "this run leaves it out",
	}
	if len(values) > 0 {
		f := figureOf(values)
		t.set(&f)
	}
	return t
}
