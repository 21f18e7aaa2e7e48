// Command http is a mail service that takes messages over HTTP instead of SMTP.
//
//	go run ./examples/http [-once] [-addr host:port] [-dir dir]
//	curl -H 'Authorization: Bearer secret' -H 'Idempotency-Key: 1' \
//	     'http://127.0.0.1:8025/messages?from=app@example.org&to=ada@example.net' --data-binary @message.eml
//
// The answer is 202 when the message is on disk: from there on it is never lost. A client
// that got no answer sends it again with the same Idempotency-Key; the callback
// recognises the repeat by it. The same key for another message is answered with 422.
// With -once the program sends itself a message twice, and ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	fs := flag.NewFlagSet("http", flag.ContinueOnError)
	fs.SetOutput(out)
	once := fs.Bool("once", false, "send a message twice, and end")
	addr := fs.String("addr", "127.0.0.1:8025", "address to listen on")
	dir := fs.String("dir", "", "directory of the spool and of the keys (default http-data, with -once a temporary one)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch {
	case *dir == "" && *once:
		if *dir, err = os.MkdirTemp("", "http"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	case *dir == "":
		*dir = "http-data" // here: what is temporary may be gone after a restart
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	sp, err := boltspool.Open(filepath.Join(*dir, "spool"), &boltspool.Options{Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sp.Close()) }()
	keys, err := openKeys(filepath.Join(*dir, "keys.db"), logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.close()) }()

	done := make(chan struct{}, 10)
	p := &policy{keys: keys, send: func(_ context.Context, m *queue.Message) error {
		fmt.Fprintf(out, "sent %s for %s: <%s> to <%s>\n", m.ID, m.Meta["tenant"], m.Envelope.Sender, m.Envelope.Recipients[0].Address)
		return nil
	}}
	sched, err := queue.NewScheduler(sp, p.inject, &queue.Options{Logger: logger, Record: func(_ context.Context, r queue.Record) error {
		fmt.Fprintf(out, "%s %s %d %s\n", r.Type, r.ID, r.Response.Code, r.Response.Content)
		if *once && r.Type != queue.Reception {
			done <- struct{}{}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening on http://%s\n", ln.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *once {
		go demonstrate("http://"+ln.Addr().String(), out, done, cancel)
	}
	return serve(ctx, ln, sched, newServer(sched, keys, map[string]string{"secret": "acme"}))
}

// serve runs both until ctx is done, or one of them fails: first no request is taken
// any more, then what was taken is handed to a scheduler that still runs.
func serve(ctx context.Context, ln net.Listener, sched *queue.Scheduler, h http.Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, IdleTimeout: time.Minute}
	served, ran := make(chan error, 1), make(chan error, 1)
	schedCtx, stopSched := context.WithCancel(context.Background())
	defer stopSched()
	go func() {
		served <- srv.Serve(ln)
		cancel()
	}()
	go func() {
		ran <- sched.Run(schedCtx)
		cancel()
	}()
	<-ctx.Done()
	grace, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	err := srv.Shutdown(grace)
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	stopSched()
	return errors.Join(err, <-ran)
}
