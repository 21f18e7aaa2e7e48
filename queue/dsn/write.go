package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Write writes the notice to w, as it goes by SMTP or into a queue. It holds no
// more than twice MaxContent in memory. An error is that of w, or says what is
// missing; content that cannot be read is left out.
//
// The Report may be used again, but for its Content, and concurrently only
// without one.
func (r *Report) Write(w io.Writer) error {
	if r.Envelope.Sender == "" {
		return errors.New("dsn: the message has the null reverse-path: nobody is told")
	}
	if len(r.Recipients) == 0 {
		return errors.New("dsn: the report has no recipient")
	}
	n := newNotice(r.withDefaults())
	if r.Content != nil {
		r.returned8bit = new(n.returns8bit())
	}
	_, err := w.Write(n.bytes())
	return err
}

// A notice is one that is being written.
type notice struct {
	*Report
	intl     bool
	returned *returned
	text     string
	boundary string
	buf      bytes.Buffer
}

func newNotice(r *Report) *notice {
	n := &notice{Report: r, intl: r.utf8(), returned: r.content()}
	n.text = n.humanText()
	n.boundary = "=_" + r.NoticeID.String()
	for n.collides() {
		n.boundary = "=_" + spool.NewID().String()
	}
	return n
}

func (n *notice) returns8bit() bool { return n.returned != nil && n.returned.encoding == "8bit" }

// collides reports whether what stands between boundaries contains one.
func (n *notice) collides() bool {
	return n.returned != nil && bytes.Contains(n.returned.data, []byte(n.boundary)) || strings.Contains(n.text, n.boundary)
}

func (n *notice) bytes() []byte {
	n.header()
	n.part("")
	n.humanPart()
	status, encoding := "message/delivery-status", ""
	if n.intl {
		status, encoding = "message/global-delivery-status", "8bit"
	}
	n.part(status)
	n.field("Content-Transfer-Encoding", encoding)
	n.buf.WriteString("\r\n")
	n.messageFields()
	for i := range n.Recipients {
		n.buf.WriteString("\r\n")
		n.recipientFields(&n.Recipients[i])
	}
	if ret := n.returned; ret != nil {
		n.part(ret.mediaType)
		n.field("Content-Transfer-Encoding", ret.encoding)
		n.buf.WriteString("\r\n")
		n.buf.Write(ret.data)
	}
	fmt.Fprintf(&n.buf, "\r\n--%s--\r\n", n.boundary)
	return n.buf.Bytes()
}

// header writes the header of the notice (RFC 5322; RFC 3834 for Auto-Submitted).
func (n *notice) header() {
	host := clean(n.ReportingMTA, false)
	from := mailbox("Mail Delivery System", n.From, n.intl)
	if from == "" {
		from = "Mail Delivery System <MAILER-DAEMON@localhost>"
	}
	to := mailbox("", n.Envelope.Sender, n.intl)
	if to == "" {
		to = "undisclosed-recipients:;"
	}
	n.field("From", from)
	n.field("To", to)
	n.field("Subject", subject(subjects[n.action()]+n.about(), n.intl))
	n.field("Date", n.Date.Format(time.RFC1123Z))
	n.field("Message-ID", "<"+n.NoticeID.String()+"@"+messageIDHost(host)+">")
	if n.returned != nil && isMessageID(n.returned.messageID) {
		n.field("In-Reply-To", n.returned.messageID)
		n.field("References", n.returned.messageID)
	}
	n.field("Auto-Submitted", "auto-replied")
	n.field("MIME-Version", "1.0")
	if n.intl || n.returns8bit() { // a multipart has the encoding of its parts (RFC 2045, section 6.4)
		n.field("Content-Transfer-Encoding", "8bit")
	}
	fmt.Fprintf(&n.buf, "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"%s\"\r\n\r\n", n.boundary)
}

