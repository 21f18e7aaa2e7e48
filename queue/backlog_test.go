package queue

import (
	"fmt"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestBacklog(t *testing.T) {
	var b backlog
	b.note("a", 1)
	b.note("b", 2)
	if !b.any() || !b.has("a") || b.has("c") {
		t.Errorf("%+v", b)
	}
	b.settleClass("b", 2)
	b.settle(2)
	if b.has("a") || !b.has("b") {
		t.Errorf("what was noted at 1 is left, or what was at 2 is not: %+v", b)
	}
	b.settleClass("b", 3)
	if b.any() {
		t.Errorf("left: %+v", b)
	}
	for i := range 2 * maxBacklog {
		b.note(fmt.Sprint(i), 4)
	}
	if len(b.classes) > maxBacklog || !b.has("0") || !b.has("another") {
		t.Errorf("%d classes are known one by one, want no more than %d, and all to have a backlog", len(b.classes), maxBacklog)
	}
	b.settle(4)
	b.note("x", 5)
	if !b.has("another") {
		t.Error("what was noted at 4 is void at 4")
	}
	b.settle(5)
	if b.has("another") || !b.has("x") || !b.any() {
		t.Errorf("at 5 left: %v", b)
	}
}

// A claim says nothing of the queues that it has left out.
func TestBacklogOfQueuesLeftOut(t *testing.T) {
	s, err := NewScheduler(spool.NewMemory(), hang, nil)
	if err != nil {
		t.Fatal(err)
	}
	full, open := s.queue("full", hang), s.queue("open", hang)
	for _, q := range []*queueState{full, open} {
		s.noteBacklog(q, "a")
	}
	s.leaveOut(full)
	s.mu.tick++
	if names := s.namesLeftOut(s.mu.tick); len(names) != 1 || names[0] != "full" {
		t.Fatalf("left out: %v, want the full one", names)
	}
	s.noteBacklog(open, "b") // while the claim is under way
	s.settleBacklogs(s.mu.tick, false)
	if !full.backlog.has("a") || open.backlog.has("a") || !open.backlog.has("b") {
		t.Errorf("full %+v, open %+v; want a, and b", full.backlog, open.backlog)
	}
	s.settleBacklogs(s.mu.tick, true) // a plan has seen all
	if full.backlog.any() {
		t.Errorf("full %+v, want nothing", full.backlog)
	}
}
