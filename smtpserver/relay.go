package smtpserver

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// isLocal reports whether who connects to addr was let in by other means than an IP
// address: a Unix socket has a file mode, an in-memory connection a process.
func isLocal(addr net.Addr) bool {
	switch addr.Network() {
	case "unix", "unixpacket":
		return !isAbstract(addr)
	case "pipe":
		return true
	}
	return false
}

// isAbstract reports whether addr is a Unix socket with a name that is no file, and so
// without a mode. One without a name looks the same.
func isAbstract(addr net.Addr) bool {
	return strings.HasPrefix(addr.Network(), "unix") && strings.HasPrefix(addr.String(), "@")
}

// addrPort returns addr without IPv4 in IPv6; invalid if it is not IP.
func addrPort(addr net.Addr) netip.AddrPort {
	if a, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// mayRelay reports whether the client may send mail to anywhere.
func (s *session) mayRelay() bool {
	if s.local || s.pub.AuthnID != "" {
		return true
	}
	if s.pub.TLS != nil && len(s.pub.TLS.VerifiedChains) > 0 && s.claimed.given == 0 {
		return true // behind XCLIENT the certificate is that of who speaks for the client
	}
	ip := s.pub.Remote.Addr().WithZone("")
	if s.foreign && (!ip.IsValid() || ip.IsLoopback()) {
		return false // whoever speaks for others cannot make them local
	}
	if s.opts.RelayHosts == nil {
		return ip.IsLoopback()
	}
	return slices.ContainsFunc(s.opts.RelayHosts, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// networkClass is the key of fairness for a client that said nothing better
// about itself: its /24, or /64 for IPv6.
func networkClass(ip netip.Addr) string {
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil || !p.IsValid() { // not IP: Prefix answers nil for the zero Addr
		return "-"
	}
	return p.String()
}
