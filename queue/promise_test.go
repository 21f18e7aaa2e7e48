package queue

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// storeFor stores a message for these recipients through a Transaction.
func (w *world) storeFor(rcpts ...string) spool.ID {
	w.t.Helper()
	tx, err := w.sched.Begin(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer tx.Abort()
	if _, err := tx.Write([]byte(mail)); err != nil {
		w.t.Fatal(err)
	}
	e := &spool.Entry{ID: spool.NewID()}
	for _, r := range rcpts {
		e.Envelope.Recipients = append(e.Envelope.Recipients, spool.Recipient{Address: r})
	}
	if err := tx.Commit(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	tx.HandOver()
	synctest.Wait()
	return e.ID
}

// wantSorted is wantTypes for messages whose records do not wait for each other.
func (w *world) wantSorted(want string) {
	w.t.Helper()
	types := strings.Fields(w.types())
	slices.Sort(types)
	if got := strings.Join(types, " "); got != want {
		w.t.Errorf("records: %s, want %s", got, want)
	}
}

// A Split passes only those on that have a nil, and nobody if it is malformed.
func TestSplitOfTheWholeMessage(t *testing.T) {
	tests := []struct {
		name    string
		parts   []error
		records string
	}{
		{"all succeed", []error{nil, nil}, "Delivery Delivery Reception"},
		{"one fails", []error{nil, errors.New("down")}, "Delivery Delivery Reception TransientFailure"},
		{"one is dropped", []error{nil, Drop("spam")}, "AdminBounce Delivery Delivery Reception"},
		{"too few", []error{nil}, "Reception TransientFailure"},
		{"too many", []error{nil, nil, nil}, "Reception TransientFailure"},
		{"none", nil, "Reception TransientFailure"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(context.Context, *Message) error { return Split(tt.parts) },
					setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }}})
				w.storeFor("a@example.com", "b@example.com")
				w.wantSorted(tt.records)
			})
		})
	}
}

// The same before the reply, where what is not stored is answered.
func TestInjectSplit(t *testing.T) {
	tests := []struct {
		name    string
		parts   []error
		failure string // "" is accepted
		state   spool.State
		stored  int
	}{
		{"success", []error{nil}, "", spool.Queued, 2},
		{"held", []error{Hold("look")}, "", spool.Held, 2},
		{"dropped", []error{Drop("spam")}, "", 0, 0},
		{"too few", nil, "Split", 0, 0},
		{"too many", []error{nil, nil}, "Split", 0, 0},
		{"rejected", []error{Reject(550, "no")}, "550", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(context.Context, *Message) error { return Split(tt.parts) },
					setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }}})
				synctest.Wait()
				tx, entries := w.begin()
				defer tx.Abort()
				errs := tx.Inject(t.Context(), false, entries...)
				switch {
				case tt.failure == "" && errs != nil:
					t.Errorf("errors %v, want none", errs)
				case tt.failure != "" && (len(errs) != 2 || !strings.Contains(errs[0].Error(), tt.failure)):
					t.Errorf("errors %v, want %q", errs, tt.failure)
				}
				all := w.entries()
				if len(all) != tt.stored {
					t.Fatalf("%d messages are stored, want %d", len(all), tt.stored)
				}
				for _, e := range all {
					if e.State != tt.state {
						t.Errorf("a message is stored %v, want %v", e.State, tt.state)
					}
				}
			})
		})
	}
}

// What a callback wraps is no word of the spool to the client: only a verdict is.
func TestInjectErrorsAreOpaque(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error {
			return errors.Join(spool.ErrTooLarge, spool.ErrClosed)
		})
		synctest.Wait()
		tx, entries := w.begin()
		defer tx.Abort()
		errs := tx.Inject(t.Context(), false, entries...)
		if len(errs) != 2 || errs[0] == nil || errors.Is(errs[0], spool.ErrTooLarge) || errors.Is(errs[0], spool.ErrClosed) {
			t.Errorf("errors %v, want a failure that is not the spool's", errs)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var none *RejectError
		w := start(t, func(context.Context, *Message) error { return none })
		synctest.Wait()
		tx, entries := w.begin()
		defer tx.Abort()
		errs := tx.Inject(t.Context(), false, entries...)
		if r, ok := errors.AsType[*RejectError](errs[0]); ok && r == nil {
			t.Error("a nil *RejectError reaches the protocol server")
		}
	})
}

// A wall clock that is set forward ends no message, even if a handler fails
// before the loop looks at the clock again.
func TestClockSetExpiresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := make(chan struct{})
		w := start(t, func(context.Context, *Message) error { <-fail; return errors.New("down") })
		tx, entries := w.begin()
		defer tx.Abort()
		e := entries[0]
		e.Received = time.Now().Add(-8 * 24 * time.Hour) // as the clock now has it
		if err := tx.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		tx.HandOver()
		synctest.Wait()
		w.sched.clock.mu.Lock()
		w.sched.clock.mu.wall = w.sched.clock.mu.wall.Add(-8 * 24 * time.Hour) // as if it had been set since
		w.sched.clock.mu.Unlock()
		close(fail)
		synctest.Wait()
		w.wantTypes("Reception TransientFailure")
	})
}

// A busySpool refuses to take entries back for a while.
type busySpool struct {
	spool.Spool
	mu   sync.Mutex
	busy int
	err  error
}

func (s *busySpool) Apply(ctx context.Context, units ...spool.Unit) []error {
	s.mu.Lock()
	refuse := units[0][0].Op == spool.Release && s.busy > 0
	if refuse {
		s.busy--
	}
	s.mu.Unlock()
	if !refuse {
		return s.Spool.Apply(ctx, units...)
	}
	errs := make([]error, len(units))
	for i := range errs {
		errs[i] = s.err
	}
	return errs
}

