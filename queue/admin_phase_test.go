package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// idleAdmin is a scheduler on sp that does not run yet.
func idleAdmin(t *testing.T, sp *spool.Memory, opts Options) *Scheduler {
	t.Helper()
	opts.Logger = testLogger(t)
	ok := func(context.Context, *Message) error { return nil }
	s, err := NewScheduler(sp, ok, &opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Handle("*", ok); err != nil {
		t.Fatal(err)
	}
	return s
}

// Before Run every action works, and what it brings about is recorded by Run: in
// order, and before what follows from it.
func TestActionsBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		held := w.put("hold@x.example")
		ids := w.putMany(6)
		w.shutdown()

		var mu sync.Mutex
		var log []string
		s := idleAdmin(t, w.sp.Reopen(), Options{Record: func(_ context.Context, r Record) error {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, r.ID.String()+" "+string(r.Type))
			return nil
		}})
		fresh, err := s.Submit(t.Context(), spool.Envelope{Recipients: []spool.Recipient{{Address: "new@x.example"}}}, nil, strings.NewReader(mail))
		if err != nil {
			t.Fatal(err)
		}
		a := s.Admin()
		act(t, a.Retry, ids[0])
		act(t, a.Hold, ids[1])
		act(t, a.Bounce, ids[2])
		act(t, a.Drop, ids[3])
		act(t, a.Release, held)
		act(t, a.Bounce, fresh[0])
		for name, again := range actions(a) { // what has ended has its outcome
			if r, err := again(t.Context(), Filter{IDs: ids[2:3], States: []spool.State{spool.Final}}, "why"); err != nil || r.Done != 0 || r.Skipped != 1 {
				t.Errorf("%s of what has ended: %+v, %v", name, r, err)
			}
		}
		if r, err := a.Rebind(t.Context(), Filter{IDs: ids[4:5]}, "r", "why", nil); err != nil || r.Done != 1 {
			t.Errorf("Rebind: %+v, %v", r, err)
		}
		if infos, err := a.List(t.Context(), Filter{}, spool.ID{}, 0); err != nil || len(infos) != 8 {
			t.Errorf("%d are listed, %v", len(infos), err)
		}
		if len(log) != 0 {
			t.Errorf("recorded before Run: %s", log)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		mu.Lock()
		log = slices.Clone(log)
		mu.Unlock()
		want := map[spool.ID]string{
			ids[0]: "AdminRebind Delivery", ids[1]: "TransientFailure", ids[2]: "AdminBounce", ids[3]: "AdminBounce",
			ids[4]: "AdminRebind Delivery", ids[5]: "", held: "AdminRebind Delivery", fresh[0]: "Reception AdminBounce",
		}
		for id, types := range want {
			var got []string
			for _, line := range log {
				if of, at, _ := strings.Cut(line, " "); of == id.String() {
					got = append(got, at)
				}
			}
			if strings.Join(got, " ") != types {
				t.Errorf("%s: recorded %s, want %s", id, got, types)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}

		// Afterwards looking still works, and so does suspending; actions say why not.
		if infos, err := a.List(t.Context(), Filter{}, spool.ID{}, 0); err != nil || len(infos) != 2 {
			t.Errorf("after Run %d are listed, %v", len(infos), err)
		}
		if err := a.Suspend(t.Context(), "q", SuspendOptions{Reason: "why"}); err != nil {
			t.Error(err)
		}
		if r, err := a.Bounce(t.Context(), Filter{All: true}, "why"); !errors.Is(err, ErrStopped) || r.Done != 0 {
			t.Errorf("after Run: %+v, %v", r, err)
		}
	})
}

// Records that nobody takes before Run are bounded as all are.
func TestActionsBeforeRunAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		w.putMany(600)
		w.shutdown()
		s := idleAdmin(t, w.sp.Reopen(), Options{RecordBuffer: 300})
		r, err := s.Admin().Hold(t.Context(), Filter{All: true}, "why")
		if !errors.Is(err, ErrRecordsFull) || r.Done != 512 {
			t.Errorf("%+v, %v, want two pages", r, err)
		}
	})
}

// A stop ends an action between pages, waits for it, and leaves nothing half done.
func TestActionWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, sly := startSly(t, setup{})
		w.putMany(600)
		stopped := false
		sly.set(func(units []spool.Unit, do func() []error) []error {
			if units[0][0].Op == spool.Update && len(units) > 1 && !stopped {
				stopped = true
				w.stop()
				time.Sleep(time.Second)
			}
			return do()
		}, nil)
		done := make(chan error)
		var r Result
		go func() {
			var err error
			r, err = w.admin.Drop(t.Context(), Filter{All: true}, "why")
			done <- err
		}()
		if err := <-done; !errors.Is(err, ErrStopped) || r.Done != 256 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := w.shutdown(); err != nil {
			t.Error(err)
		}
		w.wantUnowned()
		if n := len(w.entries()); n != 600-256 {
			t.Errorf("%d are left", n)
		}
	})
}

