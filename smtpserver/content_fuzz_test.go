package smtpserver

import (
	"bytes"
	"testing"
)

// fuzzTokens are what FuzzContent builds streams from, so that it meets what
// matters more often than octets alone would.
var fuzzTokens = []string{
	"\r", "\n", "\r\n", ".", "\r\n.\r\n", ".\r\n", "\r\n.", "\r\r\n", "\n.\r\n", "\r\n\r\n", "x", "\x00", "\xff", " ", "\t", ":",
	"Received", "received:", "RECEIVED \t: ", "\r\nReceived:", "xxxxxxxx", "plain line\r\n", "plain line\r\nand another\r\n", "line\n",
}

// FuzzContent compares with the reference, on any stream in any pieces.
func FuzzContent(f *testing.F) {
	for _, s := range []string{
		"", ".\r\n", ".\r", ".", "a\r\n.\r\nQUIT\r\n", "..\r\n.\r\n", "..", "...\r\n.x\r\n.\r\n", // the end and dots
		"a\n.\r\n\r\n.\r\n", "a\r.\r\n\r\n.\r\n", "a\r\r\n.\r\n", "\r\n.\rx\r\n.\r\n", "\r\n.\nx\r\n.\r\n", "a\r", // not the end
		"\r\nplain\r\nplain\r\nb\rare\r\nplain\r\n.\r\n", "\r\nplain\r\nba\nre\r\n.stuffed\r\nplain\r\n.\r\n", // behind the header
		"Received: a\r\nReceived: b\r\nRECEIVED\t : c\r\n", "Received: a\r\n Received: b\r\nReceivedx:\r\n\r\nReceived: c\r\n", // hops
		"Received:\rReceived:\nReceived:", "Rec\reived:\r\n", "\r\n\r\nReceived:a\r\nReceived:b\r\nReceived:c\r\n",
		"0123456789\r\n.0123456789\r\n01234567890\r\n.\r\n", "0123456789\r\r\n", "0123456789\rx\r\n", "\r\n0123456789\r\n01234567890\r\n", // long lines
		"01234567\r\n01234567\r\n01234567\r\n01234567\r\n01234567\r\n", "\r\n01234567\r\n01234567\r\n01234567\r\n0123456\r\n.\r\n", // size
		"01234567\r\n01234567\r\n01234567\r\n01234567\r\n01234567890123456789", "\x00\xff\r\n.\r\n",
	} {
		for flags := range uint8(1 << 5) {
			f.Add([]byte(s), []byte{1, 2, 5}, flags)
		}
	}
	f.Add([]byte{19, 15, 2, 16, 15, 4, 20}, []byte{0}, uint8(1<<7|1<<4|1))
	f.Fuzz(func(t *testing.T, stream, pieces []byte, flags uint8) {
		if flags&(1<<7) != 0 {
			stream = spell(stream)
		}
		sizes := []int{0}
		for _, b := range pieces {
			sizes = append(sizes, int(b))
		}
		c := content{endings: LineEndings(flags % 4), dotted: flags&(1<<2) != 0, binary: flags&(1<<3) != 0}
		if flags&(1<<4) != 0 {
			c.maxSize, c.lineLength, c.maxHops = 40, 10, 1
		}
		if flags&(1<<5) != 0 {
			c.maxSize, c.lineLength, c.maxHops = 300, 0, 3
		}
		checkContent(t, c, stream, sizes)
	})
}

func spell(tokens []byte) []byte {
	var b bytes.Buffer
	for _, t := range tokens {
		b.WriteString(fuzzTokens[int(t)%len(fuzzTokens)])
	}
	return b.Bytes()
}
