package smtpserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// dateFormat is date-time of RFC 5322, section 3.3.
const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// trace returns the fields that are put above e.
func (s *reception) trace(e *spool.Entry) []byte {
	var b bytes.Buffer
	if !s.opts.Trace.OmitSupplemental {
		s.writeSupplemental(&b, e)
	}
	if !s.opts.Trace.OmitReceived {
		s.writeReceived(&b, e)
	}
	return b.Bytes()
}

// writeReceived writes a Received field (RFC 5321, section 4.4). It names the
// recipient only if there is just one: the others would learn of each other.
func (s *reception) writeReceived(b *bytes.Buffer, e *spool.Entry) {
	fmt.Fprintf(b, "Received: from %s", helloDomain(s.pub.Hello))
	if ip := s.pub.Remote.Addr(); ip.IsValid() {
		fmt.Fprintf(b, " (%s)", addressLiteral(ip))
	}
	fmt.Fprintf(b, "\r\n\tby %s with %s id %s", s.opts.Hostname, s.protocol(), e.ID)
	if rcpts := e.Envelope.Recipients; len(rcpts) == 1 {
		if path, ok := quotePath(rcpts[0].Address); ok {
			fmt.Fprintf(b, "\r\n\tfor <%s>", path)
		}
	}
	fmt.Fprintf(b, ";\r\n\t%s\r\n", e.Received.Format(dateFormat))
}

// protocol is the "with" of a Received field (RFC 3848).
func (s *reception) protocol() string {
	name := "SMTP"
	switch {
	case s.opts.LMTP:
		name = "LMTP"
	case s.extended:
		name = "ESMTP"
	default:
		return name
	}
	if s.pub.TLS != nil {
		name += "S"
	}
	if s.pub.AuthnID != "" {
		name += "A"
	}
	return name
}

// writeSupplemental writes the supplemental field: what identifies the message
// when it comes back in a bounce or a complaint.
func (s *reception) writeSupplemental(b *bytes.Buffer, e *spool.Entry) {
	fields := map[string]string{"_@_": `\_/`}
	if len(e.Envelope.Recipients) == 1 {
		fields["recipient"] = e.Envelope.Recipients[0].Address
	}
	for _, name := range s.opts.Trace.IncludeMetaNames {
		if v, ok := e.Meta[name]; ok {
			fields[name] = v
		}
	}
	text, _ := json.Marshal(fields) // strings only: cannot fail
	encoded := base64.StdEncoding.EncodeToString(text)
	b.WriteString(s.opts.Trace.HeaderName + ":")
	for sep := " "; encoded != ""; sep = "\r\n\t" {
		n := min(len(encoded), 64)
		b.WriteString(sep + encoded[:n])
		encoded = encoded[n:]
	}
	b.WriteString("\r\n")
}

// addressLiteral is the address literal of RFC 5321, section 4.1.3.
func addressLiteral(ip netip.Addr) string {
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.WithZone("").String() + "]"
}

// helloDomain returns what the client called itself, with everything replaced
// that has no place in a Received field.
func helloDomain(s string) string {
	if s == "" {
		return "unknown"
	}
	return strings.Map(func(c rune) rune {
		if isDomainChar(c) {
			return c
		}
		return '?'
	}, s[:min(len(s), maxDomain)])
}

func isDomainChar(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-._:[]", c)
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

// quotePath returns an address as it is written in a path, with the quotes that
// its local part needs (RFC 5321, section 4.1.2), and whether it can be
// written at all.
func quotePath(addr string) (string, bool) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 || strings.IndexFunc(addr, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0 {
		return "", false
	}
	local, domain := addr[:at], addr[at+1:]
	if domain == "" || strings.ContainsAny(domain, " <>()\\\",;") {
		return "", false
	}
	if strings.HasPrefix(local, `"`) && strings.HasSuffix(local, `"`) && len(local) > 1 {
		return addr, true
	}
	if local != "" && !strings.ContainsAny(local, " ()<>[]:;@\\,\"") {
		return addr, true
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"@` + domain, true
}

// received is the time of a transaction, as it is in every field and record.
func received() time.Time { return time.Now().Truncate(time.Millisecond) }
