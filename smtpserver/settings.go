package smtpserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
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
// mean none, but for Limits.Memory, which stays as it is, and the fields of
// Overrides, where they mean unchanged. No prefix is of IPv4 in IPv6.
func resolve(opts *Options) (Options, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	return o, o.complete()
}

// complete is resolve in place.
func (o *Options) complete() error {
	if o.Batch == nil {
		o.Batch = queue.PerRecipient
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Limits = o.Limits.resolve()
	for _, check := range []func(*Options) error{
		checkAddr, checkTLS, checkAuth, checkDeferredSpool, checkNetworks, checkProxy, resolveNames, resolveOverrides,
	} {
		if err := check(o); err != nil {
			return err
		}
	}
	if err := checkLineEndings("Options", o.InvalidLineEndings); err != nil {
		return err
	}
	if o.InvalidLineEndings == 0 {
		o.InvalidLineEndings = Deny
	}
	return resolveTrace("Options", &o.Trace)
}

// resolveNames fills in and checks what stands in the greeting.
func resolveNames(o *Options) error {
	if o.Hostname == "" {
		name, err := os.Hostname()
		if err != nil || !validDomain(name, false) {
			name = "localhost"
		}
		o.Hostname = name
	}
	if o.Banner == "" {
		o.Banner = defaultBanner
	}
	if err := checkHostname("Options", o.Hostname); err != nil {
		return err
	}
	return checkBanner("Options", o.Banner)
}

func checkHostname(where, s string) error {
	if !validDomain(s, false) {
		return fmt.Errorf("smtpserver: %s.Hostname %q: want a domain or an address literal", where, s)
	}
	return nil
}

func checkBanner(where, s string) error {
	if len(s) > maxBanner || !isPrintable(s) {
		return fmt.Errorf("smtpserver: %s.Banner: want at most %d printable ASCII characters on one line", where, maxBanner)
	}
	return nil
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
	if path, ok := unixPath(o.Addr); ok {
		if path == "" || path[0] == '@' {
			return fmt.Errorf("smtpserver: Options.Addr %q: want the path of a Unix socket: its mode says who may connect", o.Addr)
		}
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
	if isAbstract(addr) && o.Auth.Password == nil && !verifiesClients(o.TLS.Config) {
		return fmt.Errorf("smtpserver: every local user can connect to the abstract Unix socket %s: "+
			"listen on one with a path, whose mode says who may connect, or set Options.Auth or client certificates in Options.TLS", addr)
	}
	return exposure(o, addr.String(), isLocal(addr) || addrPort(addr).Addr().IsLoopback())
}

func exposure(o *Options, addr string, local bool) error {
	if local || o.namesRelayHosts() || o.Auth.Password != nil || verifiesClients(o.TLS.Config) {
		return nil
	}
	return fmt.Errorf("smtpserver: %s can be reached from other machines, and this listener accepts mail before it is looked at: "+
		"set Options.RelayHosts, Options.Auth or client certificates in Options.TLS to say who is trusted, or listen on loopback", addr)
}

// namesRelayHosts reports whether somebody may relay by address. Whom Proxy
// believes is no matter: who comes through them is not trusted by that.
func (o *Options) namesRelayHosts() bool {
	return len(o.RelayHosts) > 0 ||
		slices.ContainsFunc(o.Overrides, func(v Override) bool { return len(v.RelayHosts) > 0 })
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
	case verifiesClients(c) && c.ClientCAs == nil && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil && c.GetConfigForClient == nil:
		return errors.New("smtpserver: Options.TLS.Config verifies clients by the roots of the system, " +
			"so that everybody with a public certificate may send: set ClientCAs to those whose clients are yours")
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

func checkDeferredSpool(o *Options) error {
	if o.DeferredSpool && !o.DeferredQueue {
		return errors.New("smtpserver: Options.DeferredSpool without DeferredQueue has no effect: set both, or neither")
	}
	return nil
}

func checkProxy(o *Options) error {
	if o.Proxy.Require && len(o.Proxy.From) == 0 {
		return errors.New("smtpserver: Options.Proxy.Require without From has no effect: say in From which networks the proxies are in")
	}
	return nil
}

// checkNetworks puts all networks into the form that addresses are compared in.
func checkNetworks(o *Options) error {
	for _, list := range []struct {
		name     string
		prefixes *[]netip.Prefix
	}{
		{"Options.RelayHosts", &o.RelayHosts},
		{"Options.Proxy.From", &o.Proxy.From},
		{"Options.Proxy.XClient", &o.Proxy.XClient},
	} {
		if err := resolvePrefixes(list.name, list.prefixes); err != nil {
			return err
		}
	}
	return nil
}

// resolvePrefixes replaces a list of prefixes by what resolvePrefix makes of them.
func resolvePrefixes(where string, list *[]netip.Prefix) error {
	*list = slices.Clone(*list) // nil stays nil, empty empty
	for i := range *list {
		if err := resolvePrefix(fmt.Sprintf("%s[%d]", where, i), &(*list)[i]); err != nil {
			return err
		}
	}
	return nil
}

// resolvePrefix masks p, and makes a prefix of IPv4 out of one of IPv4 in IPv6.
func resolvePrefix(where string, p *netip.Prefix) error {
	if p.IsValid() && p.Addr().Is4In6() {
		*p = netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, -1))
	}
	if !p.IsValid() {
		return fmt.Errorf("smtpserver: %s is not a valid prefix: make it with netip.ParsePrefix or Addr.Prefix", where)
	}
	*p = p.Masked()
	return nil
}

func checkLineEndings(where string, e LineEndings) error {
	if e < 0 || e > Fix {
		return fmt.Errorf("smtpserver: %s.InvalidLineEndings is %d: want Deny, Allow or Fix", where, e)
	}
	return nil
}

// resolveTrace fills in and checks the name of the supplemental field.
func resolveTrace(where string, t *Trace) error {
	if t.HeaderName == "" {
		t.HeaderName = "X-KumoRef"
	}
	for _, c := range []byte(t.HeaderName) {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return fmt.Errorf("smtpserver: %s.Trace.HeaderName %q is not the name of a header field", where, t.HeaderName)
		}
	}
	if len(t.HeaderName) > 76 {
		return fmt.Errorf("smtpserver: %s.Trace.HeaderName: %d characters are too many, want at most 76", where, len(t.HeaderName))
	}
	return nil
}

// resolve fills in the defaults; zero means none then. The default of Memory is
// not known here.
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
		Memory:             l.Memory,
		QueuedMessages:     orDefault(l.QueuedMessages, 0),
		QueuedBytes:        orDefault(l.QueuedBytes, 0),
		QueuedAge:          orDefault(l.QueuedAge, 0),
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
