package smtpserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// dial connects from an address on loopback, and returns the greeting too.
func (a *attack) dial(from string) (conn net.Conn, greeting string, err error) {
	d := net.Dialer{Timeout: patience}
	if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is there
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	if a.small {
		d.Control = smallBuffers
	}
	conn, err = d.Dial("tcp", a.s.addr)
	if err != nil {
		return nil, "", err
	}
	if a.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	conn.SetDeadline(time.Now().Add(patience))
	greeting, err = readReply(conn)
	if err != nil {
		conn.Close()
		return nil, "", fmt.Errorf("greeting %q: %w", greeting, err)
	}
	return conn, greeting, nil
}

// readReply reads one reply, behind which nothing may come by itself.
func readReply(conn net.Conn) (string, error) {
	var got []byte
	for buf := make([]byte, 1024); ; {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		last := got[bytes.LastIndexByte(bytes.TrimSuffix(got, []byte("\r\n")), '\n')+1:]
		if bytes.HasSuffix(got, []byte("\r\n")) && len(last) > 3 && last[3] == ' ' {
			return string(got), nil
		}
		if err != nil {
			return string(got), err
		}
	}
}

// each calls f for 0 to n-1, a number of times at once, and fails for the first error.
func (a *attack) each(n, atOnce int, f func(i int) error) {
	a.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					errs <- fmt.Errorf("client %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		a.t.Fatal(err)
	default:
	}
}

// open connects all clients and has them say lines.
func (a *attack) open(lines ...string) []net.Conn {
	a.t.Helper()
	conns := make([]net.Conn, a.n)
	a.t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	a.each(a.n, 32, func(i int) error {
		conn, greeting, err := a.dial(fmt.Sprintf("127.0.1.%d", i%200+1))
		if err != nil {
			return err
		}
		conns[i] = conn
		if !strings.HasPrefix(greeting, "220") {
			return fmt.Errorf("greeting %q", greeting)
		}
		for _, line := range lines {
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				return err
			}
			if got, err := readReply(conn); err != nil || got[0] != '2' && got[0] != '3' {
				return fmt.Errorf("%s: %q, %w", line, got, err)
			}
		}
		return nil
	})
	return conns
}

// end reads to the end of a connection, and returns what came. That the server
// reset it, because there is more that it did not want to read, is an end too.
func end(conn net.Conn) (string, error) {
	conn.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return string(got), fmt.Errorf("the connection is still open after %q: %w", got, err)
	}
	return string(got), nil
}

// endAll wants all connections to be ended by the server, and counts those that
// were told why.
func (a *attack) endAll(conns []net.Conn, why string) {
	a.t.Helper()
	var told atomic.Int64
	a.each(len(conns), 32, func(i int) error {
		got, err := end(conns[i])
		if strings.Contains(got, why) {
			told.Add(1)
		} else if got != "" {
			return fmt.Errorf("told %q, want %s", got, why)
		}
		return err
	})
	a.ended = fmt.Sprintf("%s, %d were told", why, told.Load())
	if told.Load() == 0 {
		a.t.Errorf("nobody was told %s", why)
	}
}

// idle clients say lines and nothing more.
func idle(lines ...string) func(*attack) {
	return func(a *attack) {
		var conns []net.Conn
		a.charge("connection", func() int {
			conns = a.open(lines...)
			return a.n
		})
		a.measure()
		before, began := a.s.stats(false).CPU, time.Now()
		time.Sleep(min(time.Second, time.Duration(a.n)*time.Millisecond/10)) // while nothing happens
		a.cpu += fmt.Sprintf(", then %.1f %% of a core", 100*float64(a.s.stats(false).CPU-before)/float64(time.Since(began)))
		for _, c := range conns {
			c.Close()
		}
		a.ended = "by the clients"
	}
}

func idleToTheEnd(a *attack) {
	conns := a.open()
	a.charge("connection", func() int {
		a.endAll(conns, "421 4.4.2")
		return a.n
	})
}

// drip clients send an octet a second until they are cut off, in the short form
// more often.
func drip(cut time.Duration, lines ...string) func(*attack) {
	return func(a *attack) {
		conns := a.open(lines...)
		tick := time.NewTicker(min(time.Second, cut/5))
		defer tick.Stop()
		a.charge("octet", func() int {
			total := 0
			for begin := time.Now(); ; <-tick.C {
				sent := dripOnce(conns)
				if total += sent; sent == 0 {
					return total
				}
				if d := time.Since(begin); d > cut+patience {
					a.t.Errorf("after %v there are still %d connections, want none after %v", d, sent, cut)
					return total
				}
			}
		})
		a.endAll(conns, "421 4.4.2")
	}
}

// dripOnce returns how many clients still had a connection.
func dripOnce(conns []net.Conn) (sent int) {
	for _, c := range conns {
		c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("x")); err == nil {
			sent++
		}
	}
	return sent
}

