package smtpserver

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file is about parameters of MAIL and RCPT that go-smtp reads otherwise
// than the RFCs say.

// largestSize is what go-smtp can read as SIZE; RFC 1870, section 3, allows 20
// digits.
const largestSize = 1<<32 - 1

// shortenSize returns a MAIL line with a SIZE that go-smtp can read, and the one
// that it had if that was larger, as far as an int64 goes; else 0.
func shortenSize(line []byte) ([]byte, int64) {
	begin, end := parameter(line, "MAIL", "FROM:", "SIZE=")
	if n := end - begin; n < 10 || n > 20 || !isDigits(line[begin:end]) {
		return line, 0
	}
	size, err := strconv.ParseInt(string(line[begin:end]), 10, 64) // out of range: the largest
	if err == nil && size <= largestSize {
		return line, 0
	}
	return slices.Concat(line[:begin], strconv.AppendInt(nil, largestSize, 10), line[end:]), size
}

func isDigits(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < '0' || c > '9' })
}

// rewriteORcpt returns a RCPT line with an ORCPT that go-smtp can read. Postfix
// sends an address beyond ASCII as rfc822 with the xtext of its UTF-8, where
// RFC 6533, section 3, wants utf-8; go-smtp refuses that for good, and it knows no
// encoded octet above 7F, and no other types of addresses, which RFC 3461, section 4.2,
// has passed on: they pass it as utf-8 behind typedMark. What is not even UTF-8 is left
// away.
func rewriteORcpt(line []byte) []byte {
	const name = "ORCPT="
	begin, end := parameter(line, "RCPT", "TO:", name)
	kind, raw, _ := bytes.Cut(line[begin:end], []byte{';'})
	known := bytes.EqualFold(kind, []byte("rfc822"))
	if !known && !isAddressType(kind) {
		return line
	}
	if bytes.EqualFold(kind, []byte("utf-8")) {
		if isMarked(raw) { // by the client
			return slices.Concat(line[:begin-len(name)], line[end:])
		}
		return line
	}
	addr, ok := decodeXText(string(raw))
	switch {
	case !ok || addr == "" || known && isASCII(addr):
		return line
	case !utf8.ValidString(addr):
		return slices.Concat(line[:begin-len(name)], line[end:])
	case !known:
		addr = typedMark + string(kind) + ";" + addr
	}
	return slices.Concat(line[:begin], []byte("utf-8;"+unitext(addr)), line[end:])
}

// typedMark is what an original recipient begins with that go-smtp takes for utf-8,
// and which has its own type behind it. Clients have no use for it.
const typedMark = "\uE000"

func isMarked(utf8Addr []byte) bool {
	return bytes.HasPrefix(utf8Addr, []byte(typedMark)) || foldPrefix(utf8Addr, `\X{E000}`)
}

// unmark gives an original recipient of another type that back.
func unmark(orcpt string) string {
	if _, typed, ok := strings.Cut(orcpt, ";"+typedMark); ok {
		return typed
	}
	return orcpt
}

// isAddressType reports whether b is an atom of letters and digits, as registered types
// are, and those that begin with X-.
func isAddressType(b []byte) bool {
	return len(b) > 0 && !slices.ContainsFunc(b, func(c byte) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-'
	})
}

// unitext is utf-8-addr-xtext of RFC 6533, section 3.
func unitext(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c > ' ' && c <= '~' && c != '+' && c != '=' && c != '\\' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, c)
		}
	}
	return b.String()
}

// parameter finds the value of a parameter in a line of MAIL or RCPT: line[begin:end].
// It is empty if there is none.
func parameter(line []byte, verb, keyword, name string) (begin, end int) {
	path := pathOf(line, verb, keyword)
	at := len(line) - len(path) + pathLength(path)
	for at < len(line) {
		begin = at
		if i := bytes.IndexAny(line[at:], " \t\r\n"); i >= 0 {
			end, at = at+i, at+i+1
		} else {
			end, at = len(line), len(line)
		}
		if foldPrefix(line[begin:end], name) {
			return begin + len(name), end
		}
	}
	return len(line), len(line)
}

// pathLength is the length of the path that b begins with, as go-smtp reads it.
func pathLength(b []byte) int {
	rest := bytes.TrimPrefix(b, []byte("<"))
	if bytes.HasPrefix(rest, []byte("@")) { // a source route
		_, rest, _ = bytes.Cut(rest, []byte(":"))
	}
	if bytes.HasPrefix(rest, []byte(`"`)) {
		rest = afterQuoted(rest[1:])
	}
	end := bytes.IndexAny(rest, " \t\r\n>")
	switch {
	case end < 0:
		return len(b)
	case rest[end] == '>':
		end++
	}
	return len(b) - len(rest) + end
}
