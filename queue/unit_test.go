package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A unitLog is a spool that keeps what it was asked to store.
type unitLog struct {
	spool.Spool
	mu    sync.Mutex
	units []string
}

func (l *unitLog) Apply(ctx context.Context, units ...spool.Unit) []error {
	l.mu.Lock()
	for _, u := range units {
		var changes []string
		for _, c := range u {
			op := [...]string{"", "insert", "update", "remove", "release"}[c.Op]
			if c.Op == spool.Insert || c.Op == spool.Update {
				op += " " + c.Entry.State.String()
			}
			changes = append(changes, op)
		}
		l.units = append(l.units, strings.Join(changes, ", "))
	}
	l.mu.Unlock()
	return l.Spool.Apply(ctx, units...)
}

// Each verdict is stored in one unit with all that it decides.
func TestVerdictsInOneUnit(t *testing.T) {
	emit := func(ctx context.Context, m *Message) error {
		_, err := m.Emit(ctx, m.Envelope, map[string]string{"queue": "rest"}, strings.NewReader(mail))
		return err
	}
	tests := []struct {
		name   string
		inject func(ctx context.Context, m *Message) error
		units  []string
	}{
		{"hold", func(context.Context, *Message) error { return Hold("look") }, []string{"update held"}},
		{"drop", func(context.Context, *Message) error { return Drop("spam") }, []string{"update final", "remove"}},
		{"emit", func(ctx context.Context, m *Message) error { return errors.Join(emit(ctx, m), emit(ctx, m)) },
			[]string{"update queued, insert queued, insert queued"}},
		{"emit and fail", func(ctx context.Context, m *Message) error { return errors.Join(emit(ctx, m), Hold("look")) },
			[]string{"update held"}},
		{"due", func(_ context.Context, m *Message) error { m.SetDue(time.Now().Add(time.Hour)); return nil },
			[]string{"update queued", "release"}},
		{"split, equal", func(context.Context, *Message) error { return Split([]error{Hold("a"), Hold("a"), Hold("a")}) },
			[]string{"update held"}},
		{"split, all succeed", func(context.Context, *Message) error { return Split(make([]error, 3)) },
			[]string{"update queued"}},
		{"split", func(context.Context, *Message) error { return Split([]error{nil, Reject(550, "no"), Drop("spam")}) },
			[]string{"update queued, insert final, insert final", "remove, remove"}},
		{"split, one retried", func(ctx context.Context, m *Message) error {
			return errors.Join(emit(ctx, m), Split([]error{Reject(550, "no"), nil, errors.New("down")}))
		}, []string{"update queued, insert final, insert queued, insert queued", "remove"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &unitLog{}
				var due time.Time
				w := start(t, tt.inject, setup{
					wrap:     func(m *spool.Memory) spool.Spool { l.Spool = m; return l },
					handlers: map[string]Handler{"*": func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil }},
				})
				synctest.Wait() // or the message would come by the spool
				w.storeFor("a@example.com", "b@example.com", "c@example.com")
				for _, e := range w.entries() {
					due = e.Due
				}
				if !slices.Equal(l.units, tt.units) {
					t.Errorf("units %q, want %q", l.units, tt.units)
				}
				if tt.name == "due" && time.Until(due) != time.Hour {
					t.Errorf("due in %v, want 1h", time.Until(due))
				}
			})
		})
	}
}

// Before the reply a message is not divided: its worst verdict is that of all.
func TestInjectSplitOfSeveral(t *testing.T) {
	down := errors.New("down")
	tests := []struct {
		name   string
		parts  []error
		want   string // of the reply; empty: it is accepted
		states string // of what is stored
	}{
		{"success", []error{nil, nil}, "", "queued"},
		{"one rejected", []error{nil, Reject(550, "no")}, "550 5.0.0 no", ""},
		{"rejected before anything else", []error{down, Reject(550, "no")}, "550 5.0.0 no", ""},
		{"one failed", []error{down, nil}, "down", ""},
		{"failed before held", []error{Hold("x"), down}, "down", ""},
		{"one held", []error{Hold("x"), nil}, "", "held"},
		{"held and dropped", []error{Drop("x"), Hold("x")}, "", "held"},
		{"dropped", []error{Drop("x"), Drop("y")}, "", ""},
		{"one dropped", []error{Drop("x"), nil}, "cannot drop some", ""},
		{"too few", []error{nil}, "1 verdicts for 2 recipients", ""},
		{"a Split inside", []error{nil, Split([]error{nil})}, "no verdict", ""},
	}
	for _, tt := range tests {
		for _, lmtp := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " LMTP ", lmtp), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := start(t, func(context.Context, *Message) error { return Split(tt.parts) },
						setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }}})
					synctest.Wait()
					tx, entries := w.begin()
					defer tx.Abort()
					entries[0].Envelope.Recipients = append(entries[0].Envelope.Recipients, entries[1].Envelope.Recipients...)
					errs := tx.Inject(t.Context(), lmtp, entries[0])
					if tt.want == "" && errs != nil || tt.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.want)) {
						t.Errorf("errors %v, want %q", errs, tt.want)
					}
					var states []string
					for _, e := range w.entries() {
						states = append(states, e.State.String())
					}
					if got := strings.Join(states, " "); got != tt.states {
						t.Errorf("stored: %q, want %q", got, tt.states)
					}
				})
			})
		}
	}
}

