//go:build unix

package smtpserver

import (
	"net"
	"syscall"
)

// atEnd reports whether the other side of raw has closed it, without taking
// anything. What is no socket is not looked at.
func atEnd(raw net.Conn) (end bool) {
	s, ok := raw.(syscall.Conn)
	if !ok {
		return false
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return true
	}
	err = socket.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		end = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
		return true
	})
	return end || err != nil
}
