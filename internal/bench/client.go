package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"
)

// How mail is sent.
const (
	modePlain    = "plain"
	modeSTARTTLS = "starttls"
	modeTLS      = "tls" // from the first octet on
	modeBDAT     = "bdat"
)

var modes = []string{modePlain, modeSTARTTLS, modeTLS, modeBDAT}

// lastWrite is how much of the content is written last, so that the latency of
// the reply is counted from when nearly all was handed to the kernel.
const lastWrite = 16 << 10

// A script is what a client sends, ready to be written. It is read only.
type script struct {
	mode      string
	commands  [][]byte // before the content, in as many writes
	replies   []int    // how many replies follow each
	content   []byte
	pipelined bool
}

func newScript(mode string, size, recipients int, pipelined bool) *script {
	s := &script{mode: mode, pipelined: pipelined}
	message := testMessage(size)
	lines := envelope(recipients, size)
	if mode == modeBDAT {
		s.content = fmt.Appendf(nil, "BDAT %d LAST\r\n%s", len(message), message)
	} else {
		lines = append(lines, "DATA\r\n")
		s.content = stuffed(message)
	}
	if pipelined {
		s.commands, s.replies = [][]byte{[]byte(strings.Join(lines, ""))}, []int{len(lines)}
		return s
	}
	for _, line := range lines {
		s.commands, s.replies = append(s.commands, []byte(line)), append(s.replies, 1)
	}
	return s
}

// A client is one SMTP session that spends little on it: no timers, no
// allocations, and as few writes as the protocol allows.
type client struct {
	conn net.Conn
	buf  [4096]byte
	r, w int // buf[r:w] was read and not used
}

// dialClient connects and says EHLO, under TLS if the mode says so.
func dialClient(addr, mode string, deadline time.Time) (_ *client, err error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting: %w", err)
	}
	c := &client{conn: conn}
	defer func() {
		if err != nil {
			c.conn.Close()
		}
	}()
	conn.SetDeadline(deadline)
	if mode == modeTLS {
		c.conn = tls.Client(conn, clientTLS)
	}
	if err := c.await(1); err != nil {
		return nil, err
	}
	if mode != modeSTARTTLS {
		return c, c.command("EHLO client.example\r\n")
	}
	if err := c.command("EHLO client.example\r\n"); err != nil {
		return nil, err
	}
	if err := c.command("STARTTLS\r\n"); err != nil {
		return nil, err
	}
	c.conn = tls.Client(conn, clientTLS)
	return c, c.command("EHLO client.example\r\n")
}

// clientTLS uses full records from the first one on, as OpenSSL does, and trusts
// whoever answers on loopback.
var clientTLS = &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}

func (c *client) command(line string) error {
	if _, err := c.conn.Write([]byte(line)); err != nil {
		return fmt.Errorf("bench: sending %q: %w", line, err)
	}
	return c.await(1)
}

// send delivers one message and returns how long the reply to its end took,
// counted from before the last octets were written.
func (c *client) send(s *script) (time.Duration, error) {
	for i, command := range s.commands {
		if _, err := c.conn.Write(command); err != nil {
			return 0, fmt.Errorf("bench: sending commands: %w", err)
		}
		if err := c.await(s.replies[i]); err != nil {
			return 0, err
		}
	}
	last := s.content
	if n := len(last) - lastWrite; n > 0 {
		if _, err := c.conn.Write(last[:n]); err != nil {
			return 0, fmt.Errorf("bench: sending the content: %w", err)
		}
		last = last[n:]
	}
	begin := time.Now()
	if _, err := c.conn.Write(last); err != nil {
		return 0, fmt.Errorf("bench: sending the content: %w", err)
	}
	err := c.await(1)
	return time.Since(begin), err
}

// quit ends the session. What is answered to it is of no interest.
func (c *client) quit() {
	c.conn.SetDeadline(time.Now().Add(time.Second))
	_ = c.command("QUIT\r\n")
	c.conn.Close()
}

// await reads that many replies, none of which may be 4xx or 5xx.
func (c *client) await(replies int) error {
	for replies > 0 {
		end := bytes.IndexByte(c.buf[c.r:c.w], '\n')
		if end < 0 {
			if err := c.fill(); err != nil {
				return err
			}
			continue
		}
		line := c.buf[c.r : c.r+end]
		c.r += end + 1
		if len(line) < 3 || line[0] < '2' || line[0] > '3' {
			return fmt.Errorf("bench: the server answered %q", bytes.TrimSpace(line))
		}
		if len(line) < 4 || line[3] != '-' {
			replies--
		}
	}
	return nil
}

// fill reads more behind what is left.
func (c *client) fill() error {
	c.w = copy(c.buf[:], c.buf[c.r:c.w])
	c.r = 0
	if c.w == len(c.buf) {
		return fmt.Errorf("bench: a reply of more than %d octets", len(c.buf))
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if err != nil && n == 0 {
		return fmt.Errorf("bench: waiting for a reply: %w", err)
	}
	return nil
}
