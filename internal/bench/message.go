package main

import (
	"bytes"
	"fmt"
	"strings"
)

// lineLength is that of quoted-printable and base64, without CRLF.
const lineLength = 76

// dotEvery is after how many lines one begins with a dot.
const dotEvery = 200

// testMessage returns a message of exactly size octets that ends with CRLF: a
// small header, and text in lines of 76 octets, of which one in 200 begins with a
// dot. size is at least minSize.
func testMessage(size int) []byte {
	var b bytes.Buffer
	b.Grow(size)
	b.WriteString("From: Sender <sender@example.com>\r\nTo: Recipient <rcpt@example.org>\r\n" +
		"Subject: =?utf-8?q?measuring?=\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n" +
		"Message-ID: <measuring@example.com>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=us-ascii\r\n\r\n")
	text := strings.Repeat("The quick brown fox jumps over the lazy dog and falls asleep, ", 3)
	for n := 1; b.Len() < size; n++ {
		line := text[n%64:][:min(lineLength, max(size-b.Len()-2, 0))]
		if left := size - b.Len() - 2 - len(line); left == 1 { // no room for a CRLF behind this line's
			line = line[:len(line)-1]
		}
		if n%dotEvery == 0 && line != "" {
			line = "." + line[1:]
		}
		b.WriteString(line + "\r\n")
	}
	return b.Bytes()[:size]
}

// stuffed returns the message as it follows DATA, the final dot included (RFC
// 5321, section 4.5.2).
func stuffed(message []byte) []byte {
	out := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(message, []byte(".")) {
		out = append([]byte("."), out...)
	}
	return append(out, ".\r\n"...)
}

// envelope returns the commands before DATA or BDAT, one per element.
func envelope(recipients, size int) []string {
	lines := []string{fmt.Sprintf("MAIL FROM:<sender@example.com> SIZE=%d\r\n", size)}
	for i := range recipients {
		lines = append(lines, fmt.Sprintf("RCPT TO:<rcpt%03d@example.org>\r\n", i))
	}
	return lines
}
