package smtpserver

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// dateFormat is date-time of RFC 5322, section 3.3.
const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// trace returns the fields that are put above e, whose metadata meta returned.
func (s *reception) trace(e *spool.Entry) []byte {
	var room [512]byte
	b := room[:0]
	if !s.opts.Trace.OmitSupplemental {
		b = s.appendSupplemental(b, e)
	}
	if !s.opts.Trace.OmitReceived {
		b = s.appendReceived(b, e)
	}
	return bytes.Clone(b) // of its own size: it is kept
}

// appendReceived appends a Received field (RFC 5321, section 4.4). It names the
// recipient only if there is just one: the others would learn of each other.
func (s *reception) appendReceived(b []byte, e *spool.Entry) []byte {
	b = append(b, s.known.from...)
	b = append(b, " with "...)
	b = append(b, s.protocol()...)
	b = append(b, " id "...)
	b = hex.AppendEncode(b, e.ID[:])
	if rcpts := e.Envelope.Recipients; len(rcpts) == 1 {
		if path, ok := quotePath(rcpts[0].Address); ok {
			b = append(b, "\r\n\tfor <"...)
			b = append(b, path...)
			b = append(b, '>')
		}
	}
	b = append(b, ";\r\n\t"...)
	b = append(b, s.date(e.Received)...)
	return append(b, "\r\n"...)
}

// date returns t as it is in a Received field. The messages of one transaction
// share it.
func (s *reception) date(t time.Time) []byte {
	if k := &s.known; k.date == nil || !k.dated.Equal(t) {
		k.dated, k.date = t, t.AppendFormat(k.date[:0], dateFormat)
	}
	return s.known.date
}

// receivedFrom is what all Received fields of a session have in common.
func (s *reception) receivedFrom() []byte {
	b := append([]byte("Received: from "), helloDomain(s.pub.Hello)...)
	if ip := s.pub.Remote.Addr(); ip.IsValid() {
		b = append(b, " ("...)
		b = append(b, addressLiteral(ip)...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	return append(b, s.opts.Hostname...)
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

// lineOctets become a line of 64 characters of base64.
const lineOctets = 48

// appendSupplemental appends the supplemental field: what identifies the message
// when it comes back in a bounce or a complaint.
func (s *reception) appendSupplemental(b []byte, e *spool.Entry) []byte {
	var room [256]byte
	text := s.appendReference(room[:0], e)
	b = append(b, s.opts.Trace.HeaderName...)
	b = append(b, ':')
	for sep := " "; len(text) > 0; sep = "\r\n\t" {
		n := min(len(text), lineOctets)
		b = append(b, sep...)
		b = base64.StdEncoding.AppendEncode(b, text[:n])
		text = text[n:]
	}
	return append(b, "\r\n"...)
}

// appendReference appends the JSON object in the supplemental field.
func (s *reception) appendReference(b []byte, e *spool.Entry) []byte {
	b = append(b, `{"_@_":"\\_/"`...)
	if len(e.Envelope.Recipients) == 1 {
		b = append(b, `,"recipient":`...)
		b = appendJSON(b, e.Envelope.Recipients[0].Address)
	}
	for _, name := range s.opts.Trace.IncludeMetaNames {
		if v, ok := e.Meta[name]; ok {
			b = append(b, ',')
			b = appendJSON(b, name)
			b = append(b, ':')
			b = appendJSON(b, v)
		}
	}
	return append(b, '}')
}

// appendJSON appends a string.
func appendJSON(b []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	text, _ := json.Marshal(s) // a string: cannot fail
	return append(b, text...)
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
	return strings.Map(func(c rune) rune { // returns s itself if nothing is replaced
		if isDomainChar(c) {
			return c
		}
		return '?'
	}, s[:min(len(s), maxDomain)])
}

func isDomainChar(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-._:[]", c)
}

// isPlain reports whether JSON has s as it is.
func isPlain(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

// quotePath returns an address as it is written in a path, with the quotes that
// its local part needs (RFC 5321, section 4.1.2), and whether it can be
// written at all.
func quotePath(addr string) (string, bool) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return "", false
	}
	local, domain := addr[:at], addr[at+1:]
	if isAtoms(local) && isHost(domain) { // as nearly all are
		return addr, true
	}
	if strings.IndexFunc(addr, func(c rune) bool { return c < ' ' || c == 0x7f }) >= 0 {
		return "", false
	}
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

// isAtoms and isHost report whether nothing in the parts of a path is special.
// They may say no although nothing is.
func isAtoms(local string) bool {
	for _, c := range []byte(local) {
		if !isAlnum(c) && c != '.' && c != '-' && c != '_' && c != '+' && c != '=' {
			return false
		}
	}
	return local != ""
}

func isHost(domain string) bool {
	for _, c := range []byte(domain) {
		if !isAlnum(c) && c != '.' && c != '-' {
			return false
		}
	}
	return domain != ""
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// received is the time of a transaction, as it is in every field and record.
func received() time.Time { return time.Now().Truncate(time.Millisecond) }
