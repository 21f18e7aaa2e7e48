package deferredtest

import (
	"net"
	"sync"
	"sync/atomic"
)

// A pipeListener is a net.Listener whose connections are net.Pipes, which are at
// rest in a bubble while nobody writes, unlike sockets.
type pipeListener struct {
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
	dialed atomic.Uint32
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return loopback(2525) }

// dial waits until the connection was accepted, or l is closed.
func (l *pipeListener) dial() (net.Conn, error) {
	theirs, ours := net.Pipe()
	from := loopback(49152 + int(l.dialed.Add(1)-1)%16384)
	select {
	case l.conns <- addrConn{Conn: ours, local: l.Addr(), remote: from}:
		return addrConn{Conn: theirs, local: from, remote: l.Addr()}, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func loopback(port int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }

// An addrConn is a pipe that looks like a connection over loopback.
type addrConn struct {
	net.Conn
	local, remote net.Addr
}

func (c addrConn) LocalAddr() net.Addr  { return c.local }
func (c addrConn) RemoteAddr() net.Addr { return c.remote }
