package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A config is what the command line says.
type config struct {
	host, listen, metrics string
	dir, hostname         string
	user, passwordFile    string
	noTLS, once           bool
	relayHosts            []netip.Prefix // who may send; nil: clients on this machine

	roots   *x509.CertPool // that vouch for the smart host; nil: those of the system
	maxUses int            // messages for each connection
	conns   int            // connections to the smart host, at most
	idle    time.Duration  // after which a connection is closed
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	backoff queue.Backoff
	logger  *slog.Logger
}

func parse(args []string, out io.Writer) (*config, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	c := &config{logger: slog.Default(), maxUses: 100, idle: 30 * time.Second, dial: new(net.Dialer).DialContext}
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&c.host, "host", "", "`host:port` of the smart host")
	fs.StringVar(&c.listen, "listen", "127.0.0.1:2525", "where mail is taken")
	fs.Func("relay-hosts", "networks that may send, such as `10.0.0.0/8,::1/128` (default this machine alone)", c.addRelayHosts)
	fs.StringVar(&c.metrics, "metrics", "127.0.0.1:9125", "where metrics are served")
	fs.StringVar(&c.dir, "dir", "relay-data", "directory of the spool and of the records, one that a restart leaves alone")
	fs.StringVar(&c.hostname, "hostname", host, "the name of this host")
	fs.IntVar(&c.conns, "conns", 20, "connections to the smart host at most")
	fs.BoolVar(&c.noTLS, "no-tls", false, "speak to the smart host in clear, and not with STARTTLS")
	fs.StringVar(&c.user, "user", "", "who authenticates at the smart host")
	fs.StringVar(&c.passwordFile, "password-file", "", "a file with the password")
	fs.BoolVar(&c.once, "once", false, "show what it does, with a smart host of its own, and end")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return c, c.check()
}

func (c *config) addRelayHosts(list string) error {
	for network := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(network))
		if err != nil {
			return err
		}
		c.relayHosts = append(c.relayHosts, p)
	}
	return nil
}

func (c *config) check() error {
	if c.conns < 1 {
		return fmt.Errorf("-conns %d: want at least 1", c.conns)
	}
	if c.once {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.host); err != nil {
		return fmt.Errorf("-host %q: want host:port", c.host)
	}
	if c.user != "" && c.noTLS {
		return errors.New("-user and -no-tls: a password does not go in clear")
	}
	return nil
}

// clientTLS is how the smart host is to identify itself.
func (c *config) clientTLS() *tls.Config {
	name, _, _ := net.SplitHostPort(c.host)
	return &tls.Config{ServerName: name, RootCAs: c.roots}
}

// attemptTimeout is longer than the smart host may take for one message.
const attemptTimeout = 20 * time.Minute

// configure lets each domain have some of the connections, so that one of them cannot
// have them all. The pool bounds what the domains have together.
func (c *config) configure(name string) queue.Config {
	if name == queue.Deferred {
		return queue.Config{Backoff: queue.Backoff{Base: c.backoff.Base}}
	}
	return queue.Config{Concurrency: 8, Backoff: c.backoff, Timeout: attemptTimeout}
}
