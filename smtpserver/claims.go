package smtpserver

import (
	"errors"
	"net"
	"net/netip"
	"slices"
)

// This file is about addresses that are claimed for a client: by PROXY, before
// anything is said, and by XCLIENT.

// proxied reads the PROXY header of a connection that may bring one.
func (d *dialogue) proxied() error {
	p := d.s.l.opts.Proxy
	if !contains(p.From, d.s.pub.Remote.Addr()) {
		return nil
	}
	lower, h, err := d.c.readProxied(p.Require)
	switch {
	case errors.Is(err, errDraining):
		return err
	case err != nil:
		d.s.logger.Warn("smtp PROXY header refused", "error", err)
		return errSilent
	case !h.found && p.Require:
		d.s.logger.Warn("smtp connection without a PROXY header refused")
		return errSilent
	case !h.found:
		d.unproxied = true
	case !h.local:
		d.s.claim(h.source, h.dest)
	}
	d.c.setLower(lower)
	return nil
}

// readProxied waits for a PROXY header; see [readProxyHeader].
func (c *conn) readProxied(require bool) (net.Conn, proxied, error) {
	limit := c.limits.ClientTimeout
	if !require && (limit <= 0 || limit > proxyPatience) {
		limit = proxyPatience
	}
	if err := c.armOnce(limit); err != nil {
		return nil, proxied{}, err
	}
	return readProxyHeader(c.raw)
}

// mayClaim reports whether XCLIENT is believed. What was claimed counts here too:
// the commands of a client that a proxy has named are passed on by it.
func (s *session) mayClaim() bool { return contains(s.l.opts.Proxy.XClient, s.pub.Remote.Addr()) }

func contains(networks []netip.Prefix, ip netip.Addr) bool {
	ip = ip.WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// xclient carries XCLIENT out: as if the client whose address it gives had
// connected just now.
func (d *dialogue) xclient(arg string) {
	switch {
	case !d.s.mayClaim():
		d.answer(replyNotAuthorized)
		return
	case d.s.current() != nil || d.s.authenticated:
		d.answer(replyXClientLate)
		return
	}
	x, err := parseXClient(arg)
	if err != nil {
		d.answer(toReply(err))
		return
	}
	d.s.become(&x)
	if err := d.admit(); err != nil {
		r := *toReply(err)
		r.close = true
		d.answer(&r)
		return
	}
	d.welcome()
}

// become is the session of the client that x speaks of. What was said before does
// not count any more.
func (s *session) become(x *xclient) {
	s.claim(x.remote(s.pub.Remote), x.local(s.pub.Local))
	s.pub.Hello = ""
	if x.has(xclientHelo) {
		s.claimed.helo = x.helo
	}
	if x.has(xclientProto) {
		s.claimed.proto = x.proto
	}
	if x.has(xclientLogin) {
		s.pub.AuthnID, s.pub.AuthzID = x.login, x.login
	}
	s.claimed.given |= x.given
}
