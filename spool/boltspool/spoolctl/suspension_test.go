package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
)

// What a scheduler notes about a suspended queue is no message.
func TestSuspensions(t *testing.T) {
	if suspensions != queue.Suspensions {
		t.Errorf("the name is %q here, and %q in package queue", suspensions, queue.Suspensions)
	}
	dir := filepath.Join(tempDir(t), "spool")
	sp := openSpool(t, dir)
	sched, err := queue.NewScheduler(sp, func(context.Context, *queue.Message) error { return nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.Admin().Suspend(t.Context(), "example.net", queue.SuspendOptions{Reason: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list", dir, "-json"}, {"queues", dir, "-json"}} {
		if r := call(t, args...); r.code != exitFine || r.out != "" {
			t.Errorf("%s: %d, %s%s", args[0], r.code, r.out, r.errors)
		}
	}
	to := filepath.Join(tempDir(t), "out")
	if r := call(t, "export", dir, "-to", to, "-older", "0s"); r.code != exitFine || !strings.HasPrefix(r.out, "0 ") {
		t.Errorf("export: %d, %s%s", r.code, r.out, r.errors)
	}
	if r := call(t, "list", dir, "-json", "-queue", queue.Suspensions); strings.Count(r.out, "\n") != 1 || !strings.Contains(r.out, "maintenance") {
		t.Errorf("with -queue: %s", r.out)
	}
}
