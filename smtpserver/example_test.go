package smtpserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/smtp"
	"regexp"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host that accepts mail, and looks at it later.
func Example() {
	seen := make(chan string)
	inject := func(ctx context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		seen <- fmt.Sprintf("%s for %s from %s", h.Get("Subject"), m.Envelope.Recipients[0].Address, m.Meta["ehlo_domain"])
		return nil
	}
	sp := spool.NewMemory() // boltspool.Open in earnest
	defer sp.Close()
	sched, err := queue.NewScheduler(sp, inject, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := smtpserver.NewListener(sched, &smtpserver.Options{DeferredQueue: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- l.Serve(ln) }()
	go func() { ran <- sched.Run(ctx) }()

	content := "Subject: hello\r\n\r\nGood morning.\r\n"
	err = smtp.SendMail(ln.Addr().String(), nil, "a@example.com", []string{"b@example.org"}, []byte(content))
	fmt.Println("sent:", err)
	fmt.Println("seen:", <-seen)

	fmt.Println("shut down:", l.Shutdown(context.Background()))
	fmt.Println("served:", errors.Is(<-served, smtpserver.ErrServerClosed))
	cancel()
	fmt.Println("stopped:", <-ran)
	// Output:
	// sent: <nil>
	// seen: hello for b@example.org from localhost
	// shut down: <nil>
	// served: true
	// stopped: <nil>
}

// It serves Options.Addr, or a listener that the host has: of systemd, or one on a free
// port as here. Shutdown ends it.
func ExampleListener_ListenAndServe() {
	sched, seen := scheduler()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := smtpserver.NewListener(sched, &smtpserver.Options{DeferredQueue: true, Listener: ln})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- l.ListenAndServe() }()
	go func() { ran <- l.Scheduler().Run(ctx) }()
	content := "Subject: hello\r\n\r\nHello.\r\n"
	err = smtp.SendMail(ln.Addr().String(), nil, "a@example.com", []string{"b@example.org"}, []byte(content))
	fmt.Println("sent:", err)
	<-seen

	stopping, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	fmt.Println("shut down:", l.Shutdown(stopping)) // senders first, then the scheduler
	fmt.Println("served:", <-served)
	cancel()
	fmt.Println("stopped:", <-ran)
	// Output:
	// sent: <nil>
	// shut down: <nil>
	// served: smtpserver: server closed
	// stopped: <nil>
}

// A Listener that anybody could reach is refused.
func ExampleNewListener() {
	sched, err := queue.NewScheduler(spool.NewMemory(), func(context.Context, *queue.Message) error { return nil }, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = smtpserver.NewListener(sched, &smtpserver.Options{Addr: "0.0.0.0:25", DeferredQueue: true})
	fmt.Println(err)
	// Output:
	// smtpserver: 0.0.0.0:25 can be reached from other machines, and this listener accepts mail before it is looked at: set Options.RelayHosts, Options.Auth or client certificates in Options.TLS to say who is trusted, or listen on loopback
}

// Hooks refuse what is known to be wrong, and set metadata.
func ExampleHooks() {
	known := regexp.MustCompile(`@example\.org$`)
	opts := &smtpserver.Options{
		DeferredQueue: true,
		Hooks: smtpserver.Hooks{
			Hello: func(ctx context.Context, s *smtpserver.Session) error {
				s.Meta["tenant"] = "acme"
				return nil
			},
			Rcpt: func(ctx context.Context, s *smtpserver.Session, rcpt *spool.Recipient) error {
				if !known.MatchString(rcpt.Address) {
					return queue.Reject(550, "5.1.1 %s is not a customer's", rcpt.Address)
				}
				return nil
			},
		},
	}
	s := &smtpserver.Session{Meta: map[string]string{}}
	fmt.Println(opts.Hooks.Hello(context.Background(), s), s.Meta["tenant"])
	fmt.Println(opts.Hooks.Rcpt(context.Background(), s, &spool.Recipient{Address: "a@example.com"}))
	// Output:
	// <nil> acme
	// 550 5.1.1 a@example.com is not a customer's
}
