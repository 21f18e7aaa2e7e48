// Command policy is a mail service whose policy does what most do: it looks up a
// tenant, rejects, holds and puts off, signs with DKIM, and says to which queue a
// message goes on. Its tests, policy_test.go above all, show how to test that.
//
//	go run ./examples/policy [-once] [-addr host:port] [-spool dir] [-key file.pem]
//
// With -once it sends itself some mail, shows what became of it, and ends. What it
// does not do is deliver: see examples/relay.
package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/smtp"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "policy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("policy", flag.ContinueOnError)
	fs.SetOutput(out)
	once := fs.Bool("once", false, "send some mail, show what becomes of it, and end")
	addr := fs.String("addr", "127.0.0.1:2525", "address to listen on")
	dir := fs.String("spool", filepath.Join(os.TempDir(), "policy-spool"), "directory of the spool")
	keyFile := fs.String("key", "", "private key of acme in PEM, RSA or Ed25519 (default a new one)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	p, err := newPolicy(*keyFile)
	if err != nil {
		return err
	}
	sp, err := boltspool.Open(*dir, &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer sp.Close()
	ended := make(chan struct{}, 100)
	sched, err := queue.NewScheduler(sp, p.inject, &queue.Options{
		Logger:  slog.New(slog.DiscardHandler),
		Notices: &queue.NoticeOptions{ReportingMTA: hostname},
		Record: func(_ context.Context, r queue.Record) error {
			fmt.Fprintf(out, "%-16s %-40s %v: %d %s\n", r.Type, r.Queue, r.Recipients, r.Response.Code, r.Response.Content)
			if *once && r.Type != queue.Reception && !(r.Type == queue.Delivery && r.Queue == deferred.Queue) {
				ended <- struct{}{}
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	if err := sched.Handle("*", deliver(out)); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	l, err := deferred.NewListener(sched, &deferred.Options{DeferredQueue: true, Listener: ln, Hostname: hostname})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *once {
		go demonstrate(ln.Addr().String(), out, ended, cancel)
	} else {
		fmt.Fprintf(out, "listening on %s; try: X-Tenant: acme, from @acme.example\n", ln.Addr())
	}
	return deferred.Run(ctx, l)
}

// hostname is also the domain of the notices that the service itself sends.
const hostname = "policy.example"

// newPolicy has one tenant that is fine, one that is under review, and the service
// itself, each with a key of its own.
func newPolicy(keyFile string) (*policy, error) {
	tenants := static{
		"acme":     {name: "acme", domains: []string{"acme.example"}},
		"newcomer": {name: "newcomer", domains: []string{"newcomer.example"}, review: true},
		ownTenant:  {name: ownTenant, domains: []string{hostname}},
	}
	for _, t := range tenants {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		t.key = key{domain: t.domains[0], selector: "s1", private: private}
	}
	if keyFile != "" {
		private, err := readKey(keyFile)
		if err != nil {
			return nil, err
		}
		tenants["acme"].key.private = private
	}
	return &policy{tenants: tenants}, nil
}

// deliver stands for the handler that would send the message on.
func deliver(out io.Writer) queue.Handler {
	return func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%16s queue %s, DKIM-Signature: %.20s...\n", "", m.Queue, h.Get("DKIM-Signature"))
		return nil
	}
}

// demonstrate sends some mail and waits for what becomes of it.
func demonstrate(addr string, out io.Writer, ended <-chan struct{}, cancel func()) {
	defer cancel()
	mails := []struct{ from, tenant string }{
		{"news@acme.example", "acme"}, {"news@newcomer.example", "newcomer"}, {"news@acme.example", "nobody"}, {"boss@bank.example", "acme"},
	}
	for _, m := range mails {
		msg := fmt.Sprintf("From: <%s>\r\nTo: <you@example.net>\r\nSubject: Hello\r\nX-Tenant: %s\r\nX-Campaign: Spring\r\n\r\nHello.\r\n", m.from, m.tenant)
		if err := smtp.SendMail(addr, nil, m.from, []string{"you@example.net"}, []byte(msg)); err != nil {
			fmt.Fprintln(out, err)
			return
		}
	}
	timeout := time.After(30 * time.Second)
	for range len(mails) + 2 { // two are refused, and their senders are told
		select {
		case <-ended:
		case <-timeout:
			fmt.Fprintln(out, "not all of it was dealt with in 30 s")
			return
		}
	}
}
