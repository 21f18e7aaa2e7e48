package spool_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestMemorySetFull(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	e := store(sp, "before")
	w, err := sp.Create(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "staged ")
	staged := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-"}

	other := sp.Attach()
	drain(other)
	sp.SetFull(true)
	<-other.Changed() // Health changed
	full := func(doing string, err error) {
		t.Helper()
		if !errors.Is(err, spool.ErrFull) {
			t.Errorf("%s on a full spool: got %v, want ErrFull", doing, err)
		}
	}
	full("Health", other.Health())
	_, err = sp.Create(ctx, 0)
	full("Create", err)
	n, err := io.WriteString(w, "more")
	full("Write", err)
	if n != 0 {
		t.Errorf("Write on a full spool: wrote %d bytes", n)
	}
	full("Commit", w.Commit(ctx, staged))
	full("Insert onto a stored body", errors.Join(sp.Apply(ctx, spool.Unit{{Op: spool.Insert, Entry: &spool.Entry{
		ID: spool.NewID(), Body: e.Body, Queue: "inbox", Class: "-",
	}}})...))
	moved := e.Clone()
	moved.Body = w.ID()
	full("Update that brings a body", errors.Join(sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: moved, Stage: w}})...))

	if errs := sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: e, Keep: true}}); errs != nil {
		t.Errorf("Update on a full spool: %v; it uses reserved space", errs)
	}
	if errs := sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
		t.Errorf("Remove on a full spool: %v; it uses reserved space", errs)
	}

	drain(other)
	sp.SetFull(false)
	<-other.Changed()
	if err := other.Health(); err != nil {
		t.Errorf("Health when there is room again: %v", err)
	}
	if _, err := io.WriteString(w, "more"); err != nil {
		t.Errorf("Write when there is room again: %v", err)
	}
	if err := w.Commit(ctx, staged); err != nil || staged.Size != int64(len("staged more")) {
		t.Errorf("Commit when there is room again: %v, size %d", err, staged.Size)
	}
}

func drain(m *spool.Memory) {
	select {
	case <-m.Changed():
	default:
	}
}

func TestMemoryFailSync(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	other := sp.Attach()
	e, mine := store(sp, "of sp"), store(other, "of other")

	sp.FailSync()
	if errs := other.Apply(ctx, spool.Unit{{Op: spool.Release, Entry: mine}}); errs != nil {
		t.Fatalf("Release, which need not be durable, failed: %v", errs)
	}
	stale := e.Clone()
	stale.Rev++
	errs := sp.Apply(ctx,
		spool.Unit{{Op: spool.Remove, Entry: stale}}, // never reaches the disk
		spool.Unit{{Op: spool.Remove, Entry: e}},
		spool.Unit{{Op: spool.Release, Entry: e}})
	if len(errs) != 3 || !errors.Is(errs[0], spool.ErrFenced) || errs[1] != spool.ErrFailed || errs[2] != spool.ErrFailed {
		t.Fatalf("Apply with a failing sync: got %v, want fenced, failed, failed", errs)
	}
	for name, m := range map[string]*spool.Memory{"the one": sp, "the other": other, "a new one": sp.Attach()} {
		if err := m.Health(); !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Health of %s value after a failed sync: got %v", name, err)
		}
		_, err := m.Open(ctx, e.Body)
		if !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Open on %s value after a failed sync: got %v", name, err)
		}
	}

	sp = sp.Reopen()
	if err := sp.Health(); err != nil {
		t.Errorf("Health after Reopen: %v", err)
	}
	if err := other.Health(); !errors.Is(err, spool.ErrFailed) {
		t.Errorf("Health of the other value after Reopen of this one: got %v, want ErrFailed until it is opened anew", err)
	}
	if n := claimed(t, sp); n != 2 {
		t.Errorf("claimed %d entries after Reopen, want 2", n)
	}
	if err := other.Reopen().Health(); err != nil {
		t.Errorf("Health of the other after its Reopen: %v", err)
	}
}

