package dsn

import (
	"bytes"
	"io"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"github.com/deferredqueue/deferredqueue/spool"
)

var at = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

const content = "From: <a@example.org>\r\nMessage-ID: <1@example.org>\r\nSubject: Hello\r\n\r\nThe text.\r\n"

// report is a report about one recipient that failed.
func report(change func(*Report)) *Report {
	r := &Report{
		Envelope: spool.Envelope{Sender: "a@example.org"}, Arrived: at.Add(-time.Hour), Date: at,
		Recipients:   []Recipient{{Address: "b@example.com", Status: [3]int{5, 1, 1}, Diagnostic: "550 5.1.1 no such user", LastTried: at}},
		ReportingMTA: "relay.example", Content: strings.NewReader(content), NoticeID: spool.ID{1},
	}
	if change != nil {
		change(r)
	}
	return r
}

// A parsed is a notice as another program reads it.
type parsed struct {
	header  message.Header
	types   []string
	human   string
	message textproto.Header
	rcpts   []textproto.Header
	content string
}

// parse reads a notice with go-message, and checks all that must hold of any.
func parse(t *testing.T, notice []byte, utf8 bool) *parsed {
	t.Helper()
	checkLines(t, notice, utf8)
	e, err := message.Read(bytes.NewReader(notice))
	if err != nil {
		t.Fatalf("%v in\n%s", err, notice)
	}
	p := &parsed{header: e.Header}
	kind, params, err := e.Header.ContentType()
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("the type is %q, %v, %v", kind, params, err)
	}
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "Mime-Version"} {
		if n := len(e.Header.Values(name)); n != 1 {
			t.Errorf("%d fields %s", n, name)
		}
	}
	if _, err := mail.ParseAddressList(e.Header.Get("From")); err != nil {
		t.Errorf("From: %v", err)
	}
	if _, err := mail.ParseDate(e.Header.Get("Date")); err != nil {
		t.Error(err)
	}
	parts := e.MultipartReader()
	if parts == nil {
		t.Fatalf("no multipart:\n%s", notice)
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil && !message.IsUnknownCharset(err) {
			t.Fatalf("%v in\n%s", err, notice)
		}
		p.add(t, part)
	}
	if len(p.types) < 2 || len(p.types) > 3 || p.types[0] != "text/plain" || len(p.rcpts) == 0 {
		t.Errorf("parts %q, %d recipients", p.types, len(p.rcpts))
	}
	return p
}

func (p *parsed) add(t *testing.T, part *message.Entity) {
	t.Helper()
	kind, _, _ := part.Header.ContentType()
	data, err := io.ReadAll(part.Body)
	if err != nil {
		t.Errorf("reading %s: %v", kind, err)
	}
	p.types = append(p.types, kind)
	switch len(p.types) {
	case 1:
		p.human = string(data)
	case 2:
		p.status(t, data)
	case 3:
		p.content = string(data)
	}
}

// status reads the part for programs (RFC 3464, section 2.1).
func (p *parsed) status(t *testing.T, data []byte) {
	t.Helper()
	for i, block := range strings.Split(strings.TrimSuffix(string(data), "\r\n"), "\r\n\r\n") {
		h, err := textproto.ReadHeader(newReader(block + "\r\n\r\n"))
		if err != nil {
			t.Fatalf("%v in %q", err, block)
		}
		if i == 0 {
			p.message = h
			if !strings.HasPrefix(h.Get("Reporting-MTA"), "dns; ") {
				t.Errorf("Reporting-MTA is %q", h.Get("Reporting-MTA"))
			}
			continue
		}
		p.rcpts = append(p.rcpts, h)
		for _, name := range []string{"Final-Recipient", "Action", "Status"} {
			if n := len(h.Values(name)); n != 1 {
				t.Errorf("%d fields %s in %q", n, name, block)
			}
		}
	}
}

