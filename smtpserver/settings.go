package smtpserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

const (
	defaultAddr   = "127.0.0.1:2525"
	defaultBanner = "ESMTP service ready"
	maxBanner     = 400 // of the 512 octets of a reply line
)

// resolve checks opts and fills in the defaults. In the result zero numbers
// mean none.
func resolve(opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, check := range []func(*Options) error{checkSupported, checkAddr, checkTLS, checkAuth, checkTrace} {
		if err := check(&o); err != nil {
			return o, err
		}
	}
	o.Limits = o.Limits.resolve()
	if o.Batch == nil {
		o.Batch = queue.PerRecipient
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, resolveNames(&o)
}

// resolveNames fills in and checks what stands in the greeting.
func resolveNames(o *Options) error {
	if o.Hostname == "" {
		name, err := os.Hostname()
		if err != nil || !isDomain(name) {
			name = "localhost"
		}
		o.Hostname = name
	}
	if !isDomain(o.Hostname) {
		return fmt.Errorf("smtpserver: Options.Hostname %q: want a domain or an address literal", o.Hostname)
	}
	if o.Banner == "" {
		o.Banner = defaultBanner
	}
	if len(o.Banner) > maxBanner || !isPrintable(o.Banner) {
		return fmt.Errorf("smtpserver: Options.Banner: want at most %d printable ASCII characters on one line", maxBanner)
	}
	return nil
}

func checkSupported(o *Options) error {
	unsupported := ""
	switch {
	case o.DeferredSpool: // until it is
		unsupported = "DeferredSpool"
	case o.Proxy.From != nil || o.Proxy.XClient != nil || o.Proxy.Require:
		unsupported = "Proxy"
	case len(o.Overrides) > 0:
		unsupported = "Overrides"
	default:
		return nil
	}
	return fmt.Errorf("smtpserver: Options.%s is not supported by this version: leave it unset", unsupported)
}

// checkAddr refuses what cannot be listened on, before anything is tried.
func checkAddr(o *Options) error {
	if o.Addr != "" && o.Listener != nil {
		return errors.New("smtpserver: Options.Addr and Options.Listener are both set: choose one")
	}
	if o.Listener != nil {
		return checkExposure(o, o.Listener.Addr())
	}
	if o.Addr == "" {
		o.Addr = defaultAddr
	}
	if _, ok := unixPath(o.Addr); ok {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("smtpserver: Options.Addr %q: want host:port or the path of a Unix socket: %w", o.Addr, err)
	}
	ip, err := netip.ParseAddr(host)
	if host != "" && err != nil {
		return nil // a name; Serve looks at what it resolved to
	}
	return exposure(o, o.Addr, err == nil && ip.Unmap().IsLoopback())
}

// unixPath returns the path in an Addr that names a Unix socket.
func unixPath(addr string) (string, bool) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return path, true
	}
	return addr, strings.HasPrefix(addr, "/")
}

// checkExposure refuses to serve an address that anybody can reach unless the
// options say who is trusted.
func checkExposure(o *Options, addr net.Addr) error {
	return exposure(o, addr.String(), isLocal(addr) || addrPort(addr).Addr().IsLoopback())
}

func exposure(o *Options, addr string, local bool) error {
	if local || len(o.RelayHosts) > 0 || o.Auth.Password != nil || verifiesClients(o.TLS.Config) {
		return nil
	}
	return fmt.Errorf("smtpserver: %s can be reached from other machines, and this listener accepts mail before it is looked at: "+
		"set Options.RelayHosts, Options.Auth or client certificates in Options.TLS to say who is trusted, or listen on loopback", addr)
}

func verifiesClients(c *tls.Config) bool {
	return c != nil && c.ClientAuth >= tls.VerifyClientCertIfGiven
}

func checkTLS(o *Options) error {
	c := o.TLS.Config
	switch {
	case c == nil && (o.TLS.Implicit || o.TLS.Require):
		return errors.New("smtpserver: Options.TLS.Implicit and Require need Options.TLS.Config")
	case c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil:
		return errors.New("smtpserver: Options.TLS.Config has no certificate: set Certificates or GetCertificate")
	}
	return nil
}

func checkAuth(o *Options) error {
	a := o.Auth
	switch {
	case a.Password == nil && (a.AllowPlaintext || a.Require):
		return errors.New("smtpserver: Options.Auth.AllowPlaintext and Require need Options.Auth.Password")
	case a.Password != nil && !a.AllowPlaintext && o.TLS.Config == nil:
		return errors.New("smtpserver: Options.Auth.Password without TLS is never offered: set Options.TLS.Config or Options.Auth.AllowPlaintext")
	}
	return nil
}

func checkTrace(o *Options) error {
	if o.Trace.HeaderName == "" {
		o.Trace.HeaderName = "X-KumoRef"
	}
	for _, c := range []byte(o.Trace.HeaderName) {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("smtpserver: Options.Trace.HeaderName %q is not the name of a header field", o.Trace.HeaderName)
		}
	}
	if len(o.Trace.HeaderName) > 76 {
		return fmt.Errorf("smtpserver: Options.Trace.HeaderName: %d characters are too many, want at most 76", len(o.Trace.HeaderName))
	}
	return nil
}

func (l Limits) resolve() Limits {
	return Limits{
		Connections:        orDefault(l.Connections, 32768),
		ConnectionsPerAddr: orDefault(l.ConnectionsPerAddr, 0),
		Messages:           orDefault(l.Messages, 10000),
		Recipients:         orDefault(l.Recipients, 1024),
		LineLength:         orDefault(l.LineLength, 998),
		Errors:             orDefault(l.Errors, 20),
		Hops:               orDefault(l.Hops, 100),
		MessageSize:        orDefault(l.MessageSize, 20<<20),
		ClientTimeout:      orDefault(l.ClientTimeout, time.Minute),
		DataTimeout:        orDefault(l.DataTimeout, 30*time.Minute),
		ProcessingTimeout:  orDefault(l.ProcessingTimeout, 5*time.Minute),
		ShutdownTimeout:    orDefault(l.ShutdownTimeout, 30*time.Second),
	}
}

// orDefault reads an option: zero means def, negative means none.
func orDefault[T ~int | ~int64](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}
