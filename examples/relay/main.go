// Command relay is a small outbound relay, whole: applications hand in mail by SMTP, it is
// on disk when they get their 250, and goes on to a smart host, a queue for each
// domain, with retries for a week, notices to senders, a log of records, and metrics.
//
//	go run ./examples/relay -host mail.example:25 [-listen 127.0.0.1:2525] [flags]
//	go run ./examples/relay -once
//
// Mail and records are in relay-data in the working directory, or where -dir says.
// With -once it runs a smart host of its own, sends itself some mail, shows what
// becomes of it, and ends; what it keeps is temporary then.
//
// Clients on this machine may send, or those of -relay-hosts: an address that others
// reach is refused without. It leaves out: MX look-up, since a smart host does that;
// signing and policy, which examples/policy has; AUTH and TLS for clients; and the
// conversion of content: what is 8-bit is refused if the smart host takes only 7.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/deferred/prometheus"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/queue/recordlog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = run(ctx, c, os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

// run is the relay, or its demonstration.
func run(ctx context.Context, c *config, out io.Writer) error {
	if c.once {
		return demonstrate(ctx, c, out)
	}
	r, err := open(c)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "taking mail at %s, metrics at http://%s/metrics\n", r.addr, r.metricsAddr)
	return errors.Join(r.serve(ctx), r.close())
}

// A relay is all that runs.
type relay struct {
	spool       *boltspool.Spool
	records     *recordlog.Log
	sched       *queue.Scheduler
	listener    *deferred.Listener
	pool        *pool
	metrics     *http.Server
	metricsLn   net.Listener
	addr        string
	metricsAddr string
}

// open puts the relay together. What it opened before an error it closes.
func open(c *config) (_ *relay, err error) {
	r := &relay{pool: newPool(c)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	if r.spool, err = boltspool.Open(filepath.Join(c.dir, "spool"), &boltspool.Options{Logger: c.logger}); err != nil {
		return nil, err
	}
	if r.records, err = recordlog.Open(filepath.Join(c.dir, "records"), &recordlog.Options{Logger: c.logger}); err != nil {
		return nil, err
	}
	r.sched, err = queue.NewScheduler(r.spool, inject, &queue.Options{
		Record: r.records.Record, Logger: c.logger, Configure: c.configure,
		Notices: &queue.NoticeOptions{ReportingMTA: c.hostname},
	})
	if err != nil {
		return nil, err
	}
	d := &delivery{pool: r.pool, hostname: c.hostname, logger: c.logger}
	if err := r.sched.Handle("*", d.deliver); err != nil {
		return nil, err
	}
	return r, r.listen(c)
}

func (r *relay) listen(c *config) error {
	ln, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	r.addr = ln.Addr().String()
	r.listener, err = deferred.NewListener(r.sched, &deferred.Options{
		DeferredQueue: true, Listener: ln, Hostname: c.hostname, Logger: c.logger, RelayHosts: c.relayHosts,
	})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	collector, err := prometheus.NewCollector(r.sched, nil)
	if err != nil {
		return err
	}
	registry := client.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	r.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if r.metricsLn, err = net.Listen("tcp", c.metrics); err != nil {
		return err
	}
	r.metricsAddr = r.metricsLn.Addr().String()
	return nil
}

// serve runs until ctx is done or something fails.
func (r *relay) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- r.metrics.Serve(r.metricsLn)
		cancel()
	}()
	err := deferred.Run(ctx, r.listener)
	r.metrics.Close()
	if metricsErr := <-served; !errors.Is(metricsErr, http.ErrServerClosed) {
		err = errors.Join(err, metricsErr)
	}
	return err
}

// close closes what open has opened: the log of records and the spool come last.
func (r *relay) close() error {
	r.pool.close()
	var errs []error
	if r.metricsLn != nil {
		r.metricsLn.Close() // unless serve has
	}
	if r.listener != nil {
		r.listener.Close()
	}
	if r.records != nil {
		errs = append(errs, r.records.Close())
	}
	if r.spool != nil {
		errs = append(errs, r.spool.Close())
	}
	return errors.Join(errs...)
}

// inject is the policy: none. The queue of a message is then the domain of its
// recipient. Notices come here, too.
func inject(context.Context, *queue.Message) error { return nil }
