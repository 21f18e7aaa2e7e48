//go:build unix

package smtpserver

import (
	"crypto/tls"
	"net"
	"syscall"
)

// peek reports whether the other side of raw has closed it, or its read deadline
// has passed, without taking anything. If raw is no socket that is not known.
func peek(raw net.Conn) (end, known bool) {
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	s, ok := raw.(syscall.Conn)
	if !ok {
		return false, false
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return true, true
	}
	err = socket.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		end = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
		return true
	})
	return end || err != nil, true
}
