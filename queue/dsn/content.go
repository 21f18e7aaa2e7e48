package dsn

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"
)

// A returned is what a notice returns of the message.
type returned struct {
	mediaType string
	encoding  string
	data      []byte
	messageID string // of the message, as its header has it
	subject   string
}

// full reports whether the sender asked for the content, if there is one.
func (r *Report) full() bool {
	return r.Content != nil && r.action() == Failed && strings.EqualFold(r.Envelope.Ret, "FULL")
}

// content reads what is returned. What cannot be read is left out: the rest of the
// notice matters more.
func (r *Report) content() *returned {
	if r.Content == nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Content, r.MaxContent+1))
	if len(data) == 0 {
		return nil
	}
	header, whole := splitHeader(data)
	ret := &returned{messageID: fieldValue(header, "Message-ID"), subject: fieldValue(header, "Subject")}
	full := err == nil && whole && int64(len(data)) <= r.MaxContent && r.full()
	switch {
	case full && sevenBit(data):
		ret.mediaType, ret.encoding, ret.data = "message/rfc822", "7bit", data
	case full && r.utf8() && eightBit(data) && utf8.Valid(header):
		ret.mediaType, ret.encoding, ret.data = "message/global", "8bit", data
	case full && eightBit(data) && isASCII(string(header)): // RFC 2046, section 5.2.1
		ret.mediaType, ret.encoding, ret.data = "message/rfc822", "8bit", data
	default:
		ret.header(header, r.utf8())
	}
	return ret
}

// header returns the header alone.
func (ret *returned) header(header []byte, global bool) {
	ret.mediaType, ret.encoding, ret.data = "text/rfc822-headers", "7bit", header
	if sevenBit(header) {
		return
	}
	if global && utf8.Valid(header) {
		ret.mediaType = "message/global-headers"
	}
	ret.encoding, ret.data = "quoted-printable", quoted(header)
}

// quoted is the quoted-printable form of text.
func quoted(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Write(normalize(text))
	w.Close()
	return b.Bytes()
}

// normalize ends all lines with CRLF.
func normalize(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}

// splitHeader returns the header of a message without the empty line behind it. If
// that was not found the last line may go on, and is left out: whole is false.
func splitHeader(data []byte) (header []byte, whole bool) {
	for at := 0; ; {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			if cut := lastField(data[:at]); cut > 0 {
				return data[:cut], false
			}
			return data[:at], false
		}
		if line := data[at : at+end]; len(line) == 0 || string(line) == "\r" {
			return data[:at], true
		}
		at += end + 1
	}
}

// lastField is where the last field of a header begins.
func lastField(header []byte) int {
	for at := len(header); at > 0; {
		at = bytes.LastIndexByte(header[:at-1], '\n') + 1
		if header[at] != ' ' && header[at] != '\t' {
			return at
		}
	}
	return 0
}

// fieldValue returns the value of the first field of that name, unfolded.
func fieldValue(header []byte, name string) string {
	for len(header) > 0 {
		line, rest, _ := bytes.Cut(header, []byte("\n"))
		key, first, ok := bytes.Cut(line, []byte(":"))
		found := ok && strings.EqualFold(string(bytes.TrimSpace(key)), name)
		var value []byte
		if found {
			value = append(value, bytes.TrimSpace(first)...)
		}
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			var more []byte
			more, rest, _ = bytes.Cut(rest, []byte("\n"))
			if found {
				value = append(append(value, ' '), bytes.TrimSpace(more)...)
			}
		}
		if found {
			return string(bytes.TrimSpace(value))
		}
		header = rest
	}
	return ""
}

// sevenBit reports whether data may stand in a notice as it is (RFC 2045, section
// 2.7): short lines of ASCII that end with CRLF.
func sevenBit(data []byte) bool { return eightBit(data) && isASCII(string(data)) }

// eightBit is the same for octets of any value but NUL (RFC 2045, section 2.8).
func eightBit(data []byte) bool {
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok || len(line) == 0 || line[len(line)-1] != '\r' || len(line) > lineMax+1 || bytes.ContainsAny(line[:len(line)-1], "\r\x00") {
			return false
		}
		data = rest
	}
	return true
}
