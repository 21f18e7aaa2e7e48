package smtpserver

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func TestDeferred(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	got := c.data(plain, "one@example.org", "two@example.org")
	m := regexp.MustCompile(`^250 2\.0\.0 OK ids=([0-9a-f]{32}) ([0-9a-f]{32})\r\n$`).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("reply %q", got)
	}
	seen := map[string]string{}
	for range 2 {
		msg := h.next()
		if msg.body() != plain {
			t.Errorf("content %q, want %q", msg.body(), plain)
		}
		if msg.env.Sender != "sender@example.com" || len(msg.env.Recipients) != 1 {
			t.Errorf("envelope %+v", msg.env)
		}
		seen[msg.id.String()] = msg.env.Recipients[0].Address
	}
	if seen[m[1]] != "one@example.org" || seen[m[2]] != "two@example.org" {
		t.Errorf("injected %v, replied %v", seen, m[1:])
	}
	if r := h.record(queue.Reception); r.SessionID == "" || r.ReceptionProtocol != "ESMTP" || r.PeerAddress.Name != "client.example" {
		t.Errorf("reception record %+v", r)
	}
	c.cmd("QUIT", "221")
	c.ended()
}

func TestMetaAndTrace(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Trace: Trace{IncludeMetaNames: []string{"ehlo_domain"}}})
	c := h.greeted()
	wantPrefix(t, c.data(plain, `"a b"@example.org`), "250")
	m := h.next()
	local, remote := c.conn.RemoteAddr().String(), c.conn.LocalAddr().String()
	for name, want := range map[string]string{
		"reception_protocol": "ESMTP", "received_via": local, "received_from": remote,
		"hostname": "mx.example.com", "ehlo_domain": "client.example",
	} {
		if m.meta[name] != want {
			t.Errorf("metadata %s is %q, want %q", name, m.meta[name], want)
		}
	}
	want := `^X-KumoRef: [A-Za-z0-9+/=\r\n\t]+\r\nReceived: from client\.example \(\[127\.0\.0\.1\]\)\r\n` +
		`\tby mx\.example\.com with ESMTP id ` + m.id.String() + `\r\n\tfor <"a b"@example\.org>;\r\n\t\w{3}, \d+ \w{3} \d{4} [\d:]{8} [+-]\d{4}\r\nSubject: `
	if !regexp.MustCompile(want).MatchString(m.content) {
		t.Errorf("content %q does not match %s", m.content, want)
	}
}

func TestBatches(t *testing.T) {
	lost := func(env spool.Envelope) [][]spool.Recipient { return [][]spool.Recipient{env.Recipients[1:]} }
	for _, tt := range []struct {
		name  string
		batch queue.BatchFunc
		reply string
		sizes []int
	}{
		{"default", nil, "250", []int{1, 1, 1}},
		{"per domain", queue.PerDomain, "250", []int{2, 1}},
		{"lost recipient", lost, "451 4.3.0", nil},
		{"panic", func(spool.Envelope) [][]spool.Recipient { panic("batch") }, "421 4.3.0", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, &Options{DeferredQueue: true, Batch: tt.batch})
			wantPrefix(t, h.greeted().data(plain, "a@one.example", "b@two.example", "c@one.example"), tt.reply)
			total := 0
			for range tt.sizes {
				m := h.next()
				total += len(m.env.Recipients)
				if named := strings.Contains(m.content, "for <"); named != (len(m.env.Recipients) == 1) {
					t.Errorf("%d recipients, but the Received field says %q", len(m.env.Recipients), m.content)
				}
			}
			if tt.sizes == nil {
				h.nothing()
			} else if total != 3 {
				t.Errorf("%d recipients in all, want 3", total)
			}
		})
	}
}

