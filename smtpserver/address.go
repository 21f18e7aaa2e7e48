package smtpserver

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel is how many octets a label of a domain may have, or how many
// characters if it is not ASCII (RFC 5890, section 2.3.2.1, leaves them more octets).
const maxLabel = 63

// mailbox returns an address of go-smtp's as it stands in a path: go-smtp has
// taken the quotes from its local part and not looked at its domain (RFC 5321,
// section 4.1.2). ok is false if it cannot stand in one. Octets beyond ASCII are
// for SMTPUTF8 only (RFC 6531, section 3.3). The empty address is the null
// reverse-path. A local part of more than 64 octets is let pass, as VERP makes
// them, up to maxPath in all.
func mailbox(s string, smtputf8 bool) (path string, ok bool) {
	if s == "" {
		return "", true
	}
	at := strings.LastIndexByte(s, '@')
	if at < 1 || !validText(s, smtputf8) || !validDomain(s[at+1:], smtputf8) {
		return "", false
	}
	path = quoteLocal(s[:at]) + s[at:]
	return path, len(path) <= maxPath
}

// validText reports whether s has neither control characters nor, without
// SMTPUTF8, octets beyond ASCII.
func validText(s string, smtputf8 bool) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) || c > unicode.MaxASCII && !smtputf8 })
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c > unicode.MaxASCII })
}

// quoteLocal returns a local part with the quotes that it needs.
func quoteLocal(s string) string {
	if isDotString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// isDotString reports whether s is a Dot-string: atoms with single dots between.
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsAny(atom, ` ()<>[]:;@\,"`) {
			return false
		}
	}
	return true
}

// validDomain reports whether s is a domain or an address literal. An underscore
// is let pass; the RFC does not know it, hosts have it.
func validDomain(s string, smtputf8 bool) bool {
	if s == "" || len(s) > maxDomain {
		return false
	}
	if s[0] == '[' {
		return validLiteral(s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label, smtputf8) {
			return false
		}
	}
	return true
}

func validLabel(s string, smtputf8 bool) bool {
	if s == "" || utf8.RuneCountInString(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !isLabelChar(c) && (c <= unicode.MaxASCII || !smtputf8 || !isULabelChar(c))
	})
}

func isLabelChar(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// isULabelChar reports whether c may be in a U-label: letters, marks and digits,
// and the characters that RFC 5892 allows in a context, without looking at it.
func isULabelChar(c rune) bool {
	return unicode.In(c, unicode.L, unicode.M, unicode.Nd) ||
		slices.Contains([]rune{0xb7, 0x375, 0x5f3, 0x5f4, 0x200c, 0x200d, 0x30fb}, c)
}

// validLiteral reports whether s is an address literal (RFC 5321, section 4.1.3).
func validLiteral(s string) bool {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return false
	}
	if ip, err := netip.ParseAddr(inner); err == nil {
		return ip.Is4()
	}
	tag, content, ok := strings.Cut(inner, ":")
	if !ok || !validTag(tag) {
		return false
	}
	if strings.EqualFold(tag, "IPv6") {
		ip, err := netip.ParseAddr(content)
		return err == nil && ip.Is6() && ip.Zone() == ""
	}
	return content != "" && !strings.ContainsFunc(content, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`[\]<>@`, c) // the last three would end the path for go-smtp
	})
}

// validTag reports whether s is a Ldh-str.
func validTag(s string) bool {
	return s != "" && !strings.HasSuffix(s, "-") &&
		!strings.ContainsFunc(s, func(c rune) bool { return !isLabelChar(c) || c == '_' })
}

// soundPath reports whether the path in a command line is what go-smtp takes it
// for. go-smtp reads the malformed <a@b@c> as it reads <"a@b"@c>, and its result
// does not tell them apart: others would read the former as a at b.
// Lines that go-smtp refuses, and those without a path, are sound.
func soundPath(line []byte) bool {
	rest := pathOf(line, "MAIL", "FROM:")
	if rest == nil {
		rest = pathOf(line, "RCPT", "TO:")
	}
	rest = bytes.TrimPrefix(rest, []byte("<"))
	if bytes.HasPrefix(rest, []byte("@")) { // a source route, which go-smtp drops
		_, rest, _ = bytes.Cut(rest, []byte(":"))
	}
	if bytes.HasPrefix(rest, []byte(`"`)) {
		rest = afterQuoted(rest[1:])
	}
	_, domain, _ := bytes.Cut(rest, []byte("@"))
	if end := bytes.IndexAny(domain, " \t>"); end >= 0 {
		domain = domain[:end]
	}
	return bytes.IndexByte(domain, '@') < 0
}

// afterQuoted returns what follows a quoted string whose first quote was taken.
func afterQuoted(b []byte) []byte {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return b[i+1:]
		}
	}
	return nil
}

// rewritePostmaster turns RCPT TO:<postmaster> into RCPT TO:<postmaster@hostname>,
// which go-smtp accepts: this recipient is valid without a domain (RFC 5321, section
// 4.5.1). Other lines are returned as they are. line is not changed.
func rewritePostmaster(line []byte, hostname string) []byte {
	const word = "<postmaster"
	rest := pathOf(line, "RCPT", "TO:")
	if len(rest) <= len(word) || !foldPrefix(rest, word) || rest[len(word)] != '>' {
		return line
	}
	at := len(line) - len(rest) + len(word)
	return slices.Concat(line[:at], []byte("@"+hostname), line[at:])
}

// pathOf returns what follows the keyword of a command, nil if it is another
// command. Like go-smtp it allows spaces in front of the path.
func pathOf(line []byte, verb, keyword string) []byte {
	if len(line) < 5 || !foldPrefix(line, verb) || line[4] != ' ' {
		return nil
	}
	arg := bytes.TrimLeftFunc(line[5:], unicode.IsSpace)
	if !foldPrefix(arg, keyword) {
		return nil
	}
	return bytes.TrimLeftFunc(arg[len(keyword):], unicode.IsSpace)
}

// foldPrefix reports whether b begins with prefix, in whatever case.
func foldPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && strings.EqualFold(string(b[:len(prefix)]), prefix)
}
