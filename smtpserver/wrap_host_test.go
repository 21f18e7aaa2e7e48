package smtpserver

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
)

// This file is about what the session of the host does.

// TestWrapPanics: a panic of the host's ends one connection, not the process, and
// leaves no message behind.
func TestWrapPanics(t *testing.T) {
	dialogues := map[string]string{
		"NewSession": "RSET\r\n",
		"Auth":       "AUTH PLAIN AHVzZXIAeA==\r\n",
		"Mail":       "MAIL FROM:<a@example.com>\r\n",
		"Rcpt":       "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n",
		"Meta":       "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 3 LAST\r\na\r\n",
		"Reset":      "MAIL FROM:<a@example.com>\r\nRSET\r\nMAIL FROM:<a@example.com>\r\n",
		"Logout":     "QUIT\r\n",
	}
	for name, dialogue := range dialogues {
		t.Run(name, func(t *testing.T) {
			eachWrapping(t, wrapping{auth: true}, func(t *testing.T, h *host, w *wrapping) {
				c := w.connect(h)
				if name == "NewSession" {
					w.backend.setPanics(name)
					c = w.dial(h)
					c.want("220")
					dialogue = "EHLO client.example\r\n"
				}
				w.backend.setPanics(name)
				c.send(dialogue)
				var got []string
				for {
					reply, err := c.reply()
					if err != nil {
						break
					}
					got = append(got, reply[:3])
				}
				if last := strings.Join(got, " "); name != "Logout" && name != "Reset" && !strings.HasSuffix(last, "421") {
					t.Errorf("replies %s, want 421 in the end", last)
				}
				c.conn.Close()
				w.backend.setPanics("")
				if name != "NewSession" && !strings.Contains(h.logs.String(), "host "+name) && name != "Auth" {
					t.Errorf("the panic is not logged:\n%s", h.logs)
				}
				w.connect(h).cmd("NOOP", "250")
				w.stop()
				h.stopScheduler()
				h.nothing()
			})
		})
	}
}

// TestWrapMetaPanicsInRecords: Meta is called for the record of a refusal too,
// where go-smtp would not survive a panic.
func TestWrapMetaPanicsInRecords(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		w.backend.setPanics("Meta")
		c.send("MAIL FROM:<stranger@example.com>\r\n")
		c.want("550 5.7.1")
		c.conn.Close()
		w.backend.setPanics("")
		w.connect(h).cmd("NOOP", "250")
	})
}

// TestWrapVerdicts: what the host says of MAIL and RCPT holds.
func TestWrapVerdicts(t *testing.T) {
	says := func(code int) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 7, 7}, Message: "says the host"}
	}
	for _, tt := range []struct {
		name  string
		err   error
		reply string
		taken bool
	}{
		{"no error", nil, "250 ", true},
		{"a reply", says(250), "250 ", true},
		{"plain", errors.New("database is down"), "451 4.0.0 database is down", false},
		{"wrapped", fmt.Errorf("host: %w", says(550)), "451 4.0.0 host: ", false},
		{"temporary", says(450), "450 4.7.7 says the host", false},
		{"permanent", says(550), "550 5.7.7 says the host", false},
		{"nil", (*smtp.SMTPError)(nil), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
				w.backend.answer("asked@example.com", tt.err)
				c := w.connect(h)
				c.envelope("known@example.org")
				if tt.reply == "" { // go-smtp panics over it
					c.cmd("RCPT TO:<asked@example.com>", "421")
					return
				}
				c.cmd("RCPT TO:<asked@example.com>", tt.reply)
				c.cmd("DATA", "354")
				c.send(plain + ".\r\n")
				c.want("250 2.0.0 OK ids=")
				want := 1
				if tt.taken {
					want = 2
				}
				for range want {
					h.next()
				}
				c.cmd("MAIL FROM:<asked@example.com>", tt.reply)
				if code := c.cmd("RCPT TO:<known@example.org>", "")[:3]; (code == "250") != tt.taken {
					t.Errorf("RCPT behind that MAIL: %s", code)
				}
				h.stopScheduler()
				h.nothing()
			})
		})
	}
}

// TestWrapClosing: behind the host's 421 nothing is taken any more.
func TestWrapClosing(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		w.backend.answer("late@example.com", &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "no more"})
		c := w.connect(h)
		c.send("MAIL FROM:<late@example.com>\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 3 LAST\r\na\r\n")
		c.want("421 4.3.2 no more")
		for {
			reply, err := c.reply()
			if err != nil {
				break
			}
			if reply[0] == '2' || reply[0] == '3' {
				t.Errorf("behind 421: %q", reply)
			}
		}
		h.stopScheduler()
		h.nothing()
	})
}

// TestWrapAddresses: what cannot stand in a trace field is refused, whatever the
// host thinks of it.
func TestWrapAddresses(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		for _, addr := range []string{"\"a\rb\"@example.org", "\"a\x00b\"@example.org", "a\x7fb@example.org", "a\xffb@example.org"} {
			if reply := c.cmd("MAIL FROM:<"+addr+">", ""); reply[0] != '5' {
				t.Errorf("MAIL FROM:<%q>: %q", addr, reply)
			}
			c.cmd("MAIL FROM:<a@example.com>", "250")
			if reply := c.cmd("RCPT TO:<"+addr+">", ""); reply[0] != '5' {
				t.Errorf("RCPT TO:<%q>: %q", addr, reply)
			}
			c.cmd("RSET", "250")
		}
	})
}

// TestWrapRecords: refusals are recorded, once, whoever refuses.
func TestWrapRecords(t *testing.T) {
	eachWrapping(t, wrapping{}, func(t *testing.T, h *host, w *wrapping) {
		c := w.connect(h)
		c.cmd("MAIL FROM:<stranger@example.com>", "550")
		c.envelope("a@example.org")
		c.cmd("RCPT TO:<nobody@example.org>", "550")
		c.cmd("DATA", "354")
		c.send("bare\nLF\r\n.\r\n")
		c.want("552 5.6.0")
		c.cmd("MAIL FROM:<stranger@example.com>", "550")
		for _, want := range []struct {
			code    int
			command string
		}{
			{550, "MAIL FROM:<stranger@example.com>"}, {550, "RCPT TO:<nobody@example.org>"},
			{552, "DATA"}, {550, "MAIL FROM:<stranger@example.com>"},
		} {
			r := h.record(queue.Rejection)
			if r.Response.Code != want.code || r.Response.Command != want.command || r.Meta["tenant"] != "acme" || r.SessionID == "" {
				t.Errorf("record %+v, want %+v", r, want)
			}
		}
	})
}