func TestRelay(t *testing.T) {
	nobody := []netip.Prefix{}
	for _, tt := range []struct {
		name  string
		opts  Options
		reply string
	}{
		{"loopback", Options{}, "250"},
		{"nobody", Options{RelayHosts: nobody}, "550 5.7.1"},
		{"another network", Options{RelayHosts: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "550 5.7.1"},
		{"AUTH offered", Options{RelayHosts: nobody, Auth: Auth{Password: acceptAll, AllowPlaintext: true}}, "530 5.7.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.DeferredQueue = true
			h := serve(t, &tt.opts)
			c := h.greeted()
			c.cmd("MAIL FROM:<a@example.com>", "250")
			c.cmd("RCPT TO:<b@example.org>", tt.reply)
			if tt.reply != "250" {
				r := h.record(queue.Rejection)
				if r.Response.Command != "RCPT TO:<b@example.org>" || fmt.Sprint(r.Response.Code) != tt.reply[:3] || r.Sender != "a@example.com" {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

func TestUnixSocket(t *testing.T) {
	h := newHost(t, &Options{DeferredQueue: true, RelayHosts: []netip.Prefix{}})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	h.serveOn(ln)
	wantPrefix(t, h.greeted().data(plain, "a@example.org"), "250")
	if m := h.next(); m.body() != plain || m.meta["received_from"] != "local" {
		t.Errorf("content %q, metadata %v", m.body(), m.meta)
	}
}

// TestDialogue is the replies to commands, in and out of their place.
func TestDialogue(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Limits: Limits{Recipients: 2, MessageSize: 1000, Messages: 5}})
	for _, tt := range []struct {
		name  string
		lines []string // alternating: command, reply
	}{
		{"MAIL without EHLO", []string{"MAIL FROM:<a@b.example>", "503 5.5.1"}},
		{"RCPT without MAIL", []string{"EHLO x", "250", "RCPT TO:<a@b.example>", "503 5.5.1"}},
		{"DATA without RCPT", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "DATA", "503 5.5.1"}},
		{"BDAT without RCPT drops its chunk", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "BDAT 6 LAST\r\nRSET", "503", "NOOP", "250 2.0.0 I have"}},
		{"DATA behind a refused BDAT", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "BDAT 0", "503", "RCPT TO:<a@b.example>", "250", "DATA", "354", ".", "250 2.0.0 OK ids="}},
		{"malformed BDAT", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<a@b.example>", "250", "BDAT x", "501 5.5.4"}},
		{"nested MAIL", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<a@b.example>", "250", "MAIL FROM:<c@d.example>", "503 5.5.1", "DATA", "354", ".", "250"}},
		{"unknown commands, spaces", []string{"FOO", "500 5.5.1", "", "500", "NOOP ", "250", "STARTTLS", "502", "XYZZY y", "500", "WIZ", "500", "A", "500", "NOOP", "250"}},
		{"control characters", []string{"EHLO x\ry", "500 5.5.2", "EHLO x\x00", "500 5.5.2"}},
		{"too many recipients", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<a@b.example>", "250", "RCPT TO:<c@b.example>", "250", "RCPT TO:<d@b.example>", "452 4.5.3"}},
		{"announced size", []string{"EHLO x", "250", "MAIL FROM:<> SIZE=1001", "552 5.3.4", "MAIL FROM:<> SIZE=1000", "250"}},
		{"long addresses", []string{"EHLO x", "250", "MAIL FROM:<" + strings.Repeat("a", 400) + "@b.example>", "501 5.1.7", "MAIL FROM:<>", "250", "RCPT TO:<" + strings.Repeat("a", 400) + "@b.example>", "501 5.1.3"}},
		{"long command line", []string{"NOOP " + strings.Repeat("x", 20000), "500 5.5.2"}},
		{"messages per connection", []string{"EHLO x", "250", "MAIL FROM:<>", "250", "RSET", "250", "MAIL FROM:<>", "250", "RSET", "250", "MAIL FROM:<>", "250", "RSET", "250", "MAIL FROM:<>", "250", "RSET", "250", "MAIL FROM:<>", "250", "RSET", "250", "MAIL FROM:<>", "421 4.7.0"}},
		{"HELO", []string{"HELO x", "250", "MAIL FROM:<>", "250"}},
		{"LHLO", []string{"LHLO x", "500"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := h.dial()
			c.t = t
			c.want("220 mx.example.com ESMTP")
			for i := 0; i < len(tt.lines); i += 2 {
				c.cmd(tt.lines[i], tt.lines[i+1])
			}
		})
	}
}

func TestPipelining(t *testing.T) {
	h := serve(t, nil)
	c := h.dial()
	c.want("220")
	one := "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nSubject: x\r\n\r\n..dots\r\n..\r\n.\r\n"
	c.send("EHLO x\r\n" + one + one + "QUIT\r\n")
	c.want("250")
	for range 2 {
		c.want("250")
		c.want("250")
		c.want("354")
		c.want("250 2.0.0 OK ids=")
		if m := h.next(); m.body() != "Subject: x\r\n\r\n.dots\r\n.\r\n" {
			t.Errorf("content %q", m.body())
		}
	}
	c.want("221")
	c.ended()
}

func TestErrorLimit(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, Limits: Limits{Errors: 3}})
	c := h.dial()
	c.want("220")
	for range 4 {
		c.cmd("FOO", "500")
	}
	c.want("421 4.7.0")
	c.ended()
}

func TestConnectionLimits(t *testing.T) {
	for _, limits := range []Limits{{Connections: 1}, {ConnectionsPerAddr: 1}} {
		h := serve(t, &Options{DeferredQueue: true, Limits: limits})
		first := h.greeted()
		second := h.dial()
		second.want("421 4.3.2")
		second.ended()
		first.cmd("QUIT", "221")
		first.ended()
		second.conn.Close()
		for { // the server forgets connections behind their end
			c := h.dial()
			if got, _ := c.reply(); strings.HasPrefix(got, "220") {
				break
			}
		}
	}
}

func TestLMTP(t *testing.T) {
	h := serve(t, &Options{DeferredQueue: true, LMTP: true})
	c := h.dial()
	c.want("220")
	c.cmd("EHLO x", "500")
	c.cmd("LHLO x", "250")
	for _, chunked := range []bool{false, true} {
		c.envelope("a@b.example", "c@b.example", "a@b.example")
		if chunked {
			c.send("BDAT " + fmt.Sprint(len(plain)) + " LAST\r\n" + plain)
		} else {
			c.cmd("DATA", "354")
			c.send(plain + ".\r\n")
		}
		for _, rcpt := range []string{"a@b.example", "c@b.example", "a@b.example"} {
			got := c.want("250 2.0.0 <" + rcpt + "> OK ids=")
			m := h.next()
			if m.meta["reception_protocol"] != "LMTP" || m.body() != plain {
				t.Errorf("message %+v for reply %q", m, got)
			}
		}
	}
}
