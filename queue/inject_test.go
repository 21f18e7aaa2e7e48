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

// begin stages a message for two recipients in a transaction.
func (w *world) begin() (*Transaction, []*spool.Entry) {
	w.t.Helper()
	tx, err := w.sched.Begin(context.Background(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := tx.Write([]byte(mail)); err != nil {
		w.t.Fatal(err)
	}
	var entries []*spool.Entry
	for _, rcpt := range []string{"good@example.com", "bad@example.com"} {
		entries = append(entries, &spool.Entry{ID: spool.NewID(), Header: []byte("X-Trace: 1\r\n"),
			Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: rcpt}}}})
	}
	return tx, entries
}

func TestInject(t *testing.T) {
	bad := func(err error) Handler {
		return func(_ context.Context, m *Message) error {
			h, hErr := m.Header()
			if hErr != nil {
				return hErr
			}
			if h.Get("X-Trace") != "1" || h.Get("Subject") != "test" {
				return errors.New("the trace fields or the content are not there")
			}
			if m.Envelope.Recipients[0].Address == "bad@example.com" {
				return err
			}
			return nil
		}
	}
	tests := []struct {
		name     string
		verdict  error
		partial  bool
		errs     [2]string // "" is nil
		stored   int       // right after the transaction, before the queues run
		records  string
		noRoutes bool
	}{
		{name: "all", stored: 2, records: "Reception Reception"},
		{name: "one rejected", verdict: Reject(550, "5.7.1 no"), errs: [2]string{"", "550"}},
		{name: "one rejected, LMTP", verdict: Reject(550, "5.7.1 no"), partial: true, errs: [2]string{"", "550"}, stored: 1, records: "Reception"},
		{name: "one fails", verdict: errors.New("down"), errs: [2]string{"", "down"}},
		{name: "dropped", verdict: Drop("spam"), stored: 1, records: "Reception Reception AdminBounce"},
		{name: "held", verdict: Hold("look"), stored: 2, records: "Reception Reception TransientFailure"},
		{name: "split, harmless", verdict: Split([]error{nil}), stored: 2, records: "Reception Reception"},
		{name: "split, worst", verdict: Split([]error{Reject(554, "x")}), errs: [2]string{"", "554"}},
		{name: "end of the road", noRoutes: true, records: "Reception Reception"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handlers := map[string]Handler{"*": func(context.Context, *Message) error { return Hold("stay") }}
				if tt.noRoutes {
					handlers = nil
				}
				w := start(t, bad(tt.verdict), setup{handlers: handlers})
				synctest.Wait()
				tx, entries := w.begin()
				defer tx.Abort()
				errs := tx.Inject(context.Background(), tt.partial, entries...)
				for i, want := range tt.errs {
					got := ""
					if errs != nil && errs[i] != nil {
						got = errs[i].Error()
					}
					if want == "" && got != "" || !strings.Contains(got, want) {
						t.Errorf("error %d: %q, want %q", i, got, want)
					}
				}
				if n := len(w.entries()); n != tt.stored {
					t.Errorf("%d messages are stored, want %d", n, tt.stored)
				}
				if errs == nil || tt.partial {
					tx.HandOver()
				}
				synctest.Wait()
				types := strings.ReplaceAll(w.types()+" ", "TransientFailure ", "")
				if tt.name == "held" { // the others were held by the queue's handler
					types = strings.Replace(types, "AdminBounce", "", 1)
				}
				for _, want := range strings.Fields(strings.ReplaceAll(tt.records, "TransientFailure", "")) {
					if !strings.Contains(types, want+" ") {
						t.Errorf("records %s: no %s", w.types(), want)
					}
					types = strings.Replace(types, want+" ", "", 1)
				}
				if strings.TrimSpace(types) != "" {
					t.Errorf("records %s beyond %s", types, tt.records)
				}
			})
		})
	}
}

