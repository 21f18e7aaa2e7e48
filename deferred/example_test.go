package deferred_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/smtp"
	"strings"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host in full. In production the spool is one of boltspool.Open, and Addr says
// where to listen.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	inject := func(_ context.Context, m *deferred.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		fmt.Printf("attempt %d: %q for %s\n", m.Attempt, h.Get("Subject"), m.Envelope.Recipients[0].Address)
		stop() // one message is enough for an example
		return nil
	}

	sp := spool.NewMemory()
	defer sp.Close()
	sched, err := queue.NewScheduler(sp, inject, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := deferred.NewListener(sched, &deferred.Options{DeferredQueue: true, Listener: ln})
	if err != nil {
		log.Fatal(err)
	}

	sent := make(chan error, 1)
	go func() {
		sent <- smtp.SendMail(ln.Addr().String(), nil, "a@example.com", []string{"b@example.net"},
			[]byte("Subject: hello\r\n\r\nA line.\r\n"))
	}()
	if err := deferred.Run(ctx, l); err != nil {
		log.Fatal(err)
	}
	<-sent
	// Output: attempt 1: "hello" for b@example.net
}

// Verdicts are errors. Everything that is none of them is tried again.
func ExampleReject() {
	err := deferred.Reject(550, "5.7.1 no key for %s", "example.com")
	fmt.Println(err)
	// Output: 550 5.7.1 no key for example.com
}

// NewListener opens nothing yet. What is not safe it refuses, and says what to do.
func ExampleNewListener() {
	inject := func(context.Context, *deferred.Message) error { return nil }
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, err = deferred.NewListener(sched, &deferred.Options{DeferredQueue: true})
	fmt.Println(err)
	_, err = deferred.NewListener(sched, &deferred.Options{DeferredQueue: true, Addr: "0.0.0.0:2525"})
	fmt.Println(err)
	// Output:
	// <nil>
	// smtpserver: 0.0.0.0:2525 can be reached from other machines, and this listener accepts mail before it is looked at: set Options.RelayHosts, Options.Auth or client certificates in Options.TLS to say who is trusted, or listen on loopback
}

// Run serves and works until its context is done, and then stops in order.
func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a host
	defer stop()
	inject := func(context.Context, *deferred.Message) error {
		fmt.Println("inject")
		stop()
		return nil
	}
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	env := spool.Envelope{Sender: "a@example.com", Recipients: []spool.Recipient{{Address: "b@example.net"}}}
	if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hello\r\n\r\nHi\r\n")); err != nil {
		log.Fatal(err)
	}
	l, err := deferred.NewListener(sched, &deferred.Options{DeferredQueue: true, Addr: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(deferred.Run(ctx, l))
	// Output:
	// inject
	// <nil>
}
