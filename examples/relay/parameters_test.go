package main

import (
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestParameters: what the client asked for goes on to a host that understands it.
func TestParameters(t *testing.T) {
	env := spool.Envelope{Sender: "a@example.org", Ret: "HDRS", EnvID: "QQ 1", Recipients: []spool.Recipient{
		{Address: "b@example.com", Notify: []string{"SUCCESS", "DELAY"}, ORcpt: "rfc822;B@example.com"}}}
	h := startHost(t, func(s *smtp.Server) { s.EnableDSN, s.EnableSMTPUTF8 = true, true })
	r := startRelay(t, testConfig(h, t.TempDir()))
	r.send(env, text)
	r.ends(1)
	m := h.mails()[0]
	if m.mailOpts.Return != "HDRS" || m.mailOpts.EnvelopeID != "QQ 1" || m.mailOpts.Size == 0 ||
		fmt.Sprint(m.rcptOpts[0].Notify) != "[SUCCESS DELAY]" || m.rcptOpts[0].OriginalRecipient != "B@example.com" {
		t.Errorf("%+v", m)
	}
	env.SMTPUTF8, env.Recipients = true, []spool.Recipient{{Address: "ä@example.com"}}
	r.send(env, text)
	r.ends(2)
	if m := h.mails()[1]; !m.mailOpts.UTF8 || m.to[0] != "ä@example.com" {
		t.Errorf("%+v", m)
	}
}

// TestPlainHost: what a host does not offer is done without, said to the sender, or
// refused.
func TestPlainHost(t *testing.T) {
	h := startHost(t, func(s *smtp.Server) { s.MaxMessageBytes = 2000 })
	r := startRelay(t, testConfig(h, t.TempDir()))
	for i, tt := range []struct {
		name   string
		change func(*spool.Envelope)
		text   string
		want   string
	}{
		{"SMTPUTF8 that is not needed", func(e *spool.Envelope) { e.SMTPUTF8 = true }, text, "250"},
		{"SMTPUTF8 in the header", func(e *spool.Envelope) { e.SMTPUTF8 = true }, "Subject: ä\r\n\r\n", "550 5.6.7"},
		{"SMTPUTF8 in an address", func(e *spool.Envelope) { e.SMTPUTF8, e.Recipients[0].Address = true, "ä@example.com" }, text, "550 5.6.7"},
		{"REQUIRETLS", func(e *spool.Envelope) { e.RequireTLS = true }, text, "550 5.7.30"},
		{"BINARYMIME", func(e *spool.Envelope) { e.Body = "BINARYMIME" }, text, "554 5.6.3"},
		{"size", nil, text + strings.Repeat("x", 2000), "552 5.3.4"},
	} {
		env := to("b@example.com")
		env.Recipients[0].Notify = []string{"NEVER"}
		if tt.change != nil {
			tt.change(&env)
		}
		r.send(env, tt.text)
		rec := r.ends(i + 1)[i]
		got := fmt.Sprint(rec.Response.Code)
		if got != "250" {
			e := rec.Response.Enhanced
			got += fmt.Sprintf(" %d.%d.%d", e[0], e[1], e[2])
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	env := to("b@example.com")
	env.Recipients[0].Notify = []string{"SUCCESS"}
	r.send(env, text)
	r.ends(6 + 2)
	var notice string
	for _, m := range h.mails() {
		if m.from == "" {
			notice = m.text
		}
	}
	if !strings.Contains(notice, "Action: relayed") {
		t.Errorf("the sender was told %q", notice)
	}
}

// TestSevenBitHost: 8-bit content is not passed on to a host that does not offer to take
// it, and its sender is told; whether the client announced it does not matter.
func TestSevenBitHost(t *testing.T) {
	long := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000)
	for _, tt := range []struct {
		name, offer, body, text string
		want                    int
	}{
		{"7-bit", "", "8BITMIME", long, 250},
		{"8-bit", "", "8BITMIME", "Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n", 554},
		{"8-bit that was not announced", "", "", "Subject: x\r\n\r\nGr\xfc\xdfe\r\n", 554},
		{"8-bit at the end", "", "", long + "\xff", 554},
		{"8-bit in the header", "", "", "Subject: \xfc\r\n\r\n", 554},
		{"8-bit that is offered", "8BITMIME", "8BITMIME", "Subject: x\r\n\r\n\xfc\r\n", 250},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &host{addr: startPlain(t, tt.offer)}
			r := startRelay(t, testConfig(h, t.TempDir()))
			env := to("b@example.com")
			env.Body, env.Recipients[0].Notify = tt.body, []string{"NEVER"}
			r.send(env, tt.text)
			rec := r.ends(1)[0]
			if rec.Response.Code != tt.want || tt.want == 554 && rec.Response.Enhanced != [3]int{5, 6, 3} {
				t.Errorf("%s %+v, want %d", rec.Type, rec.Response, tt.want)
			}
		})
	}
}

// startPlain starts a host that takes everything and offers one extension, or none: what
// go-smtp serves always offers 8BITMIME.
func startPlain(t *testing.T, offer string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go servePlain(textproto.NewConn(conn), offer)
		}
	}()
	return ln.Addr().String()
}

func servePlain(c *textproto.Conn, offer string) {
	defer c.Close()
	c.PrintfLine("220 plain.example")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(line, " "); {
		case verb == "EHLO" && offer != "":
			c.PrintfLine("250-plain.example\r\n250 %s", offer)
		case verb == "DATA":
			c.PrintfLine("354 go on")
			io.Copy(io.Discard, c.DotReader())
			c.PrintfLine("250 taken")
		case verb == "QUIT":
			c.PrintfLine("221 bye")
			return
		default:
			c.PrintfLine("250 fine")
		}
	}
}
