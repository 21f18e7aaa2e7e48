package queue

import (
	"context"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// This file is about hosts that do what they should not, and what others pay for it:
// nothing.

// A pausedReader gives its text when it may.
type pausedReader struct {
	begun, may chan struct{}
	text       string
}

func (r *pausedReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	close(r.begun)
	<-r.may
	n := copy(p, r.text)
	r.text = ""
	return n, nil
}

// TestLateSetContent: content that is replaced while a message is being stored does
// not touch what is stored. It was taken out of the hands of the spool.
func TestLateSetContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bodies []string
		late := &pausedReader{begun: make(chan struct{}), may: make(chan struct{}), text: "late"}
		answer := make(chan error, 1)
		var sp *spool.Memory
		w := start(t, func(_ context.Context, m *Message) error {
			if err := m.SetContent(strings.NewReader("in time")); err != nil {
				return err
			}
			go func() { answer <- m.SetContent(late) }()
			<-late.begun
			sp.SetDelay(time.Second)
			return nil
		}, setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error {
			body, err := m.Open()
			if err != nil {
				return err
			}
			text, err := io.ReadAll(body)
			bodies = append(bodies, string(text))
			return err
		}}, wrap: func(m *spool.Memory) spool.Spool { sp = m; return m }})
		w.submit("a@example.com", nil, mail)
		time.Sleep(500 * time.Millisecond) // it is being stored
		close(late.may)
		if err := <-answer; err == nil {
			t.Error("SetContent of a message that its handler has returned")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(bodies) != 1 || bodies[0] != "in time" {
			t.Errorf("the next handler saw %q", bodies)
		}
	})
}

// TestLateMeta: what is written into the metadata of a message that is on its way does
// not go with it.
func TestLateMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept *Message
		block, seen := make(chan struct{}), []string{}
		w := start(t, func(_ context.Context, m *Message) error {
			kept = m
			return nil
		}, setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error {
			<-block
			seen = append(seen, m.Meta["late"])
			return nil
		}}, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}})
		w.submit("a@example.com", map[string]string{"x": "y"}, mail)
		w.submit("b@example.com", map[string]string{"x": "y"}, mail)
		synctest.Wait()
		kept.Meta["late"] = "yes"
		close(block)
		time.Sleep(time.Minute)
		synctest.Wait()
		if strings.Join(seen, "") != "" || len(seen) != 2 {
			t.Errorf("the next handler saw %q", seen)
		}
	})
}

// TestManyAtOnce: a Concurrency that means "no limit" is one.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp, received := spool.NewMemory(), time.Now().Add(-2*time.Hour)
		for range 3000 {
			w, err := sp.Create(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, mail)
			if err := w.Commit(t.Context(), &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "example.net", Class: "-", Attempts: 1,
				Due: received, Received: received, Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.net"}}}}); err != nil {
				t.Fatal(err)
			}
		}
		var done atomic.Int64
		start(t, func(context.Context, *Message) error { return nil }, setup{sp: sp.Reopen(),
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { done.Add(1); return nil }},
			opts:     Options{MemoryLimit: 1 << 10, Configure: func(string) Config { return Config{Concurrency: math.MaxInt} }}})
		time.Sleep(3 * time.Hour)
		if done.Load() != 3000 {
			t.Errorf("%d messages were delivered, want 3000", done.Load())
		}
	})
}

// TestInjectAfterEnd: no callback is started for a transaction that has ended.
func TestInjectAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		release := make(chan struct{})
		w := start(t, func(context.Context, *Message) error {
			calls.Add(1)
			<-release
			return nil
		})
		tx, entries := w.begin()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tx.Inject(ctx, false, entries...)
		tx.Abort()
		synctest.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d callbacks were started, want that before the end", calls.Load())
		}
		close(release)
	})
}

// TestKeepAfterAbort: what was aborted cannot be accepted.
func TestKeepAfterAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil })
		synctest.Wait() // it runs, so that Keep keeps in memory
		tx, entries := w.begin()
		tx.Abort()
		if err := tx.Keep(t.Context(), entries...); err == nil {
			t.Error("Keep after Abort answers nil")
		}
		if err := tx.Commit(t.Context(), entries...); err == nil {
			t.Error("Commit after Abort answers nil")
		}
	})
}

// TestFilterMistakes: a Filter that cannot be meant acts on nothing, and an ID that
// nobody has does not hide the others.
func TestFilterMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		w := start(t, func(context.Context, *Message) error { <-block; return nil })
		id := w.submit("a@example.com", nil, mail)
		for _, f := range []Filter{{MinAge: -time.Hour}, {MinAttempts: -1}} {
			if res, err := w.sched.Admin().Bounce(t.Context(), f, "oops"); err == nil {
				t.Errorf("%+v: %+v", f, res)
			}
		}
		res, err := w.sched.Admin().Hold(t.Context(), Filter{IDs: []spool.ID{{}, id}}, "test")
		if err != nil || res.RunningHere != 1 || res.Failed != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		close(block)
	})
}

// TestLargeOutcome: metadata that is as large as a spool takes does not keep a
// message from its end.
func TestLargeOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return Reject(550, "5.7.1 no") })
		w.submit("a@example.com", map[string]string{"big": strings.Repeat("\x01", maxOutcome)}, mail)
		w.wantTypes("Reception Bounce")
		if last := w.last(); len(last.Meta) != 0 || last.Response.Code != 550 {
			t.Errorf("%d metadata, %+v", len(last.Meta), last.Response)
		}
	})
}