// Whatever passes by itself is waited for; the handler is not called for it again.
func TestSplitRepeatsApply(t *testing.T) {
	type answer struct {
		do  bool
		err error
	}
	tests := map[string][]answer{
		"full":                       {{false, spool.ErrFull}, {false, spool.ErrFull}},
		"busy":                       {{false, spool.ErrBusy}},
		"ambiguous, done":            {{true, spool.ErrAmbiguous}},
		"ambiguous, not done":        {{false, spool.ErrAmbiguous}},
		"ambiguous, full, then done": {{false, spool.ErrAmbiguous}, {false, spool.ErrFull}, {true, spool.ErrAmbiguous}},
	}
	for name, answers := range tests {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kept %v", name, keep), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calls := map[string]int{}
					var w *keptWorld
					w = startKept(t, func(_ context.Context, m *Message) error {
						calls[m.Queue]++
						w.ledger.script(func() (bool, error) {
							if len(answers) == 0 {
								return true, nil
							}
							next := answers[0]
							answers = answers[1:]
							return next.do, next.err
						})
						return Split([]error{nil, Reject(550, "no"), Drop("spam"), RetryAfter(time.Hour, nil), Hold("x")})
					}, setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error { calls[m.Queue]++; return nil }}})
					rcpts := []string{"a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com"}
					if keep {
						w.acceptTogether(rcpts...)
					} else {
						w.storeFor(rcpts...)
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					w.wantSorted("AdminBounce Bounce Delivery Delivery Reception TransientFailure TransientFailure")
					if calls[Deferred] != 1 || calls["example.com"] != 1 || len(answers) != 0 {
						t.Errorf("calls %v with %d answers left, want one in each queue", calls, len(answers))
					}
					if all := w.entries(); len(all) != 2 {
						t.Errorf("%d entries are left, want what is retried and what is held", len(all))
					}
				})
			})
		}
	}
}

// acceptTogether is accept for one message of all these recipients.
func (w *keptWorld) acceptTogether(rcpts ...string) spool.ID {
	w.t.Helper()
	tx, err := w.sched.Begin(context.Background(), 0)
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
	if err := tx.Keep(context.Background(), e); err != nil {
		w.t.Fatal(err)
	}
	tx.HandOver()
	synctest.Wait()
	return e.ID
}

// A unit that the spool refuses for another reason leaves nothing of it: the
// whole message is tried again.
func TestSuccessNotStored(t *testing.T) {
	for name, first := range map[string]error{"split": Split([]error{nil, Reject(550, "no")}), "nil": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(_ context.Context, m *Message) error {
					if m.Attempt == 1 {
						return first
					}
					return Split([]error{nil, Drop("spam")})
				}, setup{
					wrap:     func(m *spool.Memory) spool.Spool { return &stubborn{Spool: m} },
					handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }},
				})
				w.storeFor("a@example.com", "b@example.com")
				e := w.only()
				if e.Attempts != 1 || e.LastError != "a database error" || len(e.Envelope.Recipients) != 2 {
					t.Errorf("left after %d attempts with %q for %v", e.Attempts, e.LastError, e.Envelope.Recipients)
				}
				if n := w.sched.Stats().Retries[RetrySpool]; n != 1 {
					t.Errorf("%d retries by the spool, want 1", n)
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				w.wantSorted("AdminBounce Delivery Delivery Reception TransientFailure")
			})
		})
	}
}

// A failure that ends a message is no retry, and in a Split each message counts.
func TestRetriesOfGroups(t *testing.T) {
	for attempts, want := range map[int]string{0: "map[other:1 reply_4xx:1]", 1: "map[]"} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, func(context.Context, *Message) error {
				return Split([]error{errors.New("x"), Reject(451, "x"), Reject(451, "x"), Hold("x"), nil})
			}, setup{
				opts:     Options{Configure: func(string) Config { return Config{MaxAttempts: attempts} }},
				handlers: map[string]Handler{"*": func(context.Context, *Message) error { return nil }},
			})
			w.storeFor("a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com")
			if got := fmt.Sprint(w.sched.Stats().Retries); got != want {
				t.Errorf("retries %s, want %s", got, want)
			}
		})
	}
}
