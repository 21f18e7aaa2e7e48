package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// For what there are not enough slots Keep stores before it answers.
func TestKeepWithoutSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil },
			setup{opts: Options{Configure: func(string) Config { return Config{Concurrency: 2} }}})
		w.accept("a@example.com")
		one, _ := w.keep("b@example.com")
		if n := w.ledger.insertions(); n != 0 {
			t.Errorf("%d messages were stored although there are slots", n)
		}
		two, _ := w.keep("c@example.com", "d@example.com")
		if n := w.ledger.insertions(); n != 2 {
			t.Errorf("%d messages were stored, want the two of which only one has a slot", n)
		}
		one.HandOver()
		two.HandOver()
	})
}

// At a stop everything that is in memory is stored, and found afterwards.
func TestKeepStop(t *testing.T) {
	tests := []struct {
		name    string
		handler Handler
		free    int // entries that nobody owns after the stop
	}{
		{"waits for its context", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil }, 3},
		{"does not return", func(context.Context, *Message) error { time.Sleep(time.Hour); return nil }, 1},
		{"fails meanwhile", func(context.Context, *Message) error { time.Sleep(time.Second); return errors.New("down") }, 3},
		{"rejects meanwhile", func(context.Context, *Message) error { time.Sleep(time.Second); return Reject(550, "no") }, 1},
		{"succeeds meanwhile", func(context.Context, *Message) error { time.Sleep(time.Second); return nil }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := startKept(t, tt.handler, setup{})
				w.accept("a@example.com", "b@example.com")
				between, _ := w.keep("c@example.com")
				w.stop()
				synctest.Wait()
				if n := w.ledger.insertions(); n != 3 {
					t.Errorf("%d messages were stored, want 3", n)
				}
				between.HandOver()
				begin := time.Now()
				if err := w.shutdown(); err != nil {
					t.Fatalf("Run: %v", err)
				}
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("the stop took %v, want at most StopTimeout", took)
				}
				free, _, err := w.sp.Claim(t.Context(), spool.ClaimRequest{Due: time.Now().Add(time.Hour), Limit: 10})
				if err != nil || len(free) != tt.free {
					t.Errorf("%d messages can be claimed, %v; want %d", len(free), err, tt.free)
				}
				time.Sleep(2 * time.Hour) // until what was abandoned has returned
				synctest.Wait()
				w.restartAndWantEnds(3)
			})
		})
	}
}

// restartAndWantEnds has the next process end what this one has left.
func (w *keptWorld) restartAndWantEnds(want int) {
	w.t.Helper()
	w2 := startKept(w.t, func(context.Context, *Message) error { return nil }, setup{sp: w.sp.Reopen()})
	time.Sleep(time.Hour)
	synctest.Wait()
	types := w.types() + " " + w2.types()
	if n := strings.Count(types, "Delivery") + strings.Count(types, "Bounce"); n != want {
		w.t.Errorf("records %s, want one end of each of %d messages", types, want)
	}
	if n := len(w2.entries()); n != 0 {
		w.t.Errorf("%d entries are left", n)
	}
}

// A body that was stored at a stop before its Transaction is handed over.
func TestKeepHandOverAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { return nil }, setup{})
		between, _ := w.keep("a@example.com", "b@example.com")
		if err := w.shutdown(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		between.HandOver()
		between.Abort()
		w.restartAndWantEnds(2)
	})
}

// A spool that has room again by the time of a stop is asked once more within
// it, however short the stop is and however long the spool was full.
func TestKeepStopSoonAfterFull(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler Handler
	}{
		{"a job waits", func(context.Context, *Message) error { return errors.New("down") }},
		{"no job waits", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := startKept(t, tt.handler, setup{opts: Options{StopTimeout: 2 * time.Second,
					Configure: func(string) Config { return Config{Concurrency: 1} }}})
				first, _ := w.keep("a@example.com")
				second, _ := w.keep("b@example.com")
				w.sp.SetFull(true)
				first.HandOver()
				second.HandOver()
				time.Sleep(time.Minute + 500*time.Millisecond)
				w.sp.SetFull(false)
				if err := w.shutdown(); err != nil || w.ledger.insertions() != 2 {
					t.Errorf("Run: %v, %d messages stored; want nil and 2", err, w.ledger.insertions())
				}
			})
		})
	}
}

