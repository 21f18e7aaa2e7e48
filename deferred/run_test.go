package deferred_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/internal/pipenet"
	"github.com/deferredqueue/deferredqueue/spool"
)

func TestRunStopsListenersFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		l, ln := b.listen(t)
		r := run(l)
		idle, busy := dial(t, ln), dial(t, ln)
		busy.data("during@example.net")

		r.cancel()
		<-ln.Done()
		idle.want("421")
		if _, err := ln.Dial(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a client came in after the stop: %v", err)
		}
		// The transaction is still open: the scheduler must be running.
		if _, err := b.sched.Submit(t.Context(), envelope("submitted@example.net"), nil, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
			t.Errorf("Submit while a client is in a transaction: %v", err)
		}
		if got := <-b.got; got != "submitted@example.net" {
			t.Errorf("the callback saw %s", got)
		}
		busy.end("250")
		if err := <-r.done; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
		b.injectedOrStored(t, "during@example.net")
	})
}

func envelope(rcpt string) spool.Envelope {
	return spool.Envelope{Sender: "a@example.com", Recipients: []spool.Recipient{{Address: rcpt}}}
}

// injectedOrStored fails unless the message for rcpt was seen by the callback,
// or is there when the spool is next opened.
func (b *backend) injectedOrStored(t *testing.T, rcpt string) {
	t.Helper()
	select {
	case got := <-b.got:
		if got != rcpt {
			t.Errorf("the callback saw %s, want %s", got, rcpt)
		}
		return
	default:
	}
	for e, err := range b.sp.Reopen().Scan(t.Context(), spool.Query{}) {
		if err == nil && e.Envelope.Recipients[0].Address == rcpt {
			return
		}
	}
	t.Errorf("the message for %s was answered 250 and is lost", rcpt)
}

// Listeners stop at once, not one after the other, and clients that take too
// long are cut off.
func TestRunStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		first, ln1 := b.listen(t)
		second, ln2 := b.listen(t)
		r := run(first, second)
		dial(t, ln1).data("b@example.net")
		dial(t, ln2).data("c@example.net")
		begin := time.Now()
		r.stop(t)
		if took := time.Since(begin); took < 29*time.Second || took > 31*time.Second {
			t.Errorf("the stop took %v, want the ShutdownTimeout of 30s, once", took)
		}
	})
}

// Run returns after the callbacks that it started.
func TestRunWaitsForCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, ended := make(chan struct{}), false
		b := newBackend(t)
		b.inject = func(context.Context, *deferred.Message) error {
			close(began)
			time.Sleep(3 * time.Second)
			ended = true
			return nil
		}
		l, ln := b.listen(t)
		r := run(l)
		c := dial(t, ln)
		c.data("b@example.net")
		c.end("250")
		<-began
		r.stop(t)
		if !ended {
			t.Error("Run returned before the callback did")
		}
	})
}

func TestRunListenersShareScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		first, ln1 := b.listen(t)
		second, ln2 := b.listen(t)
		r := run(first, second)
		for _, ln := range []*pipenet.Listener{ln1, ln2} {
			c := dial(t, ln)
			c.data("b@example.net")
			c.end("250")
			b.wantInjected(t, "b@example.net")
		}
		r.stop(t)
	})
}

func (b *backend) wantInjected(t *testing.T, rcpt string) {
	t.Helper()
	select {
	case got := <-b.got:
		if got != rcpt {
			t.Errorf("the callback saw %s, want %s", got, rcpt)
		}
	case <-time.After(time.Minute):
		t.Errorf("the callback did not see the message for %s", rcpt)
	}
}

func TestRunSchedulers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newBackend(t), newBackend(t)
		l1, ln1 := one.listen(t)
		l2, ln2 := two.listen(t)
		r := run(l1, l2)
		c1, c2 := dial(t, ln1), dial(t, ln2)
		c1.data("one@example.net")
		c2.data("two@example.net")
		c2.end("250")
		c1.end("250")
		one.wantInjected(t, "one@example.net")
		two.wantInjected(t, "two@example.net")
		r.stop(t)
	})
}

// One spool that fails stops everything, and Run says so.
func TestRunSpoolFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newBackend(t), newBackend(t)
		l1, ln1 := bad.listen(t)
		l2, ln2 := good.listen(t)
		r := run(l1, l2)
		c1, c2 := dial(t, ln1), dial(t, ln2)
		c2.data("good@example.net")
		c1.data("bad@example.net")
		bad.sp.FailSync()
		c1.end("451")
		<-ln1.Done()
		<-ln2.Done()
		c2.end("250")
		if err := <-r.done; !errors.Is(err, spool.ErrFailed) {
			t.Errorf("Run returned %v, want spool.ErrFailed", err)
		}
		good.injectedOrStored(t, "good@example.net")
	})
}

func TestRunCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		good, ln := b.listen(t)
		bad := b.listener(t, &deferred.Options{Addr: taken.Addr().String()})
		err := deferred.Run(t.Context(), good, bad)
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "listen" || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("Run returned %v, want that %s is in use", err, taken.Addr())
		}
		if _, err := ln.Dial(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the other listener still accepts: %v", err)
		}
		if err := b.sched.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs once") {
			t.Errorf("the scheduler was not run by Run: %v", err)
		}
	})
}

// What a host does to one of its listeners is its own business, until none is left.
func TestRunListenersEndedByHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		first, ln1 := b.listen(t)
		second, ln2 := b.listen(t)
		r := run(first, second)
		dial(t, ln1).conn.Close()
		if err := first.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := dial(t, ln2)
		c.data("b@example.net")
		c.end("250")
		b.wantInjected(t, "b@example.net")
		c.conn.Close()
		second.Close()
		if err := <-r.done; !errors.Is(err, deferred.ErrServerClosed) {
			t.Errorf("Run returned %v, want ErrServerClosed", err)
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t)
		l, _ := b.listen(t)
		run(l).stop(t)
		again, ln := b.listen(t)
		if err := deferred.Run(t.Context(), again); err == nil || !strings.Contains(err.Error(), "runs once") {
			t.Errorf("Run with a Scheduler that ran before: %v", err)
		}
		<-ln.Done()
		if err := deferred.Run(t.Context(), l); err == nil {
			t.Error("Run with a Listener that was shut down returned nil")
		}
	})
}

func TestRunCancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l, ln := newBackend(t).listen(t)
		if err := deferred.Run(ctx, l); err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
		<-ln.Done()
	})
}

func TestRunArguments(t *testing.T) {
	b := newBackend(t)
	l, _ := b.listen(t)
	tests := []struct {
		name      string
		listeners []*deferred.Listener
		want      string
	}{
		{"none", nil, "no listener"},
		{"nil", []*deferred.Listener{l, nil}, "listener 2 of 2 is nil"},
		{"twice", []*deferred.Listener{l, l}, "listener 2 of 2 was given before"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := deferred.Run(t.Context(), tt.listeners...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run returned %v, want %q", err, tt.want)
			}
		})
	}
}
