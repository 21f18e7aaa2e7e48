package deferredtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func accept(context.Context, *deferred.Message) error { return nil }

func send(t *testing.T, srv *deferredtest.Server, to ...string) {
	t.Helper()
	if err := srv.Send("a@example.com", to, msg); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

func types(records []queue.Record) []queue.RecordType {
	var all []queue.RecordType
	for _, r := range records {
		all = append(all, r.Type)
	}
	return all
}

// What each verdict of a policy comes to, at once and after a day.
func TestVerdicts(t *testing.T) {
	const failure = queue.TransientFailure
	broken := errors.New("broken")
	tests := []struct {
		name   string
		inject func(m *deferred.Message) error
		atOnce []queue.RecordType
		later  []queue.RecordType
		code   int // of the last record
	}{
		{"nil", func(*deferred.Message) error { return nil },
			[]queue.RecordType{queue.Reception, queue.Delivery}, nil, 250},
		{"Reject", func(*deferred.Message) error { return deferred.Reject(554, "5.7.1 no") },
			[]queue.RecordType{queue.Reception, queue.Bounce}, nil, 554},
		{"Drop", func(*deferred.Message) error { return deferred.Drop("spam") },
			[]queue.RecordType{queue.Reception, queue.AdminBounce}, nil, 0},
		{"Hold", func(*deferred.Message) error { return deferred.Hold("to be looked at") },
			[]queue.RecordType{queue.Reception, failure}, nil, 0},
		{"RetryAfter", func(m *deferred.Message) error {
			if m.Attempt == 1 {
				return deferred.RetryAfter(90*time.Minute, broken)
			}
			return nil
		}, []queue.RecordType{queue.Reception, failure}, []queue.RecordType{queue.Delivery}, 250},
		{"error", func(m *deferred.Message) error {
			if m.Attempt < 3 {
				return broken
			}
			return nil
		}, []queue.RecordType{queue.Reception, failure}, []queue.RecordType{failure, queue.Delivery}, 250},
		{"panic", func(m *deferred.Message) error {
			if m.Attempt == 1 {
				panic("a mistake in the policy")
			}
			return nil
		}, []queue.RecordType{queue.Reception, failure}, []queue.RecordType{queue.Delivery}, 250},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := deferredtest.Start(t, func(_ context.Context, m *deferred.Message) error { return tt.inject(m) }, nil)
				send(t, srv, "b@example.net")
				if got := types(srv.Records()); !slices.Equal(got, tt.atOnce) {
					t.Fatalf("after Send: %v, want %v", got, tt.atOnce)
				}
				srv.Advance(24 * time.Hour)
				all := srv.Records()
				if got, want := types(all), slices.Concat(tt.atOnce, tt.later); !slices.Equal(got, want) {
					t.Errorf("after a day: %v, want %v", got, want)
				}
				if got := all[len(all)-1].Response.Code; tt.code != 0 && got != tt.code {
					t.Errorf("the last record says %d, want %d", got, tt.code)
				}
			})
		})
	}
}

// Retries are where the documentation says, to the nanosecond.
func TestAdvanceIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		srv := deferredtest.Start(t, func(context.Context, *deferred.Message) error {
			calls++
			return errors.New("broken")
		}, nil)
		send(t, srv, "b@example.net")
		for i, d := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			srv.Advance(d - 1)
			if calls != i+1 {
				t.Fatalf("%d calls before %v had passed, want %d", calls, d, i+1)
			}
			srv.Advance(1)
			if calls != i+2 {
				t.Fatalf("%d calls after %v, want %d", calls, d, i+2)
			}
		}
		srv.Advance(0)
		if calls != 5 {
			t.Errorf("%d calls, want 5", calls)
		}
	})
}

