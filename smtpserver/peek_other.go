//go:build !unix

package smtpserver

import "net"

// peek cannot tell here whether the other side has closed raw.
func peek(net.Conn) (end, known bool) { return false, false }
