package queue

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestEndsOfLife(t *testing.T) {
	fail := func(context.Context, *Message) error { return errors.New("down") }
	t.Run("MaxAttempts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, fail, setup{opts: Options{Configure: func(string) Config { return Config{MaxAttempts: 3} }}})
			w.submit("b@example.com", nil, mail)
			time.Sleep(time.Hour)
			synctest.Wait()
			w.wantTypes("Reception TransientFailure TransientFailure TransientFailure Expiration")
			if r := w.last(); r.Attempts != 3 {
				t.Errorf("the Expiration counts %d attempts, want 3", r.Attempts)
			}
		})
	})
	t.Run("Expires, but never untried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ready := false
			w := start(t, func(_ context.Context, m *Message) error {
				if !ready {
					m.Expires = time.Now() // vanishes with the failure
					return Hold("wait")
				}
				return errors.New("down")
			})
			w.submit("b@example.com", nil, mail)
			time.Sleep(8 * 24 * time.Hour) // held beyond its life
			synctest.Wait()
			w.wantTypes("Reception TransientFailure")
			ready = true
			held := w.only()
			claimed, _, err := w.sp.Claim(context.Background(), spool.ClaimRequest{IDs: []spool.ID{held.ID}})
			if err != nil || len(claimed) != 1 {
				t.Fatalf("claiming the held message: %d, %v", len(claimed), err)
			}
			free := claimed[0].Clone()
			free.State = spool.Queued
			if errs := w.sp.Apply(context.Background(), spool.Unit{{Op: spool.Update, Entry: free}}); errs != nil {
				t.Fatal(errs)
			}
			time.Sleep(2 * claimInterval)
			synctest.Wait()
			w.wantTypes("Reception TransientFailure TransientFailure Expiration")
		})
	})
	t.Run("RetryAfter is cut to the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			w := start(t, func(context.Context, *Message) error {
				calls++
				return RetryAfter(30*24*time.Hour, errors.New("busy"))
			})
			w.submit("b@example.com", nil, mail)
			if e := w.only(); !e.Due.Equal(e.Received.Add(defaultMaxAge)) {
				t.Errorf("due %v, want the end of its life", e.Due.Sub(e.Received))
			}
			time.Sleep(defaultMaxAge)
			synctest.Wait()
			if calls != 2 || w.last().Type != Expiration {
				t.Errorf("%d calls, last record %s; want 2 and Expiration", calls, w.last().Type)
			}
		})
	})
}

// Attempts and due times survive a restart; what fell due meanwhile is spread.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 60
		sp := spool.NewMemory()
		var at []time.Time
		fail := func(_ context.Context, m *Message) error {
			at = append(at, time.Now())
			return errors.New("down")
		}
		w := start(t, fail, setup{sp: sp, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}})
		for range n {
			w.submit("b@example.com", nil, mail)
		}
		due := map[spool.ID]time.Time{}
		for _, e := range w.entries() {
			due[e.ID] = e.Due
		}
		w.shutdown()
		sp.Close()
		sp = sp.Reopen()
		w = start(t, fail, setup{sp: sp, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}})
		at = nil
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(at) != 0 {
			t.Fatalf("%d messages were retried early after the restart", len(at))
		}
		for _, e := range w.entries() {
			if !e.Due.Equal(due[e.ID]) || e.Attempts != 1 {
				t.Fatalf("due %v after %d attempts, want %v after 1", e.Due, e.Attempts, due[e.ID])
			}
		}
		w.shutdown()
		sp.Close()
		time.Sleep(time.Hour) // everything falls due while nothing runs
		sp = sp.Reopen()
		begin := time.Now()
		start(t, fail, setup{sp: sp, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}})
		time.Sleep(time.Minute)
		synctest.Wait()
		first := 0
		for _, when := range at {
			if when.Sub(begin) < 10*time.Second {
				first++
			}
		}
		if len(at) != n || first > n/2 {
			t.Errorf("%d attempts in the first minute after the restart, %d of them in the first ten seconds; want %d, spread", len(at), first, n)
		}
	})
}

// No space: the Apply is repeated, never the handler.
func TestFullSpoolRepeatsApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var w *world
		w = start(t, func(_ context.Context, m *Message) error {
			calls++
			if err := m.SetContent(strings.NewReader("Subject: new\r\n\r\nnew\r\n")); err != nil {
				return err
			}
			w.sp.SetFull(true)
			return nil
		}, setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error {
			b, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(b)
			if string(content) != "Subject: new\r\n\r\nnew\r\n" {
				t.Errorf("content %q", content)
			}
			return err
		}}})
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.wantTypes("Reception")
		w.sp.SetFull(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("the handler ran %d times, want once", calls)
		}
		w.wantTypes("Reception Delivery Delivery")
	})
}

// A failed sync ends Run with the error; handlers are cancelled.
func TestSpoolFailureEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		w := start(t, func(ctx context.Context, m *Message) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		})
		w.submit("b@example.com", nil, mail)
		w.sp.FailSync()
		_, err := w.sched.Submit(t.Context(), spool.Envelope{Recipients: []spool.Recipient{{Address: "c@example.com"}}}, nil, strings.NewReader(mail))
		if !errors.Is(err, spool.ErrFailed) {
			t.Fatalf("Submit: %v, want ErrFailed", err)
		}
		if err := <-w.done; !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Run: %v, want ErrFailed", err)
		}
		close(w.done)
		if !errors.Is(cause, spool.ErrFailed) {
			t.Errorf("the handler's context ended with %v, want ErrFailed", cause)
		}
		if err := w.sched.Ready(); !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Ready: %v, want ErrFailed", err)
		}
	})
}

