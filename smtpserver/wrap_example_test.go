package smtpserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	netsmtp "net/smtp"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A hostSession is one that a host had before.
type hostSession struct{}

func (hostSession) Mail(string, *smtp.MailOptions) error { return nil }
func (hostSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to == "nobody@example.org" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody here"}
	}
	return nil
}
func (hostSession) Data(io.Reader) error    { return errors.ErrUnsupported } // is not called any more
func (hostSession) Reset()                  {}
func (hostSession) Logout() error           { return nil }
func (hostSession) Meta() map[string]string { return map[string]string{"tenant": "acme"} }

func newHostSession(*smtp.Conn) (smtp.Session, error) { return hostSession{}, nil }

// A host keeps its go-smtp server, and what its sessions say of MAIL and RCPT.
func ExampleWrap() {
	sched, seen := scheduler()
	be, err := smtpserver.Wrap(smtp.BackendFunc(newHostSession), sched, &smtpserver.Options{DeferredQueue: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := smtp.NewServer(be)
	srv.Domain = "mx.example.com"
	serveAndSend(sched, srv, nil, seen)
	// Output:
	// to nobody@example.org: 550 "5.1.1 nobody here"
	// to a@example.org: <nil>
	// seen: a@example.org of acme
}

// The listener reads content past go-smtp, and its Shutdown waits for
// transactions only.
func ExampleWrapListener() {
	sched, seen := scheduler()
	opts := &smtpserver.Options{DeferredQueue: true}
	be, err := smtpserver.Wrap(smtp.BackendFunc(newHostSession), sched, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := smtp.NewServer(be)
	srv.Domain = "mx.example.com"
	serveAndSend(sched, srv, opts, seen)
	// Output:
	// to nobody@example.org: 550 "5.1.1 nobody here"
	// to a@example.org: <nil>
	// seen: a@example.org of acme
	// shut down: <nil>
}

// Shutdown lets transactions end that are under way, and Accept says that it is over.
func ExampleWrappedListener_Shutdown() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	wrapped, err := smtpserver.WrapListener(ln, &smtpserver.Options{DeferredQueue: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	accepted := make(chan error, 1)
	go func() { // what the Serve of a go-smtp server does
		_, err := wrapped.Accept()
		accepted <- err
	}()
	fmt.Println("shut down:", wrapped.Shutdown(context.Background()))
	fmt.Println("accepted:", errors.Is(<-accepted, net.ErrClosed))
	// Output:
	// shut down: <nil>
	// accepted: true
}

func scheduler() (*queue.Scheduler, chan string) {
	seen := make(chan string, 10)
	sched, err := queue.NewScheduler(spool.NewMemory(), func(_ context.Context, m *queue.Message) error {
		seen <- m.Envelope.Recipients[0].Address + " of " + m.Meta["tenant"]
		return nil
	}, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return sched, seen
}

// serveAndSend serves on loopback, with WrapListener if there are options for it.
func serveAndSend(sched *queue.Scheduler, srv *smtp.Server, opts *smtpserver.Options, seen chan string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	shutdown := func() { srv.Close() }
	if opts != nil {
		wrapped, err := smtpserver.WrapListener(ln, opts)
		if err != nil {
			fmt.Println(err)
			return
		}
		ln, shutdown = wrapped, func() { fmt.Println("shut down:", wrapped.Shutdown(context.Background())) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	go func() { ran <- sched.Run(ctx) }()
	for _, to := range []string{"nobody@example.org", "a@example.org"} {
		err := netsmtp.SendMail(ln.Addr().String(), nil, "b@example.com", []string{to}, []byte("Subject: hello\r\n\r\nHello.\r\n"))
		fmt.Printf("to %s: %v\n", to, err)
	}
	fmt.Println("seen:", <-seen)
	shutdown()
	<-served
	cancel()
	<-ran
}
