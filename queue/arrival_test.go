package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestArriving: the hook sees each transaction once, marks its messages, and is told
// what became of them, however that came about.
func TestArriving(t *testing.T) {
	entry := func() *spool.Entry {
		return &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
	}
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, w *world, tr *Transaction)
		want string // error
		kept int64  // messages with the mark
	}{
		{"committed", func(t *testing.T, _ *world, tr *Transaction) {
			if err := tr.Commit(t.Context(), entry(), entry()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			tr.HandOver()
		}, "", 2},
		{"kept", func(t *testing.T, _ *world, tr *Transaction) {
			if err := tr.Keep(t.Context(), entry()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			tr.HandOver()
		}, "", 1},
		{"inline", func(t *testing.T, _ *world, tr *Transaction) {
			if err := tr.Inject(t.Context(), false, entry()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			tr.HandOver()
		}, "", 1},
		{"refused inline", func(t *testing.T, w *world, tr *Transaction) {
			e := entry()
			e.Envelope.Sender = "bad@example.org"
			if tr.Inject(t.Context(), false, e) == nil {
				t.Error("accepted")
			}
		}, "550 5.0.0 bad", 0},
		{"full", func(t *testing.T, w *world, tr *Transaction) {
			w.sp.SetFull(true)
			if err := tr.Commit(t.Context(), entry()); err == nil {
				t.Error("committed")
			}
		}, "spool: no space", 0},
		{"revoked", func(t *testing.T, _ *world, tr *Transaction) {
			if err := tr.Commit(t.Context(), entry()); err != nil {
				t.Error(err)
			}
			if err := tr.Revoke(t.Context()); err != nil {
				t.Error(err)
			}
		}, "given up", 0},
		{"a panic", func(t *testing.T, w *world, tr *Transaction) {
			e := entry()
			e.Envelope.Sender = "panic"
			if err := tr.Commit(t.Context(), e); err != nil {
				t.Error(err)
			}
			tr.HandOver()
		}, "none", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, calls := "none", 0
				var marked atomic.Int64
				var begun, stored time.Time
				w := start(t, func(_ context.Context, m *Message) error {
					if m.Meta["mark"] == "x" {
						marked.Add(1)
					}
					if m.Envelope.Sender == "bad@example.org" {
						return Reject(550, "bad")
					}
					return nil
				}, setup{opts: Options{Arriving: func(_ context.Context, a *Arrival) func(time.Time, error) {
					if a.Entries[0].Envelope.Sender == "panic" {
						panic("oh")
					}
					a.SetMeta("mark", "x")
					begun = a.Begun
					return func(at time.Time, err error) {
						calls++
						stored, got = at, ""
						if err != nil {
							got = err.Error()
						}
					}
				}}})
				synctest.Wait()
				tr, err := w.sched.Begin(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tr.Write([]byte(mail)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				tt.do(t, w, tr)
				tr.Abort()
				tr.Abort()
				synctest.Wait()
				if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) || calls > 1 {
					t.Errorf("told %q %d times, want %q", got, calls, tt.want)
				}
				if tt.want == "" && stored.Sub(begun) != time.Second {
					t.Errorf("stored after %v", stored.Sub(begun))
				}
				if tt.want != "none" && tt.kept != marked.Load() && tt.name != "refused inline" {
					t.Errorf("%d messages have the mark, want %d", marked.Load(), tt.kept)
				}
			})
		})
	}
}

// TestArrivingMeta: what the hook says of a transaction is in the metadata of its messages
// alone, also when whoever brings messages uses the same map for all of them.
func TestArrivingMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var transactions atomic.Int64
		var mu sync.Mutex
		got := map[string][]string{}
		w := start(t, func(_ context.Context, m *Message) error {
			if m.Attempt == 1 {
				return errors.New("down")
			}
			mu.Lock()
			defer mu.Unlock()
			got[m.Meta["number"]] = append(got[m.Meta["number"]], m.Envelope.Recipients[0].Address)
			return nil
		}, setup{opts: Options{Arriving: func(_ context.Context, a *Arrival) func(time.Time, error) {
			a.SetMeta("number", fmt.Sprint(transactions.Add(1)))
			return nil
		}}})
		meta := map[string]string{"session_id": "1"}
		for i := range 2 {
			tr, err := w.sched.Begin(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			tr.Write([]byte(mail))
			var entries []*spool.Entry
			for k := range 2 {
				rcpt := spool.Recipient{Address: fmt.Sprintf("%d.%d@example.com", i+1, k)}
				entries = append(entries, &spool.Entry{ID: spool.NewID(), Meta: meta, Envelope: spool.Envelope{Recipients: []spool.Recipient{rcpt}}})
			}
			if err := tr.Commit(t.Context(), entries...); err != nil {
				t.Fatal(err)
			}
			tr.HandOver()
			tr.Abort()
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for _, rcpts := range got {
			slices.Sort(rcpts)
		}
		want := map[string][]string{"1": {"1.0@example.com", "1.1@example.com"}, "2": {"2.0@example.com", "2.1@example.com"}}
		if !maps.EqualFunc(got, want, slices.Equal) || len(meta) != 1 {
			t.Errorf("messages by number: %v, want %v; the map of the session has become %v", got, want, meta)
		}
	})
}