// claimed claims what is due and returns how many that were.
func claimed(t *testing.T, m *spool.Memory) int {
	t.Helper()
	entries, _, err := m.Claim(context.Background(), spool.ClaimRequest{Due: time.Now(), Limit: 1000})
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return len(entries)
}

func TestMemorySetDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		e := store(sp, "Hello.")
		sp.SetDelay(3 * time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		errs := sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: e, Keep: true}})
		if took := time.Since(start); errs != nil || took != 3*time.Second {
			t.Errorf("Apply whose context ends once it was taken up: got %v after %v, want nil after 3s", errs, took)
		}
		errs = sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: e, Keep: true}})
		if took := time.Since(start); len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("Apply under a context that is done: got %v after %v, want its error at once", errs, took-3*time.Second)
		}

		start = time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { store(sp, "Hello.") })
		}
		wg.Wait()
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("ten commits side by side took %v, want 3s", took)
		}
	})
}

func TestMemoryCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		e := store(sp, "Hello.")
		sp.SetDelay(3 * time.Second)
		var errs []error
		var wg sync.WaitGroup
		wg.Go(func() { errs = sp.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}) })
		synctest.Wait()
		start := time.Now()
		if err := sp.Close(); err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("Close beside an Apply that was taken up: got %v after %v, want nil after 3s", err, time.Since(start))
		}
		wg.Wait()
		if errs != nil {
			t.Errorf("Apply that was taken up before Close: %v", errs)
		}
		if n := claimed(t, sp.Reopen()); n != 0 {
			t.Errorf("%d entries after the last was removed", n)
		}
	})
}

// What breaks the spool while an Apply waits decides what that answers, and
// nothing of it has happened.
func TestMemoryBreaksInFlight(t *testing.T) {
	tests := []struct {
		name string
		how  func(sp *spool.Memory) (after *spool.Memory)
		want error
	}{
		{"Crash", (*spool.Memory).Crash, spool.ErrClosed},
		{"LoseSession", func(sp *spool.Memory) *spool.Memory { sp.LoseSession(); return sp.Attach() }, spool.ErrFenced},
		{"Crash during Close", func(sp *spool.Memory) *spool.Memory {
			go sp.Close()
			synctest.Wait()
			return sp.Crash()
		}, spool.ErrClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sp := spool.NewMemory()
				e := store(sp, "Hello.")
				sp.SetDelay(time.Second)
				var err error
				var wg sync.WaitGroup
				wg.Go(func() { err = errors.Join(sp.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}})...) })
				synctest.Wait()
				after := test.how(sp)
				if n := claimed(t, after); n != 1 {
					t.Errorf("%d entries could be claimed at once, want 1", n)
				}
				wg.Wait()
				if !errors.Is(err, test.want) {
					t.Errorf("the Apply in flight: got %v, want %v", err, test.want)
				}
			})
		})
	}
}

func TestMemoryCrash(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	kept, released := store(sp, "kept"), store(sp, "released")
	sp.Started(kept.ID, released.ID)
	sp.Apply(ctx, spool.Unit{{Op: spool.Release, Entry: released}})
	other := sp.Attach()
	if n := claimed(t, other); n != 1 {
		t.Fatalf("the other claimed %d entries, want what was released", n)
	}
	w, err := sp.Create(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}

	next := sp.Crash()
	if _, err := io.WriteString(w, "x"); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Write after the crash: got %v, want ErrClosed", err)
	}
	if err := w.Commit(ctx, &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "q", Class: "-"}); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Commit after the crash: got %v, want ErrClosed", err)
	}
	if err := sp.Close(); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Close after the crash: got %v, want ErrClosed", err)
	}
	want := map[spool.ID]int{kept.ID: 1, released.ID: 0} // the other owns that
	for e, err := range next.Scan(ctx, spool.Query{}) {
		if err != nil || e.Interrupted != want[e.ID] {
			t.Errorf("entry %s after the crash: %v, Interrupted %d, want %d", e.ID, err, e.Interrupted, want[e.ID])
		}
	}
	again := sp.Crash() // only what Reopen does
	if n := claimed(t, again); n != 1 {
		t.Errorf("claimed %d entries, want the one that the dead one kept", n)
	}
}

