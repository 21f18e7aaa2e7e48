package queue

import (
	"bytes"
	"strings"
)

// headerLimit is how much of a body is searched for its header.
const headerLimit = 1 << 20

const (
	foldAt  = 78  // RFC 5322, section 2.1.1: a line should not be longer, without its CRLF
	lineMax = 998 // and must not be
)

// parseHeader returns the header of a message. front stands before the body
// and is complete lines; section is the beginning of the body: all of it, or
// up to its first empty line at least, or headerLimit bytes. Both are kept.
//
// The header ends at the first empty line. Until then, every line is a field,
// a continuation of one, or kept as it is. Without an empty line it ends
// before the first line that is neither field nor continuation, so that no
// edit lands in text; and, if the body goes on, before the last field, because
// that may go on too.
func parseHeader(front, section []byte) *Header {
	h := &Header{front: front}
	var length int
	h.items, length = splitItems(front)
	h.rest = front[length:]
	if len(h.rest) > 0 {
		h.eol = lineEnding(h.rest, 0)
		return h
	}
	items, length := splitItems(section)
	if length == len(section) {
		items, length = unterminated(items, len(section) >= headerLimit)
	}
	for i := range items {
		items[i].inner = true
	}
	h.items = append(h.items, items...)
	h.length = length
	h.orphan = length == 0 && len(section) > 0 && isContinuation(section)
	h.eol = lineEnding(section, length)
	return h
}

// lineEnding returns the line ending of new fields: that of the first length
// bytes of section, or of its first line where it has no header of its own.
// Bare LF it is only if there is no CRLF.
func lineEnding(section []byte, length int) string {
	header := section[:length]
	if length == 0 {
		header, _ = cutLine(section)
	}
	if bytes.IndexByte(header, '\n') >= 0 && !bytes.Contains(header, []byte("\r\n")) {
		return "\n"
	}
	return "\r\n"
}

// splitItems cuts b into fields and other lines, up to the first empty line or
// the end. length is how much that is.
func splitItems(b []byte) (items []headerItem, length int) {
	for length < len(b) {
		line, _ := cutLine(b[length:])
		if isEmptyLine(line) {
			break
		}
		start := length
		length += len(line)
		if n := len(items); n > 0 && isContinuation(line) {
			items[n-1].raw = b[start-len(items[n-1].raw) : length : length]
			continue
		}
		name, colon := fieldName(line)
		items = append(items, headerItem{raw: b[start:length:length], name: name, colon: colon})
	}
	return items, length
}

// unterminated returns those items of a section without an empty line that are
// surely header. more: the body goes on behind the section.
func unterminated(items []headerItem, more bool) ([]headerItem, int) {
	if more && len(items) > 0 {
		items = items[:len(items)-1]
	}
	length := 0
	for i := range items {
		if items[i].name == 0 && !(i == 0 && isMboxLine(items[i].raw)) {
			return items[:i], length
		}
		length += len(items[i].raw)
	}
	return items, length
}

// cutLine returns the first line of b with its ending.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n') + 1
	if i == 0 {
		i = len(b)
	}
	return b[:i], b[i:]
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

func isContinuation(line []byte) bool { return line[0] == ' ' || line[0] == '\t' }

// isMboxLine reports whether a line is the "From " line of an mbox file.
func isMboxLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

// fieldName returns the length of the name of the field that line begins, and
// the index of its colon. White space between them is obsolete and accepted
// (RFC 5322, section 4.5). The length is 0 if line begins no field.
func fieldName(line []byte) (name, colon int) {
	colon = bytes.IndexByte(line, ':')
	if colon < 0 {
		return 0, 0
	}
	name = len(bytes.TrimRight(line[:colon], " \t"))
	if !validFieldName(string(line[:name])) {
		return 0, 0
	}
	return name, colon
}

// validFieldName reports whether name is made of printable ASCII without a
// colon (RFC 5322, section 3.6.8), and leaves room for a value.
func validFieldName(name string) bool {
	if name == "" || len(name) > lineMax-2 {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return false
		}
	}
	return true
}

// foldField returns a complete field. Lines are broken before white space
// only, so that unfolding gives the value back.
func foldField(name, value, eol string) []byte {
	var b bytes.Buffer
	b.WriteString(name)
	b.WriteByte(':')
	column := b.Len()
	rest := " " + strings.Trim(withoutBreaks(value), " \t")
	for first := true; strings.Trim(rest, " \t") != ""; first = false {
		var token string
		token, rest = cutToken(rest)
		long := column + len(token)
		// A line with nothing but the name on it is legal and disliked.
		if !first && long > foldAt || first && long > lineMax {
			b.WriteString(eol)
			column = 0
		}
		b.WriteString(token)
		column += len(token)
	}
	b.WriteString(eol)
	return b.Bytes()
}

// cutToken cuts white space and the word that follows it off the front of s.
func cutToken(s string) (token, rest string) {
	word := len(s) - len(strings.TrimLeft(s, " \t"))
	if i := strings.IndexAny(s[word:], " \t"); i >= 0 {
		return s[:word+i], s[word+i:]
	}
	return s, ""
}

// withoutBreaks returns value without CR, LF and NUL: a run of them becomes a
// space, or nothing where white space follows, as unfolding has it.
func withoutBreaks(value string) string {
	const breaks = "\r\n\x00"
	if !strings.ContainsAny(value, breaks) {
		return value
	}
	var b strings.Builder
	for {
		i := strings.IndexAny(value, breaks)
		if i < 0 {
			b.WriteString(value)
			return b.String()
		}
		b.WriteString(value[:i])
		value = strings.TrimLeft(value[i:], breaks)
		if value == "" || value[0] != ' ' && value[0] != '\t' {
			b.WriteByte(' ')
		}
	}
}
