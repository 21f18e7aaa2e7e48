package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
)

// A sink reads what a client of this program sends and answers without looking:
// what it costs over TLS beyond what it costs without is what TLS costs any
// server that is sent the same.
type sink struct {
	tls     *tls.Config
	replies []byte // to the commands of a message

	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		closed bool
		open   map[net.Conn]struct{}
		ln     net.Listener
	}
}

func newSink(e *environment) (host, error) {
	if e.Mode != modePlain && e.Mode != modeTLS {
		return nil, errors.New("bench: the sink speaks plain and tls only")
	}
	s := &sink{tls: e.tls}
	s.replies = []byte(strings.Repeat("250 2.0.0 OK\r\n", 1+e.Recipients) + "354 go on\r\n")
	s.mu.open = map[net.Conn]struct{}{}
	return s, nil
}

func (s *sink) serve(ln net.Listener) error {
	if s.tls != nil {
		ln = tls.NewListener(ln, s.tls)
	}
	s.mu.Lock()
	s.mu.ln = ln
	closed := s.mu.closed
	s.mu.Unlock()
	if closed {
		ln.Close()
	}
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			s.wg.Wait()
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.mu.open[conn] = struct{}{}
		if s.mu.closed {
			conn.Close()
		}
		s.wg.Go(func() { s.session(conn) })
		s.mu.Unlock()
	}
}

func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	if s.mu.ln != nil {
		s.mu.ln.Close()
	}
	for conn := range s.mu.open {
		conn.Close()
	}
	return nil
}

// session knows the commands from the content by their ends alone, which only
// our own client allows.
func (s *sink) session(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.mu.open, conn)
		s.mu.Unlock()
	}()
	if _, err := conn.Write([]byte("220 sink\r\n")); err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	last := []byte{} // the end of what was read
	content := false
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		last = append(last, buf[max(0, n-8):n]...)
		last = append(last[:0], last[max(0, len(last)-8):]...)
		answer := []byte(nil)
		switch {
		case content && bytes.HasSuffix(last, []byte("\r\n.\r\n")):
			content, answer = false, []byte("250 2.0.0 OK\r\n")
		case !content && bytes.HasSuffix(last, []byte("DATA\r\n")):
			content, answer = true, s.replies
		case !content && bytes.HasPrefix(buf[:n], []byte("EHLO")):
			answer = []byte("250-sink\r\n250 PIPELINING\r\n")
		case !content && bytes.HasSuffix(last, []byte("QUIT\r\n")):
			answer = []byte("221 bye\r\n")
		}
		if answer == nil {
			continue
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