// A message that is in memory alone and cannot be stored is not lost by an action.
func TestActionOnKeptThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, id := places["kept"](t)
		w.sp.SetFull(true)
		r, err := w.admin.Hold(t.Context(), Filter{IDs: []spool.ID{id}}, "why")
		if err != nil || r.Failed != 1 || !errors.Is(r.Errors[id], spool.ErrFull) {
			t.Errorf("%+v, %v", r, err)
		}
		if infos, err := w.admin.List(t.Context(), Filter{}, spool.ID{}, 0); err != nil || len(infos) != 1 || infos[0].Stored {
			t.Errorf("listed %+v, %v", infos, err)
		}
		w.sp.SetFull(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if types, _ := w.recordsOf(id); len(types) == 0 || types[0] != string(Delivery) {
			t.Errorf("recorded %s, want that its handler was called", types)
		}
	})
}

// A message whose handler runs is left alone, in memory alone or not.
func TestActionOnKeptThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		kw := keptWorld{world: w.world}
		id := kw.accept("block@x.example")[0].ID
		for _, f := range []Filter{{All: true}, {IDs: []spool.ID{id}}} {
			if r, err := w.admin.Drop(t.Context(), f, "why"); err != nil || r.RunningHere != 1 || r.Done+r.OwnedElsewhere+r.Failed+r.Skipped != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}
		d, err := w.admin.Inspect(t.Context(), id)
		if err != nil || d.Place != PlaceRunning || d.Stored || d.Header.Get("X-Trace") != "1" {
			t.Errorf("%+v, %v", d, err)
		}
		w.letGo()
		synctest.Wait()
	})
}

// A recorder that does not take records keeps an action waiting, but not longer than
// its context, and the work goes on as soon as records are taken.
func TestActionRecordsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		ids := w.putMany(2)
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := w.admin.Bounce(ctx, Filter{IDs: ids[:1]}, "why")
		if !errors.Is(err, context.DeadlineExceeded) || r.Done != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if e := w.entry(ids[0]); e == nil || e.State != spool.Final {
			t.Errorf("left %+v", e)
		}
		w.mu.Lock()
		w.refuse = 0
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if types, _ := w.recordsOf(ids[0]); types[len(types)-1] != string(AdminBounce) || w.entry(ids[0]) != nil {
			t.Errorf("recorded %s, left %+v", types, w.entry(ids[0]))
		}
	})
}

// Nothing moves to where it is not worked on, or past the inject callback, unless told.
func TestRebindRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		processed := w.put("fail@x.example")
		new := w.submit("fail@y.example", nil, mail)
		all := Filter{All: true}
		for _, tt := range []struct {
			f      Filter
			target string
			opts   *RebindOptions
		}{
			{all, "", nil}, {all, Suspensions, nil}, {all, Deferred, nil}, {all, Deferred, &RebindOptions{Unprocessed: true}},
			{Filter{Queue: Deferred}, "r", nil}, {Filter{Queue: Deferred}, "r", &RebindOptions{Deferred: true}},
			{all, "", &RebindOptions{Deferred: true}}, {all, Suspensions, &RebindOptions{Deferred: true, Unprocessed: true}},
		} {
			if r, err := w.admin.Rebind(t.Context(), tt.f, tt.target, "why", tt.opts); err == nil {
				t.Errorf("%+v to %q with %+v: %+v", tt.f, tt.target, tt.opts, r)
			}
		}
		r, err := w.admin.Rebind(t.Context(), all, "r", "why", nil)
		if err != nil || r.Done != 1 || r.Failed != 1 || !errors.Is(r.Errors[new], errUnprocessed) {
			t.Errorf("%+v, %v", r, err)
		}
		synctest.Wait()
		r, err = w.admin.Rebind(t.Context(), Filter{IDs: []spool.ID{processed}}, Deferred, "why", &RebindOptions{Deferred: true})
		if err != nil || r.Done != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		synctest.Wait()
		if types, _ := w.recordsOf(processed); strings.Join(types[len(types)-3:], " ") != "AdminRebind Delivery TransientFailure" {
			t.Errorf("the inject callback was not called again: %s", types)
		}
		r, err = w.admin.Rebind(t.Context(), Filter{IDs: []spool.ID{new}}, "r", "why", &RebindOptions{Unprocessed: true})
		if err != nil || r.Done != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		w.wantUnowned()

		bare := start(t, func(context.Context, *Message) error { return nil })
		if _, err := bare.sched.Admin().Rebind(t.Context(), all, "r", "why", nil); err == nil {
			t.Error("a target without a handler is not refused")
		}
	})
}

// Held messages are retried and moved only if they are asked for by state.
func TestHeldOnlyIfAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startAdmin(t, setup{})
		id := w.put("hold@x.example")
		other := w.put("hold@y.example")
		if r, err := w.admin.Retry(t.Context(), Filter{All: true}, "why"); err != nil || r.Done != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		held := []spool.State{spool.Held}
		if r, err := w.admin.Retry(t.Context(), Filter{IDs: []spool.ID{id}, States: held}, "why"); err != nil || r.Done != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if r, err := w.admin.Rebind(t.Context(), Filter{IDs: []spool.ID{other}, States: held}, "r", "why", nil); err != nil || r.Done != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		synctest.Wait()
		w.wantCalls("q hold@x.example", "q hold@y.example", "q hold@x.example", "r hold@y.example")
		// What has ended is nobody's to change, asked for or not.
		if r, err := w.admin.Drop(t.Context(), Filter{States: []spool.State{spool.Final}}, "why"); err != nil || r.Done != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
