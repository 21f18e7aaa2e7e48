package dsn

import (
	"fmt"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"
)

const (
	lineMax = 998 // octets without CRLF (RFC 5322, section 2.1.1)
	foldAt  = 76
	wordMax = 900 // of a word that is not cut: with any name of a field it fits into a line

	spaceMax = 50 // of the spaces ahead of a word: they fit in as well
)

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// clean makes text of one line of whatever a host or client has sent: control
// characters become spaces, and what is neither ASCII nor, where that is allowed,
// UTF-8 becomes "?". Many spaces become one.
func clean(s string, allowUTF8 bool) string {
	return strings.Join(strings.FieldsFunc(cleanAddress(s, allowUTF8), isFoldable), " ")
}

// cleanAddress is clean for what is compared: in quotes each space counts.
func cleanAddress(s string, allowUTF8 bool) string {
	var b strings.Builder
	control := false
	for _, c := range s {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u2028' || c == '\u2029' {
			control = true
			continue
		}
		if control {
			b.WriteByte(' ')
			control = false
		}
		if c == utf8.RuneError || c >= 0x80 && !allowUTF8 {
			c = '?'
		}
		b.WriteRune(c)
	}
	return strings.Trim(b.String(), " ")
}

// fold writes a field, in lines of about foldAt octets where its value has spaces, and
// never in longer ones than are allowed. What is unfolded has all spaces of the value,
// but for very many.
func fold(name, value string) string {
	var b strings.Builder
	b.WriteString(name + ":")
	used, empty := b.Len(), true
	for value = strings.TrimFunc(value, isFoldable); value != ""; {
		word := strings.TrimLeftFunc(value, isFoldable)
		space := value[:len(value)-len(word)]
		if space == "" || len(space) > spaceMax {
			space = " "
		}
		value = ""
		if end := strings.IndexFunc(word, isFoldable); end >= 0 {
			word, value = word[:end], word[end:]
		}
		for len(word) > 0 {
			part := word
			if len(part) > wordMax {
				part = cutRunes(part, wordMax)
			}
			word = word[len(part):]
			if !empty && used+len(space)+len(part) > foldAt {
				b.WriteString("\r\n")
				used = 0
			}
			b.WriteString(space + part)
			used += len(space) + len(part)
			space, empty = " ", false
		}
	}
	if empty {
		b.WriteByte(' ')
	}
	b.WriteString("\r\n")
	return b.String()
}

// isFoldable reports whether c is white space in a field: other spaces of Unicode are
// part of an address.
func isFoldable(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// cutRunes returns the longest prefix of whole characters of at most n octets.
func cutRunes(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// typed writes an address with its type (RFC 3464, section 2.3.1; RFC 6533, section
// 3). What is not ASCII becomes \x{...} where the notice itself must be ASCII, and so
// does what that form has no character for.
func typed(kind, address string, allowUTF8 bool) string {
	switch {
	case kind == "rfc822" && isASCII(address):
		return "rfc822; " + cleanAddress(address, false)
	case kind != "rfc822" && kind != "utf-8":
		return clean(kind, false) + "; " + cleanAddress(address, false)
	case allowUTF8:
		return "utf-8; " + cleanAddress(address, true)
	}
	var b strings.Builder
	for _, c := range cleanAddress(address, true) {
		if c >= 0x80 || strings.ContainsRune(` \+=`, c) {
			fmt.Fprintf(&b, `\x{%X}`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return "utf-8; " + b.String()
}

// original writes an ORCPT parameter; empty if there is none that makes sense.
func original(orcpt string, allowUTF8 bool) string {
	kind, address, ok := strings.Cut(orcpt, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if !ok || !isAtom(kind) || clean(address, true) == "" {
		return ""
	}
	return typed(kind, address, allowUTF8)
}

// isAtom reports whether s may be the type of an address.
func isAtom(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// mailbox returns how an address stands in From and To; empty if it cannot. Some
// programs decode what looks like an encoded word wherever it stands.
func mailbox(name, address string, allowUTF8 bool) string {
	if address == "" || len(address) > lineMax/2 || strings.Contains(address, "=?") || cleanAddress(address, allowUTF8) != address {
		return ""
	}
	text := "<" + address + ">"
	if name != "" {
		text = name + " " + text
	}
	if _, err := mail.ParseAddress(text); err != nil {
		return ""
	}
	return text
}

// subject encodes text for a Subject field.
func subject(s string, allowUTF8 bool) string {
	s = clean(s, true)
	if allowUTF8 {
		return s
	}
	return mime.QEncoding.Encode("utf-8", s)
}
