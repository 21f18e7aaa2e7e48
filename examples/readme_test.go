// Package examples_test keeps README.md true: its Go code is compiled here, and
// its test of a policy runs.
package examples_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/deferredtest"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func serve(ctx context.Context) error {
	sp, err := boltspool.Open("spool", nil) // a directory
	if err != nil {
		return err
	}
	defer sp.Close()
	sched, err := queue.NewScheduler(sp, inject, nil)
	if err != nil {
		return err
	}
	l, err := deferred.NewListener(sched, &deferred.Options{DeferredQueue: true})
	if err != nil {
		return err
	}
	return deferred.Run(ctx, l) // 127.0.0.1:2525, until ctx is done
}

// inject is called after the 250, until it returns nil or a verdict that ends the message.
func inject(ctx context.Context, m *deferred.Message) error {
	key, err := lookUpKey(ctx, m.Envelope.Sender)
	if errors.Is(err, errNoCustomer) {
		return deferred.Reject(550, "5.7.1 %s is no customer", m.Envelope.Sender)
	}
	if err != nil {
		return err // tried again in 1 minute, 2, 4, ... for a week
	}
	return sign(m, key)
}

var _ = serve // compiled; it would listen on a fixed port

var errNoCustomer = errors.New("no such customer")

// lookUpKey stands for what a host asks its database.
func lookUpKey(ctx context.Context, sender string) (string, error) {
	if !strings.HasSuffix(sender, "@example.com") {
		return "", errNoCustomer
	}
	if time.Now().Before(databaseUp) {
		return "", errors.New("connection refused")
	}
	return "key1", ctx.Err()
}

// databaseUp is when the database of the tests works again.
var databaseUp time.Time

func breakDatabase(t *testing.T, d time.Duration) {
	databaseUp = time.Now().Add(d)
	t.Cleanup(func() { databaseUp = time.Time{} })
}

func sign(m *deferred.Message, key string) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	h.Prepend("X-Signature", key)
	return nil
}

// openRecords has records written to a directory; close the log after Run has returned.
func openRecords(dir string, opts *queue.Options) (*recordlog.Log, error) {
	log, err := recordlog.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	opts.Record, opts.RecordHeaders = log.Record, []string{"Subject", "X-*"}
	return log, nil
}

// withNotices has senders told of failures, and of what waits for more than a day.
func withNotices(opts *queue.Options) {
	opts.Notices = &queue.NoticeOptions{ReportingMTA: "mail.example.org", DelayAfter: 24 * time.Hour}
}

// configure says how a queue is run.
func configure(name string) queue.Config {
	if strings.HasSuffix(name, "@example.net") || name == "example.net" {
		return queue.Config{Concurrency: 4, Rate: queue.Rate{N: 100, Per: time.Minute}} // "100/m" for ParseRate
	}
	return queue.Config{Weights: map[string]int{"tenant-a": 3}}
}

// giveUp ends what waits for a domain, and leaves another queue alone for an hour.
func giveUp(ctx context.Context, sched *queue.Scheduler) error {
	admin := sched.Admin()
	old := queue.Filter{Domain: "example.net", MinAge: 48 * time.Hour}
	if _, err := admin.Bounce(ctx, old, "the domain is gone"); err != nil {
		return err
	}
	until := time.Now().Add(time.Hour)
	return admin.Suspend(ctx, "example.org", queue.SuspendOptions{Reason: "maintenance", Until: until})
}

func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breakDatabase(t, 72*time.Hour)
		sp := spool.NewMemory()
		sched, err := queue.NewScheduler(sp, inject, &queue.Options{Configure: configure, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sched.Run(ctx) }()
		defer func() {
			stop()
			if err := errors.Join(<-done, sp.Close()); err != nil {
				t.Error(err)
			}
		}()
		for _, rcpt := range []string{"ada@example.net", "bob@example.org"} {
			env := spool.Envelope{Sender: "app@example.com", Recipients: []spool.Recipient{{Address: rcpt}}}
			if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hello\r\n\r\nHello.\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(49 * time.Hour)
		if err := giveUp(ctx, sched); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := sched.Stats(); st.Outcomes[queue.AdminBounce] != 1 || st.Scheduled != 1 {
			t.Errorf("%d were bounced, and %d wait, want one of each", st.Outcomes[queue.AdminBounce], st.Scheduled)
		}
	})
}

func TestOpenRecords(t *testing.T) {
	dir := t.TempDir()
	var opts queue.Options
	log, err := openRecords(dir, &opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []queue.RecordType{queue.Reception, queue.Delivery} {
		if err := opts.Record(t.Context(), queue.Record{Type: typ, Sender: "a@example.com"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range recordlog.Read(dir, nil) {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 2 || len(opts.RecordHeaders) != 2 {
		t.Errorf("%d records", n)
	}
}

func TestWithNotices(t *testing.T) {
	var opts queue.Options
	withNotices(&opts)
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &opts)
	if err != nil || sched == nil || opts.Notices.DelayAfter != 24*time.Hour {
		t.Errorf("%+v, %v", opts.Notices, err)
	}
}

func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breakDatabase(t, time.Hour)
		srv := deferredtest.Start(t, inject, nil)
		err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: hello\n\nHello.\n")
		if err != nil {
			t.Fatal(err) // the database is down, and the answer is 250
		}
		srv.Advance(2 * time.Hour) // takes milliseconds
		if n := len(srv.Records(queue.TransientFailure)); n != 6 {
			t.Errorf("%d attempts failed in the first hour, want 6", n)
		}
		if n := len(srv.Records(queue.Delivery)); n != 1 {
			t.Errorf("%d messages passed, want 1", n)
		}
	})
}

func TestInjectRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deferredtest.Start(t, inject, nil)
		if err := srv.Send("x@example.org", []string{"ada@example.net"}, "Subject: hello\n\nHello.\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Minute)
		bounces := srv.Records(queue.Bounce)
		if len(bounces) != 1 || bounces[0].Response.Content != "x@example.org is no customer" {
			t.Errorf("bounces: %+v", bounces)
		}
	})
}

// The Go code of README.md is code of this file, or of an example, line for line.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, name := range []string{"readme_test.go", "existing/after/main.go"} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, code...)
	}
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("README.md has no Go code")
	}
	for _, block := range blocks {
		code, _, ok := strings.Cut(block, "```")
		if !ok || !strings.Contains(string(source), code) {
			t.Errorf("this code of README.md is not in examples:\n%s", code)
		}
		if n := strings.Count(code, "\n"); n > 30 {
			t.Errorf("%d lines are too many to read at a glance:\n%s", n, code)
		}
	}
}
