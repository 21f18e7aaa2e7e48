package smtpserver

import (
	"bytes"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// message is what the clients send: lines with dots, a long one, 8 bit, and
// no line at the end that a client could be tempted to mend.
var message = strings.Join([]string{
	"From: sender@example.com", "To: rcpt@example.org", "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=", "MIME-Version: 1.0",
	"Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
	".", "..", ".dot", "gr\u00fc\u00dfe", strings.Repeat("x", 998), "", "\ttab and space ", "last", "",
}, "\r\n")

// An outsideClient sends message to the recipients by other code than ours.
type outsideClient struct {
	name  string
	tool  string // the program; empty: none
	pkg   string // Debian's package of it
	rcpts int    // how many messages come of one call
	send  func(addr, file string) error
	check func(t *testing.T, got []*injected)
}

var outsideClients = []outsideClient{
	{name: "net-smtp", rcpts: 2, check: checkMessage, send: func(addr, _ string) error {
		return smtp.SendMail(addr, nil, "sender@example.com", []string{"0@example.org", "1@example.org"}, []byte(message))
	}},
	{name: "swaks", tool: "swaks", pkg: "swaks", rcpts: 2, check: checkMessage, send: func(addr, file string) error {
		return run("swaks", "--server", addr, "--ehlo", "swaks.example", "--from", "sender@example.com", "--to", "0@example.org,1@example.org", "--data", "@"+file+".swaks")
	}},
	{name: "swaks, pipelining", tool: "swaks", pkg: "swaks", rcpts: 1, check: checkMessage, send: func(addr, file string) error {
		return run("swaks", "--server", addr, "--pipeline", "--from", "sender@example.com", "--to", "0@example.org", "--data", "@"+file+".swaks")
	}},
	{name: "smtplib", tool: "python3", pkg: "python3", rcpts: 3, check: checkMessage, send: func(addr, file string) error {
		return run("python3", "-c", `
import smtplib, sys
host, port = sys.argv[1].rsplit(":", 1)
content = open(sys.argv[2], "rb").read()
with smtplib.SMTP(host, int(port)) as s:
    assert s.sendmail("sender@example.com", ["0@example.org", "1@example.org"], content, ["BODY=8BITMIME"]) == {}
    s.sendmail("sender@example.com", ["2@example.org"], content)
`, addr, file)
	}},
	{name: "smtp-source", tool: "smtp-source", pkg: "postfix", rcpts: 500 * 3, check: checkSource, send: func(addr, _ string) error {
		return run("smtp-source", "-s", "20", "-m", "500", "-r", "3", "-l", "20000", "-f", "sender@example.com", "-t", "rcpt@example.org", addr)
	}},
	{name: "smtp-source, a session per message", tool: "smtp-source", pkg: "postfix", rcpts: 100, check: checkSource, send: func(addr, _ string) error {
		return run("smtp-source", "-d", "-s", "10", "-m", "100", "-l", "4000", "-f", "sender@example.com", "-t", "rcpt@example.org", addr)
	}},
}

func run(name string, args ...string) error {
	path, err := lookTool(name)
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// lookTool finds a program, in the directories of the administrator too.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if path = filepath.Join("/usr/sbin", name); exec.Command("test", "-x", path).Run() == nil {
		return path, nil
	}
	return "", err
}

// checkMessage compares byte by byte.
func checkMessage(t *testing.T, got []*injected) {
	rcpts := map[string]int{}
	for _, m := range got {
		if body := m.body(); body != message {
			t.Errorf("content %q, want %q", body, message)
		}
		if !strings.Contains(m.content, "Received: from ") || m.env.Sender != "sender@example.com" {
			t.Errorf("trace fields %.300q, sender %q", m.content, m.env.Sender)
		}
		rcpts[m.env.Recipients[0].Address]++
	}
	for i := range got {
		if addr := fmt.Sprintf("%d@example.org", i); rcpts[addr] != 1 {
			t.Errorf("recipient %s got %d messages, want 1", addr, rcpts[addr])
		}
	}
}

// checkSource checks what smtp-source makes: numbered lines of X behind a header
// with a Message-Id, once for each recipient.
func checkSource(t *testing.T, got []*injected) {
	copies := map[string]int{}
	ids := map[spool.ID]bool{}
	for _, m := range got {
		body := m.body()
		_, text, ok := strings.Cut(body, "\r\n\r\n")
		if !ok || strings.Trim(text, "0123456789X\r\n") != "" || !strings.HasSuffix(text, "X\r\n") || len(text) < 3000 {
			t.Fatalf("%d octets %.200q ... %.40q", len(body), body, text[max(0, len(text)-40):])
		}
		copies[body]++
		ids[m.id] = true
	}
	if len(ids) != len(got) {
		t.Errorf("%d messages have %d IDs", len(got), len(ids))
	}
	first := copies[got[0].body()]
	for body, n := range copies {
		if n != first {
			t.Errorf("%d copies of one message, %d of another: %.200q", first, n, body)
		}
	}
}

// TestClients delivers by code that others wrote. Without -long only by net/smtp.
func TestClients(t *testing.T) {
	file := filepath.Join(t.TempDir(), "message")
	for name, content := range map[string]string{
		file:            message,
		file + ".swaks": strings.TrimSuffix(message, "\r\n"), // which puts one behind it
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range outsideClients {
		if c.tool != "" && !*long {
			t.Logf("%s is checked with -long only", c.name)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if c.tool != "" {
				if _, err := lookTool(c.tool); err != nil {
					t.Fatalf("%s is not installed: .ci/install brings it, or Debian's package %s", c.tool, c.pkg)
				}
			}
			h := serve(t, nil)
			if err := c.send(h.l.Addr().String(), file); err != nil {
				t.Fatalf("%v\n%s", err, h.logs)
			}
			got := make([]*injected, c.rcpts)
			for i := range got {
				got[i] = h.next()
			}
			c.check(t, got)
			h.stopScheduler()
			h.nothing()
		})
	}
}

// TestClientMessage: the message of the clients goes over the wire as it is.
func TestClientMessage(t *testing.T) {
	h := serve(t, nil)
	c := h.greeted()
	c.envelope("a@example.org")
	c.cmd("DATA", "354")
	stuffed := bytes.ReplaceAll([]byte("\r\n"+message), []byte("\r\n."), []byte("\r\n.."))[2:]
	if _, err := (&net.Buffers{stuffed, []byte(".\r\n")}).WriteTo(c.conn); err != nil {
		t.Fatal(err)
	}
	c.want("250")
	if m := h.next(); m.body() != message {
		t.Errorf("content %q", m.body())
	}
}
