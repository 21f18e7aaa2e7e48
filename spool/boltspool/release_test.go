package boltspool

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// releaseUnits returns a unit for each entry that releases it.
func releaseUnits(entries ...*spool.Entry) (units []spool.Unit) {
	for _, e := range entries {
		units = append(units, spool.Unit{{Op: spool.Release, Entry: e}})
	}
	return units
}

// TestReleaseMeanwhile: to release an entry does not wait for the sync that is under
// way, unless that is the one of a change of this entry.
func TestReleaseMeanwhile(t *testing.T) {
	s, setHook := newHooked(t)
	defer s.Close()
	free, changed := storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
	syncing, goOn := make(chan struct{}), make(chan struct{})
	setHook(func(op, _ string) error {
		if op == "datasync" {
			syncing <- struct{}{}
			<-goOn
		}
		return nil
	})
	next := changed.Clone()
	next.Attempts++
	updated := make(chan []error, 1)
	go func() {
		updated <- s.Apply(context.Background(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
	}()
	<-syncing
	setHook(func(string, string) error { return nil })

	if errs := s.Apply(t.Context(), releaseUnits(free)...); errs != nil {
		t.Fatalf("Release during a sync: %v", errs)
	}
	select {
	case <-s.Changed():
	default:
		t.Error("Changed got no hint")
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 10})
	if err != nil || len(got) != 1 || got[0].ID != free.ID {
		t.Fatalf("claimed %v, error %v, want what was released", got, err)
	}

	released := make(chan []error, 1)
	go func() { released <- s.Apply(context.Background(), releaseUnits(got[0], changed, free)...) }()
	for pending := 0; pending == 0; pending, _ = s.inbox.state() {
		select {
		case errs := <-released:
			t.Fatalf("Release of what is being updated did not wait: %v", errs)
		case <-time.After(time.Millisecond):
		}
	}
	close(goOn)
	if errs := <-updated; errs != nil {
		t.Errorf("Update: %v", errs)
	}
	errs := <-released
	if len(errs) != 3 || errs[0] != nil || !errors.Is(errs[1], spool.ErrFenced) || !errors.Is(errs[2], spool.ErrFenced) {
		t.Errorf("Release after an Update, and twice: %v, want nil and two times ErrFenced", errs)
	}
	if errs := s.Apply(t.Context(), releaseUnits(next)...); errs != nil {
		t.Errorf("Release at the new revision: %v", errs)
	}
}

// TestReleaseMixed: units that release, and others, in one call; each has its own
// outcome, in their order.
func TestReleaseMixed(t *testing.T) {
	s := newTest(t, nil)
	defer s.Close()
	var e []*spool.Entry
	for range 4 {
		e = append(e, storeOne(t, s, noise(10)))
	}
	stale := e[1].Clone()
	stale.Rev++
	units := append(releaseUnits(e[0], stale),
		spool.Unit{{Op: spool.Remove, Entry: e[2]}},
		spool.Unit{{Op: spool.Release, Entry: e[1]}, {Op: spool.Release, Entry: e[1]}},
		spool.Unit{{Op: spool.Release, Entry: nil}},
		spool.Unit{{Op: spool.Release, Entry: e[1]}, {Op: spool.Release, Entry: e[3]}},
		spool.Unit{})
	errs := s.Apply(t.Context(), units...)
	want := []bool{true, false, true, false, false, true, true}
	if len(errs) != len(want) {
		t.Fatalf("errors: %v", errs)
	}
	for i, ok := range want {
		if (errs[i] == nil) != ok {
			t.Errorf("unit %d: %v, want success %v", i, errs[i], ok)
		}
	}
	if !errors.Is(errs[1], spool.ErrFenced) {
		t.Errorf("at a wrong revision: %v, want ErrFenced", errs[1])
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 10})
	if err != nil || len(got) != 3 {
		t.Errorf("claimed %d, error %v, want the three that were released", len(got), err)
	}
}

// TestReleaseMany: very many in one call, more than are released while others wait.
func TestReleaseMany(t *testing.T) {
	s := newTest(t, nil)
	defer s.Close()
	var entries []*spool.Entry
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 5*publishPart/2 + 1 {
		entries = append(entries, testEntry(w.ID()))
	}
	if err := w.Commit(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	at := 2*publishPart + 3
	entries[at].Rev++
	errs := s.Apply(t.Context(), releaseUnits(entries...)...)
	for i, err := range errs {
		if (err != nil) != (i == at) {
			t.Errorf("unit %d: %v", i, err)
		}
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 1000})
	if err != nil || len(got) != len(entries)-1 || len(errs) != len(entries) {
		t.Errorf("claimed %d of %d, error %v, %d errors", len(got), len(entries), err, len(errs))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if errs := s.Apply(ctx, releaseUnits(got[0], got[1])...); len(errs) != 2 || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("after the end of its context: %v", errs)
	}
}
