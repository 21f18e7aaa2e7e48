package smtpserver

import (
	"bytes"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A tardy client takes its time.
type tardy struct {
	name  string
	opts  Options
	early bool     // it is not greeted yet
	begin []string // commands, each answered 2xx or 3xx
	open  string   // what it sends then at once
	drip  string   // what it sends from then on, again and again, an octet a second; empty: nothing
	deaf  bool     // it sends drip as fast as it can, and reads nothing
	slow  bool     // it sends drip once, and reads an octet a second

	after time.Duration // when it is cut off
	last  string        // what it is told last, unless it is deaf or slow
}

func tardyClients(t *testing.T) []tardy {
	t.Helper()
	defaults := Options{DeferredQueue: true, Limits: Limits{Connections: 1}}
	transaction := []string{"MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>"}
	data := append(transaction[:2:2], "DATA")
	auth := defaults
	auth.Auth = Auth{Password: acceptAll, AllowPlaintext: true}
	secure := defaults
	cert, _, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	secure.TLS.Config = &tls.Config{Certificates: []tls.Certificate{cert}}
	implicit := secure
	implicit.TLS.Implicit = true
	handshake := "\x16\x03\x01\x02\x00" + strings.Repeat("\x00", 0x200) // a record that is long in coming
	return []tardy{
		{name: "silent before TLS", opts: implicit, early: true, after: time.Minute},
		{name: "an octet a second of the handshake", opts: implicit, early: true, drip: handshake, after: time.Minute},
		{name: "silent behind STARTTLS", opts: secure, begin: []string{"STARTTLS"}, after: time.Minute},
		{name: "an octet a second behind STARTTLS", opts: secure, begin: []string{"STARTTLS"}, drip: handshake, after: time.Minute},
		{name: "silent", opts: defaults, after: time.Minute, last: "421 4.4.2"},
		{name: "silent in a transaction", opts: defaults, begin: transaction, after: time.Minute, last: "421 4.4.2"},
		{name: "silent in AUTH", opts: auth, begin: []string{"AUTH PLAIN"}, after: time.Minute, last: "421 4.4.2"},
		{name: "silent in the content", opts: defaults, begin: data, after: time.Minute, last: "421 4.4.2"},
		{name: "an octet a second of a command", opts: defaults, drip: "x", after: time.Minute, last: "421 4.4.2"},
		{name: "an octet a second of credentials", opts: auth, begin: []string{"AUTH PLAIN"}, drip: "x", after: time.Minute, last: "421 4.4.2"},
		{name: "an octet a second of the content", opts: defaults, begin: data, drip: "line\r\n", after: 30 * time.Minute, last: "421 4.4.2"},
		{name: "an octet a second of a line of the content", opts: defaults, begin: data, drip: "x", after: 30 * time.Minute, last: "421 4.4.2"},
		{name: "an octet a second of a chunk", opts: defaults, begin: transaction, open: "BDAT 5000\r\n", drip: "x", after: 30 * time.Minute, last: "421 4.4.2"},
		{name: "deaf", opts: defaults, drip: "EHLO client.example\r\n", deaf: true, after: time.Minute},
		{name: "deaf in a transaction", opts: defaults, begin: transaction, drip: "RCPT TO:<c@example.org>\r\n", deaf: true, after: time.Minute},
		{name: "reads an octet a second", opts: defaults, drip: "EHLO client.example\r\n", slow: true, after: time.Minute},
	}
}

// TestAbuseTime: who takes his time is cut off when he should be, and leaves nothing
// behind.
func TestAbuseTime(t *testing.T) {
	for _, c := range tardyClients(t) {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, &c.opts, func(h *host, ln *pipeListener) { c.run(h, ln) })
		})
	}
}

func (tc *tardy) run(h *host, ln *pipeListener) {
	c := newClient(h.t, ln.dial())
	c.conn.SetDeadline(time.Now().Add(24 * time.Hour))
	if !tc.early {
		c.want("220")
		c.cmd("EHLO client.example", "250")
	}
	for _, line := range tc.begin {
		c.send(line + "\r\n")
		if got, err := c.reply(); err != nil || got[0] != '2' && got[0] != '3' {
			h.t.Fatalf("%s: %q, %v", line, got, err)
		}
	}
	c.send(tc.open)
	begin := time.Now()
	var told bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		if !tc.deaf && !tc.slow {
			io.Copy(&told, c.r)
		}
	}()
	switch {
	case tc.deaf:
		for tc.send(c, tc.drip) {
		}
	case tc.slow:
		go tc.send(c, tc.drip)
		for {
			if _, err := c.conn.Read(make([]byte, 1)); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
	case tc.drip != "":
		for i := 0; tc.send(c, tc.drip[i:i+1]); i = (i + 1) % len(tc.drip) {
			time.Sleep(time.Second)
		}
	}
	<-read
	if d := time.Since(begin); d < tc.after || d > tc.after+2*time.Second {
		h.t.Errorf("cut off after %v, want %v", d, tc.after)
	}
	if lines := strings.SplitAfter(told.String(), "\r\n"); tc.last != "" && !strings.HasPrefix(lines[max(0, len(lines)-2)], tc.last) {
		h.t.Errorf("told %q last, want %s", told.String(), tc.last)
	}
	h.nothing()
	synctest.Wait()
	again := newClient(h.t, ln.dial()) // there is room for one connection
	if !tc.opts.TLS.Implicit {
		again.want("220")
		return
	}
	if err := tls.Client(again.conn, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
		h.t.Errorf("the next client: %v", err)
	}
}

// send reports whether the connection is still there.
func (tc *tardy) send(c *client, s string) bool {
	_, err := io.WriteString(c.conn, s)
	return err == nil
}
