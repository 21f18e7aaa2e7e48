// Package pipenet is a network of pipes in memory. Unlike sockets they are at
// rest in a bubble of testing/synctest while nobody writes.
package pipenet

import (
	"net"
	"sync"
	"sync/atomic"
)

// A Listener is a net.Listener whose connections are net.Pipes that look like
// connections over loopback. Its methods are safe for concurrent use.
type Listener struct {
	port   int
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
	dialed atomic.Uint32
}

// Listen returns a Listener whose address is 127.0.0.1 and port. No port is
// taken: two Listeners may have the same.
func Listen(port int) *Listener {
	return &Listener{port: port, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for a Dial, or for Close: the error is net.ErrClosed then.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial. Connections stay open. It returns nil.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Done is closed by Close.
func (l *Listener) Done() <-chan struct{} { return l.done }

// Addr returns the address that Listen was given.
func (l *Listener) Addr() net.Addr { return loopback(l.port) }

// Dial returns the client's end of a connection once its other end was
// accepted. The error is net.ErrClosed after Close.
func (l *Listener) Dial() (net.Conn, error) {
	theirs, ours := net.Pipe()
	from := loopback(49152 + int(l.dialed.Add(1)-1)%16384)
	select {
	case l.conns <- conn{Conn: ours, local: l.Addr(), remote: from}:
		return conn{Conn: theirs, local: from, remote: l.Addr()}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func loopback(port int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }

// A conn is a pipe with addresses.
type conn struct {
	net.Conn
	local, remote net.Addr
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }
