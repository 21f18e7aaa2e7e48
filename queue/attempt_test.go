package queue

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// only returns the single entry that is left in the spool.
func (w *world) only() *spool.Entry {
	w.t.Helper()
	all := w.entries()
	if len(all) != 1 {
		w.t.Fatalf("%d entries in the spool, want 1", len(all))
	}
	return all[0]
}

// Nothing but a nil in time moves a message on.
func TestFailClosed(t *testing.T) {
	tests := []struct {
		name    string
		handler Handler
		error   string
	}{
		{"panic", func(context.Context, *Message) error { panic("boom") }, "panicked: boom"},
		{"nil dereference", func(context.Context, *Message) error { var m *Message; return errors.New(m.Queue) }, "panicked"},
		{"goexit", func(context.Context, *Message) error { runtime.Goexit(); return nil }, "Goexit"},
		{"deadline", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil }, "deadline passed after 5m0s"},
		{"deadline, with its error", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return ctx.Err() }, "deadline passed after 5m0s"},
		{"verdict after the deadline", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return Reject(550, "no") }, "deadline passed after 5m0s"},
		{"Split after the deadline", func(ctx context.Context, _ *Message) error { <-ctx.Done(); return Split([]error{nil}) }, "deadline passed after 5m0s"},
		{"no recipient", func(_ context.Context, m *Message) error { m.Envelope.Recipients = nil; return nil }, "without a recipient"},
		{"to the deferred queue", func(_ context.Context, m *Message) error { m.Meta["queue"] = Deferred; return nil }, "forever"},
		{"bad header edit", func(_ context.Context, m *Message) error {
			h, err := m.Header()
			if err == nil {
				h.Set("Bad Name", "x")
			}
			return err
		}, "Bad Name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				moved := false
				w := start(t, tt.handler, setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { moved = true; return nil }}})
				w.submit("b@example.com", nil, mail)
				time.Sleep(defaultTimeout)
				synctest.Wait()
				w.shutdown()
				if moved {
					t.Error("the message moved on unprocessed")
				}
				e := w.only()
				if e.Queue != Deferred || e.Attempts == 0 || !strings.Contains(e.LastError, tt.error) {
					t.Errorf("left in %s after %d attempts with %q, want in the deferred queue after one with %q", e.Queue, e.Attempts, e.LastError, tt.error)
				}
			})
		})
	}
}

// A handler that ignores its deadline keeps its slot and its message, and
// cannot commit whatever it returns.
func TestOverdueHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		calls := 0
		var late error
		w := start(t, func(_ context.Context, m *Message) error {
			calls++
			if calls > 1 {
				return nil
			}
			<-release
			m.Meta["queue"] = "elsewhere"
			_, late = m.Open()
			return nil
		}, setup{handlers: map[string]Handler{"elsewhere": func(context.Context, *Message) error { t.Error("a late nil moved the message on"); return nil }}})
		w.submit("b@example.com", map[string]string{}, mail)
		time.Sleep(defaultTimeout)
		synctest.Wait()
		w.wantTypes("Reception TransientFailure")
		if st := w.sched.Stats(); st.Overdue != 1 || st.Running != 1 {
			t.Errorf("Stats: %d overdue, %d running, want 1 and 1", st.Overdue, st.Running)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls != 1 {
			t.Fatalf("the message ran %d times while its first handler had not returned", calls)
		}
		if e := w.only(); e.Attempts != 1 {
			t.Errorf("%d attempts stored, want 1", e.Attempts)
		}
		close(release)
		synctest.Wait()
		if !errors.Is(late, errGone) {
			t.Errorf("Open after the deadline: %v, want %v", late, errGone)
		}
		if calls != 2 {
			t.Errorf("%d calls, want a second one as soon as the first had returned", calls)
		}
		if st := w.sched.Stats(); st.Overdue != 0 || st.Running != 0 {
			t.Errorf("Stats: %d overdue, %d running, want none", st.Overdue, st.Running)
		}
	})
}