// A callback that waits is not waited for by Send, but by Advance.
func TestCallbackThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, func(ctx context.Context, _ *deferred.Message) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, nil)
		send(t, srv, "b@example.net")
		if got := srv.Records(queue.Delivery); len(got) != 0 {
			t.Errorf("delivered before the callback returned: %v", got)
		}
		srv.Advance(time.Minute)
		if got := srv.Records(queue.Delivery); len(got) != 1 {
			t.Errorf("%d deliveries after the callback returned", len(got))
		}
		send(t, srv, "c@example.net") // the end of the test cancels this one
	})
}

// What the callback sees is what an SMTP client sent from loopback.
func TestMessageAsReceived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var content string
		var meta map[string]string
		var env spool.Envelope
		srv := deferredtest.Start(t, func(_ context.Context, m *deferred.Message) error {
			body, err := m.Open()
			if err != nil {
				return err
			}
			b, err := io.ReadAll(body)
			content, meta, env = string(b), m.Meta, m.Envelope.Clone()
			return err
		}, nil)
		if err := srv.Send("å@example.com", []string{"b@example.net"}, "Subject: hello\n\n.dot\r\nlast"); err != nil {
			t.Fatal(err)
		}
		if want := "\r\nSubject: hello\r\n\r\n.dot\r\nlast\r\n"; !strings.HasSuffix(content, want) || !strings.Contains(content, "Received:") {
			t.Errorf("content %q, want trace fields and %q", content, want)
		}
		if env.Sender != "å@example.com" || !env.SMTPUTF8 || env.Recipients[0].Address != "b@example.net" {
			t.Errorf("envelope %+v", env)
		}
		for name, want := range map[string]string{
			"received_from": "127.0.0.1:49152", "received_via": "127.0.0.1:2525",
			"reception_protocol": "ESMTP", "hostname": "localhost",
		} {
			if meta[name] != want {
				t.Errorf("metadata %s is %q, want %q", name, meta[name], want)
			}
		}
	})
}

func TestSendErrors(t *testing.T) {
	refuse := func(context.Context, *deferred.Message) error { return deferred.Reject(554, "5.7.1 no") }
	noFriend := deferred.Options{DeferredQueue: true}
	noFriend.Hooks.Rcpt = func(_ context.Context, _ *deferred.Session, r *deferred.Recipient) error {
		if r.Address == "b@example.net" {
			return deferred.Reject(550, "5.1.1 unknown")
		}
		return nil
	}
	tests := []struct {
		name string
		opts *deferred.Options
		to   []string
		code int
	}{
		{"hook", &noFriend, []string{"c@example.net", "b@example.net"}, 550},
		{"no recipient", nil, nil, 503},
		{"callback before the reply", &deferred.Options{}, []string{"b@example.net"}, 554},
		{"LMTP", &deferred.Options{LMTP: true}, []string{"b@example.net"}, 554},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := deferredtest.Start(t, refuse, tt.opts)
				err := srv.Send("a@example.com", tt.to, msg)
				var reply *smtp.SMTPError
				if !errors.As(err, &reply) || reply.Code != tt.code {
					t.Errorf("Send returned %v, want a *smtp.SMTPError %d", err, tt.code)
				}
				if got := srv.Records(queue.Reception); len(got) != 0 {
					t.Errorf("something was received: %v", got)
				}
			})
		})
	}
}

func TestSendConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, accept, nil)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := srv.Send("a@example.com", []string{fmt.Sprintf("%d@example.net", i)}, msg); err != nil {
					t.Error(err)
				}
			})
		}
		srv.Advance(time.Second)
		wg.Wait()
		if got := srv.Records(queue.Delivery); len(got) != 20 {
			t.Errorf("%d deliveries, want 20", len(got))
		}
	})
}

func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, accept, nil)
		conn, err := srv.Dial()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "220 localhost ") {
			t.Errorf("greeting %q, %v", line, err)
		}
		// Left open: the end of the test must not wait for it.
	})
}

