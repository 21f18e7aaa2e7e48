package smtpserver

import (
	"context"
	"net"
	"testing"
	"time"
)

// A deafListener has connections through which nobody can be asked for.
type deafListener struct{ net.Listener }

type deafConn struct{ net.Conn }

func (l deafListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return deafConn{c}, nil
}

func (c deafConn) SetReadDeadline(t time.Time) error {
	c.Conn.SetReadDeadline(t)
	return nil
}

// TestWrapStranger: where the session cannot find its connection, content is content
// whatever its lines begin with, and Shutdown does not interrupt it.
func TestWrapStranger(t *testing.T) {
	w := wrapping{name: "WrapListener below a deaf one", listener: true, over: func(ln net.Listener) net.Listener { return deafListener{ln} }}
	h := newHost(t, nil)
	w.start(h)
	c := w.connect(h)
	for _, line := range []string{"BDAT 5 LAST", "STARTTLS", "DATA", "MAIL FROM:<b@example.org>", "QUIT"} {
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		c.send("Subject: x\r\n\r\n" + line + "\r\nmore\r\n.\r\n")
		c.want("250")
		h.next()
	}
	c.envelope("a@example.org")
	c.send("BDAT 5 LAST\r\nabc\r\n")
	c.want("250")
	h.next()

	c.envelope("a@example.org")
	c.cmd("DATA", "354")
	c.send("Subject: x\r\n\r\n")
	ended := make(chan error, 1)
	go func() { ended <- w.wrapped.Shutdown(context.Background()) }()
	for !w.wrapped.tracker.closed() {
		time.Sleep(time.Millisecond)
	}
	c.send("text\r\n.\r\n")
	c.want("250")
	h.next()
	c.conn.Close()
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}
