package dsn

import (
	"bytes"
	"net/mail"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestSpaces: spaces that are not white space of a field stay what they are in addresses.
func TestSpaces(t *testing.T) {
	sender, rcpt := "山田\u3000太郎@example.jp", "b\u00a0c@example.com"
	notice := write(t, &Report{Envelope: spool.Envelope{Sender: sender, SMTPUTF8: true}, Recipients: []Recipient{{Address: rcpt}}})
	m, err := mail.ReadMessage(bytes.NewReader(notice))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := mail.ParseAddress(m.Header.Get("To")); err != nil || a.Address != sender {
		t.Errorf("To: %q: %v", m.Header.Get("To"), err)
	}
	if !bytes.Contains(notice, []byte("Final-Recipient: utf-8; "+rcpt+"\r\n")) {
		t.Errorf("another recipient than %q:\n%s", rcpt, notice)
	}
}

// TestManySpaces: where a line is folded the spaces stay, and no line is too long or blank.
func TestManySpaces(t *testing.T) {
	for n := range 200 {
		address := `"` + strings.Repeat("a", n) + strings.Repeat(" ", n%7+1) + "b" + strings.Repeat(" ", n%3) + `"@example.com`
		notice := write(t, report(func(r *Report) { r.Envelope.Sender, r.Recipients[0].Address = address, address }))
		checkLines(t, notice, false)
		for line := range strings.SplitSeq(string(notice), "\r\n") {
			if strings.TrimRight(line, " ") != line {
				t.Errorf("%q ends with a space", line)
			}
		}
		unfolded := strings.ReplaceAll(string(notice), "\r\n ", " ")
		for _, want := range []string{"To: <" + address + ">\r\n", "Final-Recipient: rfc822; " + address + "\r\n"} {
			if !strings.Contains(unfolded, want) {
				t.Errorf("%q is missing in\n%s", want, notice)
			}
		}
	}
	notice := write(t, report(func(r *Report) {
		r.Recipients[0].Address = strings.Repeat("a"+strings.Repeat(" ", 990)+"b", 9) + strings.Repeat("c", 900)
	}))
	checkLines(t, notice, false)
}

// TestMessageIDHost: the right side of a Message-ID is a dot-atom (RFC 5322, section 3.6.4).
func TestMessageIDHost(t *testing.T) {
	for host, want := range map[string]string{
		"mail.example.org": "mail.example.org", "mail.example.org.": "mail.example.org", "mail": "mail",
		"": "localhost", ".": "localhost", "a..b": "localhost", ".a": "localhost", "a b": "localhost", "[192.0.2.1]": "localhost",
	} {
		if got := messageIDHost(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// TestLongWords: what has no white space is not cut.
func TestLongWords(t *testing.T) {
	id := "<" + strings.Repeat("i", 890) + "@x>"
	sender := strings.Repeat("s", 400) + "@" + strings.Repeat("d", 90) + ".example"
	notice := write(t, &Report{
		Envelope: spool.Envelope{Sender: sender}, Recipients: []Recipient{{Address: "b@example.com"}},
		Content: strings.NewReader("Message-ID: " + id + "\r\n\r\nbody\r\n"),
	})
	checkLines(t, notice, false)
	m, err := mail.ReadMessage(bytes.NewReader(notice))
	if err != nil {
		t.Fatal(err)
	}
	if to := m.Header.Get("To"); to != "<"+sender+">" {
		t.Errorf("To: %q", to)
	}
	if got := m.Header.Get("In-Reply-To"); got != id {
		t.Errorf("In-Reply-To: %q", got)
	}
}

// TestFieldValue: a field of very many lines costs no more than its length.
func TestFieldValue(t *testing.T) {
	header := []byte("Subject: x\r\nX-Long: y\r\n" + strings.Repeat(" a\r\n", 20_000) + "Message-ID:\r\n <1@x>\r\n")
	for name, want := range map[string]string{"subject": "x", "Message-Id": "<1@x>", "X-Long": "y" + strings.Repeat(" a", 20_000), "None": ""} {
		if got := fieldValue(header, name); got != want {
			t.Errorf("%s: %d octets, want %d", name, len(got), len(want))
		}
		if n := testing.AllocsPerRun(1, func() { fieldValue(header, name) }); n > 100 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
