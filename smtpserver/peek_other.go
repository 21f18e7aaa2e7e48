//go:build !unix

package smtpserver

import "net"

// atEnd cannot tell here whether the other side has closed raw.
func atEnd(net.Conn) bool { return false }