func TestMemoryLoseSession(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	other := sp.Attach()
	e := store(sp, "Hello.")
	sp.Started(e.ID)
	w, err := sp.Create(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	drain(sp)
	drain(other)
	sp.LoseSession()
	<-sp.Changed()
	<-other.Changed()

	fenced := func(doing string, err error) {
		t.Helper()
		if !errors.Is(err, spool.ErrFenced) {
			t.Errorf("%s after the session was lost: got %v, want ErrFenced", doing, err)
		}
	}
	fenced("Health", sp.Health())
	_, err = sp.Create(ctx, 0)
	fenced("Create", err)
	_, err = io.WriteString(w, "x")
	fenced("Write", err)
	fenced("Commit", w.Commit(ctx, &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "q", Class: "-"}))
	fenced("Remove", errors.Join(sp.Apply(ctx, spool.Unit{{Op: spool.Remove, Entry: e}})...))
	_, _, err = sp.Claim(ctx, spool.ClaimRequest{Due: time.Now(), Limit: 1})
	fenced("Claim", err)
	if body, err := sp.Open(ctx, e.Body); err != nil || body.Size() != 6 {
		t.Errorf("Open after the session was lost: got %v, want to read on", err)
	}
	if err := other.Health(); err != nil {
		t.Errorf("Health of the other: %v", err)
	}
	if n := claimed(t, other); n != 1 {
		t.Errorf("the other claimed %d entries, want 1", n)
	}
	sp.FailSync() // a lost session stays one
	if err := sp.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := claimed(t, sp.Reopen()); n != 0 {
		t.Errorf("claimed %d entries that another owns", n)
	}
}

func TestMemoryDamage(t *testing.T) {
	ctx := t.Context()
	sp := spool.NewMemory()
	e := store(sp, "Hello.")
	for _, bad := range []error{sp.Damage(e.Body, "entry"), sp.Damage(e.ID, "body")} {
		if !errors.Is(bad, spool.ErrNotFound) {
			t.Errorf("Damage of what is not stored: got %v, want ErrNotFound", bad)
		}
	}
	if err := sp.Damage(e.ID, "header"); err == nil || !strings.Contains(err.Error(), `"header"`) {
		t.Errorf("Damage of a part that there is not: got %v", err)
	}

	body, err := sp.Open(ctx, e.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := sp.Damage(e.Body, "body"); err != nil {
		t.Fatal(err)
	}
	var corrupt *spool.CorruptError
	if _, err := io.ReadAll(body); !errors.As(err, &corrupt) {
		t.Errorf("Read of a body that was damaged while it is open: got %v", err)
	}
	if _, err := io.Copy(io.Discard, body); !errors.As(err, &corrupt) {
		t.Errorf("Copy of a body that was damaged while it is open: got %v", err)
	}

	// Its owner may replace a damaged entry.
	if err := sp.Damage(e.ID, "entry"); err != nil {
		t.Fatal(err)
	}
	if errs := sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: e}}); errs != nil {
		t.Fatalf("Update of a damaged entry by its owner: %v", errs)
	}
	if n := claimed(t, sp); n != 1 {
		t.Errorf("claimed %d entries after the damaged one was replaced, want 1", n)
	}
}

func TestMemoryClosedBody(t *testing.T) {
	sp := spool.NewMemory()
	body, err := sp.Open(t.Context(), store(sp, "Hello.").Body)
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	if _, err := body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close: got %v, want an error", err)
	}
	if _, err := body.Seek(0, io.SeekStart); err == nil {
		t.Error("Seek after Close: got no error")
	}
}
