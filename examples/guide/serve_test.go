package guide

import (
	"context"
	"log/slog"
	"testing"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// serve runs a host whose queues behind the deferred one deliver at once.
func serve(t *testing.T, inject deferred.Handler, configure func(string) queue.Config, opts *deferred.Options) *deferredtest.Server {
	t.Helper()
	sp := spool.NewMemory()
	t.Cleanup(func() {
		if err := sp.Close(); err != nil {
			t.Error(err)
		}
	})
	sched, err := queue.NewScheduler(sp, inject, &queue.Options{Configure: configure, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.Handle("*", func(context.Context, *deferred.Message) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return deferredtest.Serve(t, sched, opts)
}
