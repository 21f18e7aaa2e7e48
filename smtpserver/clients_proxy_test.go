package smtpserver

import (
	"net"
	"net/netip"
	"net/smtp"
	"slices"
	"strconv"
	"testing"

	"github.com/pires/go-proxyproto"
)

// Where clients say that they come from, and what they say they connected to.
const (
	claimedFrom, claimedVia   = "192.0.2.7:4711", "192.0.2.1:25"
	claimedFrom6, claimedVia6 = "[2001:db8::7]:4711", "[2001:db8::1]:25"
)

// proxiedClients come through a proxy, or are one.
var proxiedClients = []outsideClient{
	behindProxy(outsideClient{name: "net-smtp, PROXY v1", send: netSMTPBehindProxy(1)}, claimedFrom, claimedVia),
	behindProxy(outsideClient{name: "net-smtp, PROXY v2", send: netSMTPBehindProxy(2)}, claimedFrom, claimedVia),
	behindProxy(swaksBehind("swaks, PROXY v1", proxyFlags(1, "TCP4", claimedFrom, claimedVia)), claimedFrom, claimedVia),
	behindProxy(swaksBehind("swaks, PROXY v2", proxyFlags(2, "AF_INET", claimedFrom, claimedVia)), claimedFrom, claimedVia),
	behindProxy(swaksBehind("swaks, PROXY v1, pipelining", proxyFlags(1, "TCP4", claimedFrom, claimedVia), "--pipeline"), claimedFrom, claimedVia),
	behindProxy(under(byStartTLS, swaksBehind("swaks, PROXY v1, STARTTLS", proxyFlags(1, "TCP4", claimedFrom, claimedVia))), claimedFrom, claimedVia),
	behindProxy(under(implicitTLS, swaksBehind("swaks, PROXY v2, TLS", proxyFlags(2, "AF_INET", claimedFrom, claimedVia))), claimedFrom, claimedVia),

	usesXClient(swaksBehind("swaks, XCLIENT", xclientFlags("192.0.2.7"), "--xclient-destaddr", "192.0.2.1", "--xclient-destport", "25"), claimedFrom, claimedVia),
	usesXClient(swaksBehind("swaks, XCLIENT, IPv6", xclientFlags("IPV6:2001:db8::7"), "--xclient-destaddr", "IPV6:2001:db8::1", "--xclient-destport", "25"), claimedFrom6, claimedVia6),
	usesXClient(under(byStartTLS, swaksBehind("swaks, STARTTLS, XCLIENT", xclientFlags("192.0.2.7"))), claimedFrom, ""),
	usesXClient(swaksBehind("swaks, XCLIENT in two parts, pipelining", []string{"--xclient-name", "client.example.net", "--xclient-delim"}, append(xclientFlags("192.0.2.7"), "--pipeline")...), claimedFrom, ""),
	usesXClient(outsideClient{name: "swaks, XCLIENT with LOGIN", tools: swaksTools, user: "sender",
		send: swaks("--xclient-addr", "198.51.100.7", "--xclient-port", "4711", "--xclient-login", "sender")}, "198.51.100.7:4711", ""),
}

// behindProxy says that c comes through a proxy.
func behindProxy(c outsideClient, from, via string) outsideClient {
	return claiming(c, func(p *Proxy) { p.From, p.Require = loopbackNetworks(), true }, from, via)
}

// usesXClient says that c uses XCLIENT.
func usesXClient(c outsideClient, from, via string) outsideClient {
	return claiming(c, func(p *Proxy) { p.XClient = loopbackNetworks() }, from, via)
}

func loopbackNetworks() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// claiming lets the clients relay by the address that they claim alone.
func claiming(c outsideClient, trust func(*Proxy), from, via string) outsideClient {
	c.rcpts = 2
	c.configure = func(o *Options) {
		o.RelayHosts = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		trust(&o.Proxy)
	}
	c.check = func(t *testing.T, tg *target, got []*injected) {
		checkMessage(t, tg, got)
		for _, m := range got {
			orig, err := netip.ParseAddrPort(m.meta["orig_received_from"])
			if m.meta["received_from"] != from || err != nil || !orig.Addr().IsLoopback() ||
				via != "" && (m.meta["received_via"] != via || m.meta["orig_received_via"] != tg.addr) {
				t.Errorf("metadata %v, want from %s via %s", m.meta, from, via)
			}
		}
	}
	return c
}

func under(s security, c outsideClient) outsideClient {
	c.security = s
	return c
}

func swaksBehind(name string, flags []string, more ...string) outsideClient {
	return outsideClient{name: name, tools: swaksTools, send: swaks(slices.Concat(flags, more)...)}
}

func proxyFlags(version int, family, from, via string) []string {
	source, dest := netip.MustParseAddrPort(from), netip.MustParseAddrPort(via)
	return []string{"--proxy-version", strconv.Itoa(version), "--proxy-family", family,
		"--proxy-source", source.Addr().String(), "--proxy-source-port", strconv.Itoa(int(source.Port())),
		"--proxy-dest", dest.Addr().String(), "--proxy-dest-port", strconv.Itoa(int(dest.Port()))}
}

func xclientFlags(addr string) []string {
	return []string{"--xclient-name", "client.example.net", "--xclient-addr", addr, "--xclient-port", "4711"}
}

// netSMTPBehindProxy is net/smtp with a header of go-proxyproto in front.
func netSMTPBehindProxy(version byte) func(*target) error {
	return func(tg *target) error {
		conn, err := net.Dial("tcp", tg.addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		from, via := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(claimedFrom)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(claimedVia))
		if _, err := proxyproto.HeaderProxyFromAddrs(version, from, via).WriteTo(conn); err != nil {
			return err
		}
		c, err := smtp.NewClient(conn, tg.host)
		if err != nil {
			return err
		}
		if err := netSMTPMessage(c, 0); err != nil {
			return err
		}
		return c.Quit()
	}
}
