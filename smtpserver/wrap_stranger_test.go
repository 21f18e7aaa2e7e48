package smtpserver

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
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

func (c deafConn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.Conn.Write(p)
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

// A headListener reads before the greeting, as those do that take a header of a proxy.
type headListener struct{ net.Listener }

func (l headListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

// TestWrapHeader: content comes through go-smtp below such a listener, in chunks too.
func TestWrapHeader(t *testing.T) {
	w := wrapping{name: "WrapListener below one that reads", listener: true, over: func(ln net.Listener) net.Listener { return headListener{ln} }}
	h := newHost(t, nil)
	w.start(h)
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "HDR")
	c := newClient(t, conn)
	c.want("220")
	c.cmd("EHLO x.example", "250")
	for range 2 {
		c.envelope("a@example.org")
		c.send("BDAT 5 LAST\r\nabc\r\n")
		c.want("250")
		h.next()
		c.envelope("a@example.org")
		c.cmd("DATA", "354")
		c.send("Subject: x\r\n\r\nBDAT\r\n.\r\n")
		c.want("250")
		h.next()
	}
}

// A limitListener gives each connection a life that is over some time.
type limitListener struct{ net.Listener }

func (l limitListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(3 * time.Second))
	return struct{ net.Conn }{c}, nil
}

// TestWrapKeepsDeadlines: Wrap leaves the deadlines of a host's connections as they are.
func TestWrapKeepsDeadlines(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	backend, err := Wrap(&hostBackend{t: t}, h.sched, &Options{DeferredQueue: true})
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(backend)
	srv.Domain, srv.ErrorLog = "host.example", errorLog{discardLogger()}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { srv.Serve(limitListener{ln}); close(served) }()
	defer func() { srv.Close(); <-served }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := newClient(t, conn)
	c.want("220")
	c.cmd("EHLO x", "250")
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection outlives its deadline")
	}
}
