package smtpserver

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// An acceptor gives go-smtp connections of ours.
type acceptor struct {
	net.Listener
	l *Listener
}

// Accept waits out what ends by itself, and returns net.ErrClosed after
// Shutdown or Close began.
func (a *acceptor) Accept() (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		raw, err := a.Listener.Accept()
		if err == nil {
			if c := a.l.track(raw); c != nil {
				return c, nil
			}
			raw.Close()
			return nil, net.ErrClosed
		}
		if a.l.closed() {
			return nil, net.ErrClosed
		}
		if !passing(err) {
			return nil, err
		}
		a.l.opts.Logger.Warn("smtp listener cannot accept connections", "error", err, "retry_in", delay)
		if !a.l.pause(delay) {
			return nil, net.ErrClosed
		}
	}
}

// passing reports whether an error of Accept says nothing about the next one.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause waits, and reports whether the Listener is still open then.
func (l *Listener) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// track adds a connection. It returns nil after Shutdown or Close began. A
// connection over the limits is told so instead of greeted.
func (l *Listener) track(raw net.Conn) *conn {
	ip := addrPort(raw.RemoteAddr()).Addr()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil
	}
	limits, refused := l.opts.Limits, (*reply)(nil)
	if limits.Connections > 0 && len(l.mu.conns) >= limits.Connections ||
		limits.ConnectionsPerAddr > 0 && ip.IsValid() && l.mu.perAddr[ip] >= limits.ConnectionsPerAddr {
		refused = replyTooMany
	}
	c := newConn(l, raw, refused)
	l.mu.conns[c] = struct{}{}
	l.mu.perAddr[ip]++
	return c
}

// forget removes a connection that was closed.
func (l *Listener) forget(c *conn) {
	ip := netip.Addr{}
	if c.s != nil {
		ip = c.s.pub.Remote.Addr()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.conns, c)
	if l.mu.perAddr[ip]--; l.mu.perAddr[ip] <= 0 {
		delete(l.mu.perAddr, ip)
	}
}
