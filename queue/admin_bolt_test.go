package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// On the embedded spool, too, a suspension survives a restart, and operators act on
// what is there.
func TestAdminOnBolt(t *testing.T) {
	dir := t.TempDir()
	var calls atomic.Int32
	inject := func(context.Context, *queue.Message) error {
		calls.Add(1)
		return nil
	}
	h := startBolt(t, dir, inject)
	h.awaitRun()
	if err := h.sched.Admin().Suspend(t.Context(), queue.Deferred, queue.SuspendOptions{Reason: "broken"}); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		h.keep(100, "bob@example.com")
	}
	h.keep(100, "ann@example.net")
	if err := h.close(); err != nil {
		t.Fatal(err)
	}

	h = startBolt(t, dir, inject)
	h.awaitRun()
	admin := h.sched.Admin()
	list, err := admin.Suspensions(t.Context())
	if err != nil || len(list) != 1 || list[0].Queue != queue.Deferred || time.Since(list[0].Since) > time.Hour {
		t.Errorf("suspended: %+v, %v", list, err)
	}
	if st := h.sched.Stats(); st.Scheduled != 301 || st.Held != 0 || len(st.Queues) != 1 {
		t.Errorf("counted %+v", st)
	}
	r, err := admin.Bounce(t.Context(), queue.Filter{Domain: "example.com"}, "why")
	if err != nil || r.Done != 300 || r.RunningHere+r.OwnedElsewhere+r.Failed != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	infos, err := admin.List(t.Context(), queue.Filter{}, spool.ID{}, 0)
	if err != nil || len(infos) != 1 || !infos[0].Suspended {
		t.Errorf("listed %+v, %v", infos, err)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d calls while the queue is suspended", n)
	}
	if err := admin.Resume(t.Context(), queue.Deferred); err != nil {
		t.Error(err)
	}
	h.await(queue.Delivery, 1)
	if err := admin.Resume(t.Context(), queue.Deferred); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("resumed twice: %v", err)
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
}