// Run says how many messages it could not store, and why.
func TestKeepNotSaved(t *testing.T) {
	tests := []struct {
		name  string
		fault func(m *spool.Memory)
		stop  bool // the host stops; else the fault ends Run
		want  error
	}{
		{name: "full", fault: func(m *spool.Memory) { m.SetFull(true) }, stop: true, want: spool.ErrFull},
		{name: "failed", fault: (*spool.Memory).FailSync, want: spool.ErrFailed},
		{name: "session lost", fault: (*spool.Memory).LoseSession, want: spool.ErrFenced},
		{name: "slow", fault: func(m *spool.Memory) { m.SetDelay(time.Hour) }, stop: true, want: ErrNotSaved},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cancelled atomic.Int32
				w := startKept(t, func(ctx context.Context, m *Message) error {
					<-ctx.Done()
					cancelled.Add(1)
					return nil
				}, setup{})
				w.accept("a@example.com", "b@example.com")
				between, _ := w.keep("c@example.com")
				tt.fault(w.sp)
				if !tt.stop {
					_, _ = w.sched.Submit(t.Context(), spool.Envelope{Recipients: []spool.Recipient{{Address: "d@example.com"}}}, nil, strings.NewReader(mail))
					time.Sleep(time.Minute)
				}
				begin := time.Now()
				err := w.shutdown()
				if !errors.Is(err, tt.want) || !errors.Is(err, ErrNotSaved) || !strings.Contains(err.Error(), "3 of them") {
					t.Errorf("Run: %v, want %v and 3 messages not saved", err, tt.want)
				}
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("the stop took %v, want at most StopTimeout", took)
				}
				if n := cancelled.Load(); n != 2 {
					t.Errorf("%d handlers were cancelled, want 2", n)
				}
				between.HandOver()
				between.Abort()
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if types := w.types(); strings.Contains(types, "Delivery") {
					t.Errorf("records %s: a message that was not processed is delivered", types)
				}
			})
		})
	}
}

// A spool that failed may have stored what it did not confirm.
func TestKeepFoundAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { return errors.New("down") }, setup{})
		w.sp.FailSyncKept()
		w.accept("a@example.com")
		if err := w.shutdown(); !errors.Is(err, ErrNotSaved) || !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Run: %v, want ErrFailed and ErrNotSaved", err)
		}
		w.wantTypes("Reception")
		w.restartAndWantEnds(1)
	})
}

// A message that its callback has ended is not among what was not saved.
func TestKeepEndsWithoutSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { time.Sleep(time.Second); return nil }, setup{})
		w.accept("a@example.com")
		w.sp.SetFull(true)
		if err := w.shutdown(); err != nil {
			t.Errorf("Run: %v", err)
		}
		w.wantTypes("Reception Delivery")
	})
}

// A crash loses what is in memory, as documented, and nothing else.
func TestKeepCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		w := startKept(t, func(_ context.Context, m *Message) error {
			if m.Envelope.Recipients[0].Address == "bad@example.com" {
				return errors.New("down")
			}
			<-hang
			return nil
		}, setup{})
		lost := w.accept("a@example.com")
		stored := w.accept("b@example.com", "bad@example.com")
		sp := w.sp.Crash()
		synctest.Wait()
		w2 := startKept(t, func(context.Context, *Message) error { return nil }, setup{sp: sp})
		time.Sleep(time.Hour)
		synctest.Wait()
		ends := map[spool.ID]int{}
		for _, r := range w2.records {
			ends[r.ID]++
		}
		if len(ends) != 2 || ends[stored[0].ID] != 1 || ends[stored[1].ID] != 1 || ends[lost[0].ID] != 0 {
			t.Errorf("ends after the crash: %v, want one of each message that was stored", ends)
		}
		if err := w.shutdown(); !errors.Is(err, ErrNotSaved) { // the ghost of the dead process
			t.Errorf("Run: %v, want ErrNotSaved", err)
		}
	})
}