// What the spool does not take back at once is given back later: it must not
// wait for the end of the process.
func TestReleaseIsRepeated(t *testing.T) {
	for _, refusal := range []error{spool.ErrBusy, spool.ErrFull, spool.ErrAmbiguous} {
		synctest.Test(t, func(t *testing.T) {
			mem := spool.NewMemory()
			defer mem.Close()
			calls := 0
			s, err := NewScheduler(&busySpool{Spool: mem, busy: 3, err: refusal},
				func(context.Context, *Message) error { calls++; time.Sleep(time.Second); return nil },
				&Options{Logger: testLogger(t), Configure: func(string) Config { return Config{Concurrency: 1} }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			w := &world{t: t, sp: mem, sched: s}
			for range 3 {
				w.submit("b@example.com", nil, mail)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if calls != 3 {
				t.Errorf("%v: %d messages reached the callback, want 3", refusal, calls)
			}
			cancel()
			<-done
		})
	}
}

func TestStatsBesideHandle(t *testing.T) {
	sp := spool.NewMemory()
	defer sp.Close()
	s, err := NewScheduler(sp, func(context.Context, *Message) error { return nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submit(t.Context(), spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}},
		map[string]string{"queue": "x"}, strings.NewReader(mail)); err != nil {
		t.Fatal(err)
	}
	entries, _, err := sp.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	e := entries[0].Clone()
	e.Queue = "elsewhere"
	if errs := sp.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: e}}); errs != nil {
		t.Fatal(errs)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 {
			s.Stats()
		}
	})
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "*@x", "*"} {
		if err := s.Handle(name, func(context.Context, *Message) error { return nil }); err != nil {
			t.Error(err)
		}
		runtime.Gosched()
	}
	wg.Wait()
}

// An outcome that another version stored is recorded as it is.
func TestOutcomeOfUnknownType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		outcome, err := json.Marshal(Record{Type: "Returned", ID: spool.NewID(), Time: time.Now(), Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		wr, err := sp.Create(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wr.Write([]byte(mail)); err != nil {
			t.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Body: wr.ID(), Queue: Deferred, Class: "-", State: spool.Final,
			Received: time.Now(), Due: time.Now(), Outcome: outcome}
		if err := wr.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		sp.Close()
		w := start(t, func(context.Context, *Message) error { return nil }, setup{sp: sp.Reopen()})
		time.Sleep(time.Minute)
		synctest.Wait()
		w.wantTypes("Returned")
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

// A nilError has methods that cannot be called on a nil one.
type nilError struct{ err error }

func (e *nilError) Error() string { return "nil: " + e.err.Error() }
func (e *nilError) Unwrap() error { return e.err }

func TestErrorThatPanicsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(ctx context.Context, _ *Message) error {
			<-ctx.Done()
			var err *nilError
			return err
		})
		w.submit("b@example.com", nil, mail)
		time.Sleep(defaultTimeout + time.Second)
		synctest.Wait()
		w.wantTypes("Reception TransientFailure")
	})
}

func TestErrorThatPanicsBeforeTheReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error {
			var err *nilError
			return err
		})
		synctest.Wait()
		tx, entries := w.begin()
		defer tx.Abort()
		if errs := tx.Inject(t.Context(), false, entries...); len(errs) != 2 || errs[0] == nil {
			t.Errorf("errors %v, want a failure", errs)
		}
	})
}

// A message whose verdict was uncertain and whose handler is overdue runs again.
func TestAmbiguousOutcomeOfAnOverdueHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := spool.NewMemory()
		defer mem.Close()
		calls := 0
		hang := make(chan struct{})
		s, err := NewScheduler(&uncertain{Spool: mem, does: true}, func(context.Context, *Message) error {
			if calls++; calls == 1 {
				<-hang
			}
			return nil
		}, &Options{Logger: testLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		w := &world{t: t, sp: mem, sched: s}
		w.submit("b@example.com", nil, mail)
		time.Sleep(defaultTimeout + time.Minute)
		close(hang)
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want a second one", calls)
		}
		cancel()
		<-done
	})
}

// An entry that the caller used before carries nothing over.
func TestCommitSetsTheOtherFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *Message
		w := start(t, func(_ context.Context, m *Message) error { got = m; return Hold("stay") })
		tx, entries := w.begin()
		defer tx.Abort()
		e := entries[0]
		e.Skip, e.Attempts, e.Interrupted, e.LastError, e.Outcome = 7, 3, 5, "x", []byte("x")
		if err := tx.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		tx.HandOver()
		synctest.Wait()
		if got == nil || got.Attempt != 1 || got.LastError != "" || got.Size != int64(len(mail)+len("X-Trace: 1\r\n")) {
			t.Errorf("handler got %+v", got)
		}
	})
}

// Handlers that outlast their deadlines one after the other do not pile up on
// the stack of a goroutine.
func TestOverdueHandlersDoNotNest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var depth []int
		w := start(t, func(context.Context, *Message) error {
			depth = append(depth, runtime.Callers(0, make([]uintptr, 1000)))
			time.Sleep(2 * time.Second)
			return nil
		}, setup{opts: Options{Configure: func(string) Config {
			return Config{Concurrency: 1, Timeout: time.Second, MaxAttempts: 1}
		}}})
		for range 20 {
			w.submit("b@example.com", nil, mail)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(depth) != 20 || depth[19] > depth[1] {
			t.Errorf("stack depths %v of 20 handlers, want them constant", depth)
		}
	})
}