// A handler that the stop cancels leaves its message as it was: no attempt, no record.
func TestStopIsNoAttempt(t *testing.T) {
	for _, answer := range []error{nil, errors.New("interrupted"), Reject(550, "no")} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, func(ctx context.Context, m *Message) error {
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrStopped) {
					t.Errorf("cause %v, want %v", context.Cause(ctx), ErrStopped)
				}
				return answer
			})
			w.submit("b@example.com", nil, mail)
			before := w.only()
			begin := time.Now()
			if err := w.shutdown(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if took := time.Since(begin); took != 5*time.Second {
				t.Errorf("the stop took %v, want half of StopTimeout before handlers are cancelled", took)
			}
			w.wantTypes("Reception")
			if e := w.only(); e.Attempts != 0 || !e.Due.Equal(before.Due) || e.LastError != "" {
				t.Errorf("the stop changed the message: %d attempts, due %v, %q", e.Attempts, e.Due, e.LastError)
			}
		})
	}
}

// A handler that finishes in the first half of StopTimeout still counts.
func TestStopLetsHandlersFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { time.Sleep(3 * time.Second); return nil })
		w.submit("b@example.com", nil, mail)
		w.shutdown()
		w.wantTypes("Reception Delivery")
	})
}

// Run returns within StopTimeout though a handler never returns.
func TestStopAbandonsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		w := start(t, func(context.Context, *Message) error { <-hang; return nil })
		w.submit("b@example.com", nil, mail)
		begin := time.Now()
		w.shutdown()
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the stop took %v, want at most StopTimeout", took)
		}
		close(hang)
		synctest.Wait()
		w.wantTypes("Reception")
		if e := w.only(); e.Attempts != 0 {
			t.Errorf("%d attempts, want none", e.Attempts)
		}
	})
}

func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		hang := make(chan struct{})
		calls := 0
		poison := func(context.Context, *Message) error { calls++; <-hang; return nil }
		w := start(t, poison, setup{sp: sp})
		w.submit("b@example.com", nil, mail)
		for death := 1; death <= 2; death++ {
			sp = sp.Crash() // the process dies; its scheduler is a ghost from here on
			synctest.Wait()
			w = start(t, poison, setup{sp: sp})
			synctest.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if calls != 2 {
			t.Errorf("the handler ran %d times, want 2: the third process must not run it at once", calls)
		}
		w.wantTypes("TransientFailure")
		e := w.only()
		if e.Attempts != 1 || e.Interrupted != 1 || !e.Due.After(time.Now()) {
			t.Errorf("%d attempts, %d interrupted, due %v; want 1, 1 and later than now", e.Attempts, e.Interrupted, e.Due)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if calls != 3 {
			t.Errorf("the handler ran %d times, want a third one after the backoff", calls)
		}
		close(hang)
	})
}

// A final outcome is recorded before the message goes, and again after a
// crash in between, with the same ID and time.
func TestFinalInTwoSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		var first []Record
		refuse := errors.New("no room")
		w := start(t, func(context.Context, *Message) error { return Reject(550, "no") }, setup{sp: sp})
		w.sched.recorder.record = func(_ context.Context, r Record) error {
			if r.Type == Bounce {
				first = append(first, r)
				return refuse
			}
			return nil
		}
		id := w.submit("b@example.com", nil, mail)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(first) < 3 {
			t.Fatalf("Record was called %d times in a minute of refusals, want it repeated", len(first))
		}
		if e := w.only(); e.State != spool.Final {
			t.Fatalf("the message is %s, want final as long as its record was not taken", e.State)
		}
		sp = sp.Crash()
		synctest.Wait()
		time.Sleep(time.Hour)
		w2 := start(t, func(context.Context, *Message) error { t.Error("a final message was run again"); return nil }, setup{sp: sp})
		synctest.Wait()
		w2.wantTypes("Bounce")
		if r := w2.last(); r.ID != id || !r.Time.Equal(first[0].Time) || r.Response != first[0].Response {
			t.Errorf("recorded again as %+v, want %+v", r, first[0])
		}
		if n := len(w2.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}