// about is what the subject says of the subject of the message.
func (n *notice) about() string {
	if n.returned == nil {
		return ""
	}
	s := clean(n.returned.subject, true)
	if s == "" || !isASCII(s) || len(s) > 200 || strings.Contains(s, "=?") {
		return ""
	}
	return ": " + s
}

// messageIDHost is what stands behind the @ of a Message-ID: a dot-atom.
func messageIDHost(host string) string {
	host = strings.TrimSuffix(host, ".") // of the root
	if strings.ContainsAny(host, " <>@()[]\\,;:\"") || slices.Contains(strings.Split(host, "."), "") {
		return "localhost"
	}
	return host
}

// isMessageID reports whether s is a msg-id that may be repeated in a field.
func isMessageID(s string) bool {
	return len(s) > 2 && len(s) < wordMax && s[0] == '<' && s[len(s)-1] == '>' && isASCII(s) &&
		!strings.ContainsAny(s[1:len(s)-1], "<> \t") && clean(s, false) == s
}

// part begins a part of the multipart; the first one has the name of none.
func (n *notice) part(mediaType string) {
	if mediaType == "" {
		fmt.Fprintf(&n.buf, "--%s\r\n", n.boundary)
		return
	}
	fmt.Fprintf(&n.buf, "\r\n--%s\r\nContent-Type: %s\r\n", n.boundary, mediaType)
}

// field writes a field, unless it is empty.
func (n *notice) field(name, value string) {
	if value != "" {
		n.buf.WriteString(fold(name, value))
	}
}

func (n *notice) humanPart() {
	charset, encoding, text := "us-ascii", "7bit", normalize([]byte(n.text))
	if !sevenBit(text) {
		charset, encoding, text = "utf-8", "quoted-printable", quoted(text)
	}
	n.field("Content-Type", "text/plain; charset="+charset)
	n.field("Content-Transfer-Encoding", encoding)
	n.buf.WriteString("\r\n")
	n.buf.Write(text)
}

// messageFields are those of RFC 3464, section 2.2.
func (n *notice) messageFields() {
	n.field("Original-Envelope-Id", cleanAddress(n.Envelope.EnvID, false))
	n.field("Reporting-MTA", "dns; "+clean(n.ReportingMTA, n.intl))
	if !n.Arrived.IsZero() {
		n.field("Arrival-Date", n.Arrived.Format(time.RFC1123Z))
	}
}

// recipientFields are those of RFC 3464, section 2.3.
func (n *notice) recipientFields(rcpt *Recipient) {
	n.field("Original-Recipient", original(rcpt.ORcpt, n.intl))
	n.field("Final-Recipient", typed("rfc822", rcpt.Address, n.intl))
	n.field("Action", string(rcpt.Action))
	n.field("Status", rcpt.status())
	if mta := clean(rcpt.RemoteMTA, n.intl); mta != "" {
		n.field("Remote-MTA", "dns; "+mta)
	}
	if text := clean(rcpt.Diagnostic, n.intl); text != "" {
		n.field("Diagnostic-Code", "smtp; "+text)
	}
	if !rcpt.LastTried.IsZero() {
		n.field("Last-Attempt-Date", rcpt.LastTried.Format(time.RFC1123Z))
	}
	if rcpt.Action == Delayed && !rcpt.RetryUntil.IsZero() {
		n.field("Will-Retry-Until", rcpt.RetryUntil.Format(time.RFC1123Z))
	}
}

// status is the code of the class that the action asks for (RFC 3463, section 3.1).
func (rcpt *Recipient) status() string {
	class := 2
	switch rcpt.Action {
	case Failed:
		class = 5
	case Delayed:
		class = 4
	}
	s := rcpt.Status
	if s[0] != class && !(rcpt.Action == Failed && s[0] == 4) { // what failed for a passing reason, too long
		s = [3]int{class, 0, 0}
	}
	return fmt.Sprintf("%d.%d.%d", s[0], min(max(s[1], 0), 999), min(max(s[2], 0), 999))
}