// A callback that outlasts its transaction stores nothing, whatever it returns.
func TestInjectDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := start(t, func(context.Context, *Message) error { <-release; return nil },
			setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }}})
		synctest.Wait()
		tx, entries := w.begin()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errs := tx.Inject(ctx, false, entries...)
		tx.Abort()
		if len(errs) != 2 || !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("errors %v, want the end of the context", errs)
		}
		close(release)
		synctest.Wait()
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d messages are stored, want none", n)
		}
		w.wantTypes("")
	})
}

// TestInjectDeadlineOpen: a callback that runs on past its deadline does not open
// what the transaction is about to discard. The race detector is the judge.
func TestInjectDeadlineOpen(t *testing.T) {
	ended := make(chan struct{}, 1)
	w := start(t, func(_ context.Context, m *Message) error {
		defer func() { ended <- struct{}{} }()
		for {
			body, err := m.Open()
			if err != nil {
				return err
			}
			body.Close()
		}
	})
	for range 20 {
		tx, entries := w.begin()
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		errs := tx.Inject(ctx, false, entries[:1]...)
		for ; errors.Is(errs[0], ErrStopped); errs = tx.Inject(ctx, false, entries[:1]...) {
			runtime.Gosched() // it runs soon
		}
		if !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("errors %v, want the end of the context", errs)
		}
		tx.Abort()
		cancel()
		<-ended
	}
}

func TestInjectPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { panic("boom") })
		synctest.Wait()
		tx, entries := w.begin()
		defer tx.Abort()
		if errs := tx.Inject(context.Background(), false, entries...); len(errs) != 2 || !strings.Contains(errs[0].Error(), "boom") {
			t.Errorf("errors %v", errs)
		}
	})
}

// TestInjectNeedsRun: without Run there is an error, after a second in which it
// may begin.
func TestInjectNeedsRun(t *testing.T) {
	for name, begins := range map[string]bool{"never": false, "soon": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := NewScheduler(spool.NewMemory(), func(context.Context, *Message) error { return nil }, nil)
				if err != nil {
					t.Fatal(err)
				}
				w := &world{t: t, sched: s}
				tx, entries := w.begin()
				defer tx.Abort()
				asked, got := time.Now(), make(chan []error, 1)
				go func() { got <- tx.Inject(context.Background(), false, entries...) }()
				synctest.Wait() // it waits
				if begins {
					ctx, cancel := context.WithCancel(context.Background())
					ran := make(chan error, 1)
					go func() { ran <- s.Run(ctx) }()
					defer func() { cancel(); <-ran }()
				}
				switch errs := <-got; {
				case begins && errs != nil:
					t.Errorf("error %v, want none", errs[0])
				case !begins && (len(errs) == 0 || !errors.Is(errs[0], ErrStopped)):
					t.Errorf("errors %v, want %v", errs, ErrStopped)
				}
				if d := time.Since(asked); d > startGrace {
					t.Errorf("it waited for %v, for %d messages, want at most %v", d, len(entries), startGrace)
				}
			})
		})
	}
}

// What was not answered with success is removed, and never injected.
func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { t.Error("a revoked message was injected"); return nil })
		tx, entries := w.begin()
		defer tx.Abort()
		if err := tx.Commit(context.Background(), entries...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := tx.Revoke(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d messages are stored, want none", n)
		}
		w.wantTypes("")
	})
}

func TestConstructorErrors(t *testing.T) {
	nop := func(context.Context, *Message) error { return nil }
	if _, err := NewScheduler(nil, nop, nil); err == nil {
		t.Error("a nil spool was accepted")
	}
	if _, err := NewScheduler(spool.NewMemory(), nil, nil); err == nil {
		t.Error("a nil callback was accepted")
	}
	if _, err := NewScheduler(spool.NewMemory(), nop, &Options{StopTimeout: -1}); err == nil {
		t.Error("a negative StopTimeout was accepted")
	}
	s, err := NewScheduler(spool.NewMemory(), nop, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Handle(Deferred, nop) == nil {
		t.Error("a handler of the deferred queue was accepted")
	}
	if s.Handle("*", nil) == nil {
		t.Error("a nil handler was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if s.Run(ctx) == nil {
		t.Error("a second Run was accepted")
	}
	if s.Handle("*", nop) == nil {
		t.Error("Handle after Run was accepted")
	}
}