// endless clients send s again and again.
func endless(s string, lines ...string) func(*attack) {
	return func(a *attack) {
		const most = 64 << 20
		conns := a.open(lines...)
		chunk := bytes.Repeat([]byte(s), 32<<10/len(s))
		var total, told atomic.Int64
		a.charge("MiB", func() int {
			a.each(a.n, a.n, func(i int) error {
				sent := 0
				for sent < most {
					conns[i].SetWriteDeadline(time.Now().Add(patience))
					n, err := conns[i].Write(chunk)
					sent += n
					if errors.Is(err, os.ErrDeadlineExceeded) {
						return fmt.Errorf("the server has stopped reading after %d octets, and keeps the connection", sent)
					}
					if err != nil {
						break
					}
				}
				total.Add(int64(sent))
				if sent >= most {
					return fmt.Errorf("the server took %d octets", sent)
				}
				got, err := end(conns[i])
				if got != "" {
					told.Add(1)
				}
				return err
			})
			return max(1, int(total.Load()>>20))
		})
		a.ended = fmt.Sprintf("after %d KiB, %d were told", total.Load()/int64(a.n)>>10, told.Load())
	}
}

// floodRecipients sends RCPT without waiting for replies.
func floodRecipients(a *attack) {
	n := 10000
	if !*long {
		n = 2000
	}
	conns := a.open(inTransaction[:2]...)
	commands := bytes.Repeat([]byte("RCPT TO:<somebody@example.org>\r\n"), n)
	a.charge("RCPT", func() int {
		a.each(a.n, a.n, func(i int) error {
			conns[i].SetDeadline(time.Now().Add(time.Minute))
			sent := make(chan error, 1)
			go func() {
				_, err := conns[i].Write(commands)
				sent <- err
			}()
			accepted, refused, err := countReplies(conns[i], n)
			if err == nil {
				err = <-sent
			}
			if err != nil || accepted != 1024 || refused != n-1024 {
				return fmt.Errorf("%d recipients accepted, %d refused, %w", accepted, refused, err)
			}
			return nil
		})
		return a.n * n
	})
	for _, c := range conns {
		c.Close()
	}
	a.ended = "452 4.5.3 from the 1,025th on; by the clients"
}

func countReplies(conn net.Conn, n int) (accepted, refused int, err error) {
	r := bufio.NewReader(conn)
	for range n {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return accepted, refused, err
		}
		switch {
		case bytes.HasPrefix(line, []byte("250 ")):
			accepted++
		case bytes.HasPrefix(line, []byte("452 4.5.3 ")):
			refused++
		}
	}
	return accepted, refused, nil
}

// deaf clients send commands and read no replies.
func deaf(a *attack) {
	conns := a.open()
	commands := bytes.Repeat([]byte("EHLO client.example\r\n"), 1000)
	a.charge("connection", func() int {
		a.each(a.n, a.n, func(i int) error {
			conns[i].SetWriteDeadline(time.Now().Add(time.Minute))
			for {
				if _, err := conns[i].Write(commands); errors.Is(err, os.ErrDeadlineExceeded) {
					return errors.New("the server keeps the connection")
				} else if err != nil {
					return nil
				}
			}
		})
		return a.n
	})
	a.ended = "reset"
}

// tooMany connections are refused, and make room when they go.
func tooMany(a *attack) {
	room, from := a.limits.Connections-1, "127.0.0.1" // another client has one
	if a.limits.ConnectionsPerAddr > 0 {
		room, from = a.limits.ConnectionsPerAddr, "127.0.0.2"
	}
	if runtime.GOOS != "linux" {
		room = a.limits.Connections + a.limits.ConnectionsPerAddr - 1 // all are of one address
	}
	var mu sync.Mutex
	var greeted []net.Conn
	refused := 0
	a.charge("connection", func() int {
		a.each(a.n, 16, func(int) error {
			conn, got, err := a.dial(from)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if strings.HasPrefix(got, "220") {
				greeted = append(greeted, conn)
				return nil
			}
			defer conn.Close()
			if _, err := end(conn); err != nil || !strings.HasPrefix(got, "421 4.3.2") {
				return fmt.Errorf("told %q, %w", got, err)
			}
			refused++
			return nil
		})
		return a.n
	})
	if len(greeted) != room || refused != a.n-room {
		a.t.Errorf("%d greeted and %d refused, want %d and %d", len(greeted), refused, room, a.n-room)
	}
	for _, c := range greeted {
		c.Close()
	}
	a.awaitRoom(from)
	a.ended = fmt.Sprintf("421 4.3.2 for %d", refused)
}

// awaitRoom waits until a connection is taken again.
func (a *attack) awaitRoom(from string) {
	a.t.Helper()
	for until := time.Now().Add(patience); ; {
		conn, got, err := a.dial(from)
		if err == nil {
			conn.Close()
		}
		if strings.HasPrefix(got, "220") {
			return
		}
		if time.Now().After(until) {
			a.t.Fatalf("all have gone, but: %q, %v", got, err)
		}
	}
}
