package smtpserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A tracker knows the net.Listeners and the connections of a listener of ours,
// bounds their number and ends them.
type tracker struct {
	connections int // at once; zero: no bound
	log         func(msg string, args ...any)
	buffers     buffers

	ctx    context.Context // ends with Close, and when Shutdown runs out of time
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing more is accepted

	mu struct {
		sync.Mutex
		closed    bool
		listeners map[net.Listener]struct{}
		conns     map[tracked]netip.Addr // by what they are counted under; invalid: not counted
		perAddr   map[netip.Addr]int
		empty     chan struct{} // if not nil, closed when the last connection is gone
	}
}

// A tracked connection can be ended.
type tracked interface {
	drain() // as soon as it is in no transaction
	abort() // at once
}

func newTracker(connections int, log func(msg string, args ...any)) *tracker {
	t := &tracker{connections: connections, log: log, done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.listeners = make(map[net.Listener]struct{})
	t.mu.conns = make(map[tracked]netip.Addr)
	t.mu.perAddr = make(map[netip.Addr]int)
	return t
}

// accept waits out what ends by itself, and returns net.ErrClosed after stop.
func (t *tracker) accept(ln net.Listener) (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		raw, err := ln.Accept()
		if err == nil {
			return raw, nil
		}
		if t.closed() {
			return nil, net.ErrClosed
		}
		if !passing(err) {
			return nil, err
		}
		t.log("smtp listener cannot accept connections", "error", err, "retry_in", delay)
		if !t.pause(delay) {
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

// pause waits, and reports whether connections are still accepted then.
func (t *tracker) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.done:
		return false
	}
}

// add takes ln up, unless stop was called.
func (t *tracker) add(ln net.Listener) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.closed {
		t.mu.listeners[ln] = struct{}{}
	}
	return !t.mu.closed
}

func (t *tracker) remove(ln net.Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.listeners, ln)
}

func (t *tracker) closed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.closed
}

// track adds a connection, unless stop was called. It reports whether it is over
// the limit.
func (t *tracker) track(c tracked) (open, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return false, false
	}
	over = t.connections > 0 && len(t.mu.conns) >= t.connections
	t.mu.conns[c] = netip.Addr{}
	return true, over
}

// count counts c under the address ip, and no other, and reports whether there
// are no more than limit of that; zero means no limit.
func (t *tracker) count(c tracked, ip netip.Addr, limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.mu.conns[c]
	if !ok {
		return false
	}
	t.uncountLocked(old)
	t.mu.conns[c] = ip
	if ip.IsValid() {
		t.mu.perAddr[ip]++
	}
	return limit <= 0 || t.mu.perAddr[ip] <= limit
}

func (t *tracker) uncountLocked(ip netip.Addr) {
	if !ip.IsValid() {
		return
	}
	if t.mu.perAddr[ip]--; t.mu.perAddr[ip] <= 0 {
		delete(t.mu.perAddr, ip)
	}
}

// forget removes a connection that was closed.
func (t *tracker) forget(c tracked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ip, ok := t.mu.conns[c]
	if !ok {
		return
	}
	t.uncountLocked(ip)
	delete(t.mu.conns, c)
	if len(t.mu.conns) == 0 && t.mu.empty != nil {
		close(t.mu.empty)
		t.mu.empty = nil
	}
}

// stop accepts nothing any more and returns the connections that are open.
func (t *tracker) stop() []tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mu.closed {
		t.mu.closed = true
		close(t.done)
	}
	for ln := range t.mu.listeners {
		ln.Close()
	}
	conns := make([]tracked, 0, len(t.mu.conns))
	for c := range t.mu.conns {
		conns = append(conns, c)
	}
	return conns
}

func (t *tracker) abortAll() {
	t.cancel()
	for _, c := range t.stop() {
		c.abort()
	}
}

// gone returns a channel that is closed when there is no connection. It is for
// after stop.
func (t *tracker) gone() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.conns) == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if t.mu.empty == nil {
		t.mu.empty = make(chan struct{})
	}
	return t.mu.empty
}

// shutdown drains all connections, and closes those that are left when ctx is
// done or d has passed. joined waits for the goroutines of all of them.
func (t *tracker) shutdown(ctx context.Context, d time.Duration, joined <-chan struct{}) error {
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	for _, c := range t.stop() {
		c.drain()
	}
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
	}
	t.abortAll()
	<-joined
	return ctx.Err()
}