// A stop while Record fails leaves the final message and its outcome.
func TestStopKeepsUnrecordedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return Drop("spam") })
		w.refuse = 1 << 30
		w.submit("b@example.com", nil, mail)
		w.shutdown()
		if e := w.only(); e.State != spool.Final || len(e.Outcome) == 0 {
			t.Errorf("the message is %s, want final with its outcome", e.State)
		}
	})
}

// An attempt that ended is no interruption when the process dies later.
func TestEndedAttemptIsNoInterruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return errors.New("down") })
		w.submit("b@example.com", nil, mail)
		sp := w.sp.Crash()
		synctest.Wait()
		w2 := start(t, func(context.Context, *Message) error { return nil }, setup{sp: sp})
		synctest.Wait()
		if e := w2.only(); e.Interrupted != 0 {
			t.Errorf("%d interruptions, want none", e.Interrupted)
		}
	})
}

// When the wall clock was set, nothing expires for an hour.
func TestNothingExpiresAfterAClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return errors.New("down") },
			setup{opts: Options{Configure: func(string) Config { return Config{MaxAge: time.Second} }}})
		synctest.Wait() // the loop looks at the clock too
		w.sched.clock.observe(25*time.Hour, time.Hour)
		w.sched.clock.mu.until = time.Now().Add(clockPause)
		w.submit("b@example.com", nil, mail)
		time.Sleep(clockPause - time.Minute)
		synctest.Wait()
		if types := w.types(); strings.Contains(types, "Expiration") {
			t.Errorf("records %s, want no Expiration yet", types)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if r := w.last(); r.Type != Expiration {
			t.Errorf("the last record is %s, want Expiration", r.Type)
		}
	})
}

// uncertain answers ErrAmbiguous to the first Apply of an Update, after it
// did, or did not, what it was asked for.
type uncertain struct {
	spool.Spool
	does bool
	said bool
}

func (u *uncertain) Apply(ctx context.Context, units ...spool.Unit) []error {
	if u.said || units[0][0].Op != spool.Update {
		return u.Spool.Apply(ctx, units...)
	}
	u.said = true
	if u.does {
		unit := spool.Unit{units[0][0]}
		unit[0].Entry = unit[0].Entry.Clone()
		if errs := u.Spool.Apply(ctx, unit); errs != nil {
			return errs
		}
	}
	return []error{spool.ErrAmbiguous}
}

// An unknown outcome is cleared up by trying again.
func TestAmbiguousOutcome(t *testing.T) {
	for _, does := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			var types []string
			sp := &uncertain{Spool: spool.NewMemory(), does: does}
			sched, err := NewScheduler(sp, func(context.Context, *Message) error {
				calls++
				return RetryAfter(time.Hour, errors.New("down"))
			}, &Options{Record: func(_ context.Context, r Record) error { types = append(types, string(r.Type)); return nil }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- sched.Run(ctx) }()
			if _, err := sched.Submit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}, nil, strings.NewReader(mail)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := strings.Join(types, " "); calls != 1 || got != "Reception TransientFailure" {
				t.Errorf("applied %v: %d calls, records %s; want 1, Reception TransientFailure", does, calls, got)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// Attempts counts the failed ones in this queue, that of the record included.
func TestRecordsCountAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(_ context.Context, m *Message) error {
			if m.Attempt < 3 {
				return errors.New("down")
			}
			return Reject(550, "no")
		})
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Hour)
		synctest.Wait()
		var attempts []int
		for _, r := range w.records {
			attempts = append(attempts, r.Attempts)
		}
		if want := []int{0, 1, 2, 3}; !slices.Equal(attempts, want) {
			t.Errorf("attempts %v in %s, want %v", attempts, w.types(), want)
		}
	})
}

// stubborn refuses the first Update with an error that the contract does not know.
type stubborn struct {
	spool.Spool
	said bool
}

func (b *stubborn) Apply(ctx context.Context, units ...spool.Unit) []error {
	if b.said || units[0][0].Op != spool.Update {
		return b.Spool.Apply(ctx, units...)
	}
	b.said = true
	return []error{errors.New("a database error")}
}

// A verdict that could not be stored is not the end of its message.
func TestVerdictNotStored(t *testing.T) {
	for name, handler := range map[string]Handler{
		"failed":  func(context.Context, *Message) error { return errors.New("down") },
		"overdue": func(context.Context, *Message) error { time.Sleep(2 * defaultTimeout); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				calls := 0
				sp := &stubborn{Spool: spool.NewMemory()}
				sched, err := NewScheduler(sp, func(ctx context.Context, m *Message) error {
					mu.Lock()
					calls++
					first := calls == 1
					mu.Unlock()
					if first {
						return handler(ctx, m)
					}
					return Drop("done")
				}, &Options{Logger: testLogger(t)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- sched.Run(ctx) }()
				if _, err := sched.Submit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}, nil, strings.NewReader(mail)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if st := sched.Stats(); calls != 2 || st.Outcomes[AdminBounce] != 1 || len(st.Queues) != 0 {
					t.Errorf("%d calls, outcomes %v, queues %+v; want a second call that ended it", calls, st.Outcomes, st.Queues)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}