// A message passes the policy and then the handler of its queue, each with
// retries of its own.
func TestServeRebinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		sched, err := queue.NewScheduler(sp, func(_ context.Context, m *deferred.Message) error {
			m.Meta["tenant"] = "acme"
			return nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var attempts []string
		if err := sched.Handle("acme@example.net", func(_ context.Context, m *deferred.Message) error {
			attempts = append(attempts, fmt.Sprint(m.Queue, " ", m.Attempt))
			if m.Attempt == 1 {
				return errors.New("connection refused")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		srv := deferredtest.Serve(t, sched, nil)
		if srv.Spool != sp || srv.Scheduler() != sched {
			t.Error("Serve made a spool or a Scheduler of its own")
		}
		send(t, srv, "b@example.net")
		srv.Advance(time.Hour)
		if got := fmt.Sprint(attempts); got != "[acme@example.net 1 acme@example.net 2]" {
			t.Errorf("attempts %s", got)
		}
		want := []queue.RecordType{queue.Reception, queue.Delivery, queue.TransientFailure, queue.Delivery}
		if got := types(srv.Records()); !slices.Equal(got, want) {
			t.Errorf("records %v, want %v", got, want)
		}
		if n := sched.Stats().Scheduled; n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
}

// A spool that the test makes fail stops the server as it stops a host, and does
// not fail the test.
func TestSpoolFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, accept, nil)
		srv.Spool.FailSync()
		var reply *smtp.SMTPError
		if err := srv.Send("a@example.com", []string{"b@example.net"}, msg); !errors.As(err, &reply) || reply.Code != 451 {
			t.Errorf("Send returned %v, want 451", err)
		}
		err := srv.Send("a@example.com", []string{"b@example.net"}, msg)
		if !errors.Is(err, spool.ErrFailed) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after the end of the server returned %v", err)
		}
	})
}

// A fatalTB is a test that can fail without failing this one.
type fatalTB struct {
	testing.TB
	failure string
}

func (f *fatalTB) Fatal(args ...any) {
	f.failure = fmt.Sprint(args...)
	runtime.Goexit()
}

func (f *fatalTB) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failure returns what f fails its test with.
func failure(t testing.TB, f func(t testing.TB)) string {
	tb := &fatalTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(tb)
	}()
	<-done
	return tb.failure
}

func TestOutsideOfBubble(t *testing.T) {
	for name, f := range map[string]func(t testing.TB){
		"Start": func(t testing.TB) { deferredtest.Start(t, accept, nil) },
		"Serve": func(t testing.TB) { deferredtest.Serve(t, nil, nil) },
	} {
		got := failure(t, f)
		if !strings.Contains(got, name+" must be called inside synctest.Test") {
			t.Errorf("%s failed with %q", name, got)
		}
	}
}

func TestMisuse(t *testing.T) {
	scheduler := func(t testing.TB) *queue.Scheduler {
		s, err := queue.NewScheduler(spool.NewMemory(), accept, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tests := []struct {
		name string
		f    func(t testing.TB)
		want string
	}{
		{"no callback", func(t testing.TB) { deferredtest.Start(t, nil, nil) }, "the inject callback is nil"},
		{"no scheduler", func(t testing.TB) { deferredtest.Serve(t, nil, nil) }, "the Scheduler is nil"},
		{"options", func(t testing.TB) { deferredtest.Start(t, accept, &deferred.Options{DeferredSpool: true}) }, "DeferredSpool"},
		{"time", func(t testing.TB) { deferredtest.Start(t, accept, nil).Advance(-1) }, "time cannot go back"},
		{"scheduler that ran", func(t testing.TB) {
			s := scheduler(t)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := s.Run(ctx); err != nil {
				t.Fatal(err)
			}
			deferredtest.Serve(t, s, nil)
		}, "runs already"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := failure(t, tt.f); !strings.Contains(got, tt.want) {
					t.Errorf("failed with %q, want %q", got, tt.want)
				}
			})
		})
	}
}
