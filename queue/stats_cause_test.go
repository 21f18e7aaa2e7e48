package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Every failure that is tried again is counted, with its cause.
func TestRetryCauses(t *testing.T) {
	peer := func(code int) error { return fmt.Errorf("relay: %w", &smtp.SMTPError{Code: code, Message: "x"}) }
	is := func(err error) Handler { return func(context.Context, *Message) error { return err } }
	tests := []struct {
		cause   RetryCause
		handler Handler
	}{
		{RetryRouting, func(_ context.Context, m *Message) error { m.Meta["queue"] = "nowhere"; return nil }},
		{RetryRouting, func(_ context.Context, m *Message) error { m.Meta["queue"] = Deferred; return nil }},
		{RetryInvalid, func(_ context.Context, m *Message) error { m.Envelope.Recipients = nil; return nil }},
		{RetryInvalid, func(_ context.Context, m *Message) error {
			h, err := m.Header()
			if err == nil {
				h.Set("bad name", "x")
			}
			return err
		}},
		{RetryInvalid, is(Split(nil))},
		{RetryPanic, func(context.Context, *Message) error { panic(spool.ErrFull) }},
		{RetryExited, func(context.Context, *Message) error { runtime.Goexit(); return nil }},
		{RetryDeadline, func(ctx context.Context, _ *Message) error { <-ctx.Done(); return Reject(451, "late") }},
		{RetryDeadline, func(ctx context.Context, _ *Message) error { time.Sleep(defaultTimeout + time.Minute); return nil }},
		{RetryReply4xx, is(Reject(451, "x"))},
		{RetryReply4xx, is(FromSMTP(peer(421)))},
		{RetryReply4xx, is(peer(421))},
		{RetryReply4xx, is(RetryAfter(time.Minute, peer(421)))},
		{RetryReply5xx, is(peer(550))},
		{RetryReply5xx, is(FromSMTP(peer(535)))},
		{RetrySpool, is(fmt.Errorf("reading: %w", spool.ErrNotFound))},
		{RetrySpool, is(&spool.CorruptError{Part: "body", Err: errors.New("x")})},
		{RetryAsked, is(RetryAfter(time.Minute, nil))},
		{RetryAsked, is(RetryAfter(time.Minute, errors.New("x")))},
		{RetryOther, is(errors.New("x"))},
		{RetryOther, is(&nastyError{})},
		{"", is(Hold("x"))},
		{"", is(Drop("x"))},
		{"", is(Reject(550, "x"))},
		{"", is(nil)},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, tt.cause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				called := false
				w := start(t, func(ctx context.Context, m *Message) error {
					if called {
						return Hold("once is enough")
					}
					called = true
					return tt.handler(ctx, m)
				}, setup{handlers: map[string]Handler{"example.com": is(nil)}})
				w.storeFor("b@example.com")
				time.Sleep(time.Hour)
				synctest.Wait()
				got := w.sched.Stats().Retries
				if want := min(len(tt.cause), 1); got[tt.cause] != int64(want) || len(got) != want {
					t.Errorf("retries %v, want one by %q", got, tt.cause)
				}
			})
		})
	}
}

// A message that has killed processes counts by that.
func TestRetryOfPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		storeInterrupted(t, sp)
		w := start(t, func(context.Context, *Message) error { return Drop("run after the backoff") }, setup{sp: sp})
		synctest.Wait()
		if got := w.sched.Stats().Retries; got[RetryInterrupted] != 1 || len(got) != 1 {
			t.Errorf("retries %v, want one", got)
		}
	})
}

// storeInterrupted stores a message whose handler may have killed two processes.
func storeInterrupted(t *testing.T, sp *spool.Memory) {
	t.Helper()
	body, err := sp.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Body: body.ID(), Queue: Deferred, Class: "-", Interrupted: poisonous,
		Due: time.Now(), Received: time.Now()}
	if errs := sp.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: e, Stage: body}}); errs != nil {
		t.Fatal(errs)
	}
}