// checkLines checks what RFC 5322, section 2.1.1 wants of each line.
func checkLines(t *testing.T, notice []byte, utf8 bool) {
	t.Helper()
	for n, line := range strings.Split(strings.TrimSuffix(string(notice), "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %d is %q", n+1, line)
		}
		if !utf8 && !isASCII(line) {
			t.Errorf("line %d is not ASCII: %q", n+1, line)
		}
	}
	if !bytes.HasSuffix(notice, []byte("--\r\n")) {
		t.Error("the notice does not end with its last boundary")
	}
}

func write(t *testing.T, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFailure(t *testing.T) {
	want := strings.ReplaceAll(`From: Mail Delivery System <MAILER-DAEMON@relay.example>
To: <a@example.org>
Subject: Undelivered mail: Hello
Date: Wed, 02 Jan 2030 03:04:05 +0000
Message-ID: <01000000000000000000000000000000@relay.example>
In-Reply-To: <1@example.org>
References: <1@example.org>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary="=_01000000000000000000000000000000"

--=_01000000000000000000000000000000
Content-Type: text/plain; charset=us-ascii
Content-Transfer-Encoding: 7bit

This is the mail system at host relay.example.

Your message could not be delivered to:

  <b@example.com>
    550 5.1.1 no such user

The header of your message is attached.

--=_01000000000000000000000000000000
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example
Arrival-Date: Wed, 02 Jan 2030 02:04:05 +0000

Final-Recipient: rfc822; b@example.com
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user
Last-Attempt-Date: Wed, 02 Jan 2030 03:04:05 +0000

--=_01000000000000000000000000000000
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: 7bit

From: <a@example.org>
Message-ID: <1@example.org>
Subject: Hello

--=_01000000000000000000000000000000--
`, "\n", "\r\n")
	got := write(t, report(nil))
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
	parse(t, got, false)
}

// TestReturned: what of the message goes back (RFC 3461, section 4.3; RFC 6522).
func TestReturned(t *testing.T) {
	long := content + strings.Repeat("More of it.\r\n", 10)
	for _, tt := range []struct {
		name    string
		change  func(*Report)
		content string
		want    string // type and encoding
		text    string // a part of it
	}{
		{"nothing asked", nil, content, "text/rfc822-headers 7bit", "Hello"},
		{"header", func(r *Report) { r.Envelope.Ret = "HDRS" }, content, "text/rfc822-headers 7bit", "Hello"},
		{"all", func(r *Report) { r.Envelope.Ret = "FULL" }, content, "message/rfc822 7bit", "The text."},
		{"all of what is too long", func(r *Report) { r.Envelope.Ret, r.MaxContent = "FULL", int64(len(long)-1) }, long, "text/rfc822-headers 7bit", "Hello"},
		{"all of what is just not", func(r *Report) { r.Envelope.Ret, r.MaxContent = "FULL", int64(len(long)) }, long, "message/rfc822 7bit", "More"},
		{"of a delay", func(r *Report) { r.Envelope.Ret, r.Recipients[0].Action = "FULL", Delayed }, content, "text/rfc822-headers 7bit", "Hello"},
		{"of a success", func(r *Report) { r.Envelope.Ret, r.Recipients[0].Action = "FULL", Relayed }, content, "text/rfc822-headers 7bit", "Hello"},
		{"a cut header", func(r *Report) { r.MaxContent = 60 }, content, "text/rfc822-headers 7bit", "From"},
		{"8-bit header", nil, "Subject: h\xe9\r\n\r\n", "text/rfc822-headers quoted-printable", "h\xe9"},
		{"8-bit text", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: x\r\n\r\nh\xe9\r\n", "message/rfc822 8bit", "h\xe9"},
		{"8-bit text of a delay", func(r *Report) { r.Envelope.Ret, r.Recipients[0].Action = "FULL", Delayed }, "Subject: x\r\n\r\nh\xe9\r\n", "text/rfc822-headers 7bit", "Subject: x"},
		{"8-bit header and text", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: h\xe9\r\n\r\nh\xe9\r\n", "text/rfc822-headers quoted-printable", "h\xe9"},
		{"8-bit text, long lines", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: x\r\n\r\n" + strings.Repeat("\xe9", 999) + "\r\n", "text/rfc822-headers 7bit", "Subject"},
		{"bare LF", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: x\n\ntext\n", "text/rfc822-headers quoted-printable", "Subject: x"},
		{"long lines", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: x\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", "text/rfc822-headers 7bit", "Subject"},
		{"UTF-8", func(r *Report) { r.Envelope.Sender, r.Envelope.Ret = "ä@example.org", "FULL" }, "Subject: ä\r\n\r\nä\r\n", "message/global 8bit", "ä"},
		{"its header", func(r *Report) { r.Envelope.Sender = "ä@example.org" }, "Subject: ä\r\n\r\nä\r\n", "message/global-headers quoted-printable", "ä"},
		{"UTF-8 for another sender", func(r *Report) { r.Envelope.Ret = "FULL" }, "Subject: ä\r\n\r\nä\r\n", "text/rfc822-headers quoted-printable", "ä"},
		{"nothing", func(r *Report) { r.Content = nil }, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := report(func(r *Report) { r.Content = strings.NewReader(tt.content) })
			if tt.change != nil {
				tt.change(r)
			}
			n := newNotice(r.withDefaults())
			got := ""
			if n.returned != nil {
				got = n.returned.mediaType + " " + n.returned.encoding
			}
			if got != tt.want {
				t.Errorf("returned as %q, want %q", got, tt.want)
			}
			eightBit := strings.HasSuffix(got, " 8bit")
			p := parse(t, n.bytes(), r.utf8() || eightBit)
			if p.header.Get("Content-Transfer-Encoding") == "8bit" != (r.utf8() || eightBit) {
				t.Errorf("the notice has the encoding %q", p.header.Get("Content-Transfer-Encoding"))
			}
			if !strings.Contains(p.content, tt.text) {
				t.Errorf("returned %q, want %q in it", p.content, tt.text)
			}
		})
	}
}

// TestFields are the fields of RFC 3464, sections 2.2 and 2.3, and of RFC 6533.
func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Report)
		field  string
		want   string
	}{
		{"ENVID", func(r *Report) { r.Envelope.EnvID = "QQ 314=159" }, "Original-Envelope-Id", "QQ 314=159"},
		{"no ENVID", nil, "Original-Envelope-Id", ""},
		{"ORCPT", func(r *Report) { r.Recipients[0].ORcpt = "RFC822;Bob@example.com" }, "Original-Recipient", "rfc822; Bob@example.com"},
		{"another type", func(r *Report) { r.Recipients[0].ORcpt = "x400;/C=us/" }, "Original-Recipient", "x400; /C=us/"},
		{"a bad ORCPT", func(r *Report) { r.Recipients[0].ORcpt = "no type" }, "Original-Recipient", ""},
		{"UTF-8 ORCPT", func(r *Report) { r.Recipients[0].ORcpt = "utf-8;ä@example.com" }, "Original-Recipient", `utf-8; \x{E4}@example.com`},
		{"UTF-8 recipient", func(r *Report) { r.Recipients[0].Address = "ä@example.com" }, "Final-Recipient", `utf-8; \x{E4}@example.com`},
		{"spaces", func(r *Report) { r.Recipients[0].Address = `"a  b"@example.com` }, "Final-Recipient", `rfc822; "a  b"@example.com`},
		{"spaces of UTF-8", func(r *Report) { r.Recipients[0].Address = `"a  ä+="@example.com` }, "Final-Recipient", `utf-8; "a\x{20}\x{20}\x{E4}\x{2B}\x{3D}"@example.com`},
		{"spaces of ORCPT", func(r *Report) { r.Recipients[0].ORcpt = `rfc822;"a  b"@example.com` }, "Original-Recipient", `rfc822; "a  b"@example.com`},
		{"spaces of ENVID", func(r *Report) { r.Envelope.EnvID = "a  b" }, "Original-Envelope-Id", "a  b"},
		{"both UTF-8", func(r *Report) { r.Recipients[0].Address, r.Envelope.Sender = "ä@example.com", "ö@example.org" }, "Final-Recipient", "utf-8; ä@example.com"},
		{"failed", nil, "Action", "failed"},
		{"delayed", func(r *Report) { r.Recipients[0].Action = Delayed }, "Action", "delayed"},
		{"no action", func(r *Report) { r.Recipients[0].Action = "x\r\ny" }, "Action", "failed"},
		{"status", nil, "Status", "5.1.1"},
		{"failed at last", func(r *Report) { r.Recipients[0].Status = [3]int{4, 4, 7} }, "Status", "4.4.7"},
		{"no status", func(r *Report) { r.Recipients[0].Status = [3]int{} }, "Status", "5.0.0"},
		{"another class", func(r *Report) { r.Recipients[0].Action = Delayed }, "Status", "4.0.0"},
		{"relayed", func(r *Report) { r.Recipients[0].Action = Relayed }, "Status", "2.0.0"},
		{"remote", func(r *Report) { r.Recipients[0].RemoteMTA = "mx.example.com" }, "Remote-MTA", "dns; mx.example.com"},
		{"reply", func(r *Report) { r.Recipients[0].Diagnostic = "550 a\r\nAction: delivered\x00ü" }, "Diagnostic-Code", "smtp; 550 a Action: delivered ?"},
		{"until", func(r *Report) { r.Recipients[0].Action, r.Recipients[0].RetryUntil = Delayed, at }, "Will-Retry-Until", "Wed, 02 Jan 2030 03:04:05 +0000"},
		{"until, but it failed", func(r *Report) { r.Recipients[0].RetryUntil = at }, "Will-Retry-Until", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := report(tt.change)
			p := parse(t, write(t, r), r.utf8())
			h := p.rcpts[0]
			if strings.HasPrefix(tt.field, "Original-Envelope") {
				h = p.message
			}
			if got := h.Get(tt.field); got != tt.want {
				t.Errorf("%s is %q, want %q", tt.field, got, tt.want)
			}
		})
	}
}

func TestBoundary(t *testing.T) {
	r := report(func(r *Report) {
		r.Content = strings.NewReader("X: --=_01000000000000000000000000000000--\r\n\r\n")
		r.Text = "--=_01000000000000000000000000000000\r\n"
	})
	if p := parse(t, write(t, r), false); len(p.types) != 3 {
		t.Errorf("parts: %q", p.types)
	}
}

func TestWriteErrors(t *testing.T) {
	for _, change := range []func(*Report){
		func(r *Report) { r.Envelope.Sender = "" },
		func(r *Report) { r.Recipients = nil },
	} {
		if err := report(change).Write(io.Discard); err == nil {
			t.Error("no error")
		}
	}
}

// FuzzWrite: nothing in an envelope, a reply or a message makes a malformed notice.
func FuzzWrite(f *testing.F) {
	f.Add("a@example.org", "b@example.com", "rfc822;b@example.com", "QQ1", "550 no", "relay.example", content, "", true)
	f.Add("ä@example.org", "\r\n.\r\n@", "utf-8;\\x{110000}", "\x00", strings.Repeat("x", 2000), "a b", "Subject: x\n y\r\rz\x80", "text\r", false)
	f.Fuzz(func(t *testing.T, sender, rcpt, orcpt, envID, reply, host, content, text string, full bool) {
		if sender == "" {
			return
		}
		r := report(func(r *Report) {
			r.Envelope.Sender, r.Envelope.EnvID = sender, envID
			r.Recipients[0] = Recipient{Address: rcpt, ORcpt: orcpt, Diagnostic: reply, RemoteMTA: host}
			r.ReportingMTA, r.From, r.Content, r.Text = host, rcpt, strings.NewReader(content), text
			r.Envelope.Ret = map[bool]string{true: "FULL"}[full]
		})
		notice := write(t, r)
		parse(t, notice, r.NoticeEnvelope().Body == "8BITMIME")
	})
}
