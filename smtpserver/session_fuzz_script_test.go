package smtpserver

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// A script is what a client does in one session: bytes that a fuzzer made,
// read as operations. Most append octets to what is sent next:
//
//	E H L     EHLO, HELO, LHLO
//	M x, R x  MAIL, RCPT with the x-th argument of a list
//	D . l x   DATA, the end of it, the x-th line of content
//	B x y     a BDAT chunk: x says how it is announced, y what is in it
//	A x       the x-th AUTH dialogue
//	r N V X ? S Q  RSET, NOOP, VRFY, EXPN, HELP, STARTTLS, QUIT
//	O x       the x-th odd command
//	Z x       a run of 128 times x octets without an end of line
//
// and the others say what becomes of that:
//
//	|         send it
//	w         send it, and wait until the server has nothing more to do
//	s x       send it, and sleep x times 9 seconds, at most 63
//	f F       send it; the spool is full from now on, or is not any more
//	k         send it, and shut the Listener down
//	P         send it, and read no more replies
//	!         send it, and close the connection
//
// Every other byte is sent as it is.
type script struct {
	rest  []byte
	octet []byte // to be sent
	steps []step
	size  int
}

// A step is one write of the client, and what it does behind it.
type step struct {
	write []byte
	then  byte // the operation, 0: nothing
	sleep time.Duration
}

// Bounds of what one script may do, so that none takes long.
const (
	maxScript = 1 << 10 // bytes of the script
	maxOctets = 64 << 10
)

// steps reads a script. Writes are cut into pieces of at most chop octets, if
// that is not 0.
func steps(data []byte, chop int) []step {
	s := &script{rest: data[:min(len(data), maxScript)]}
	for len(s.rest) > 0 && s.size < maxOctets {
		s.next()
	}
	s.flush(0, 0)
	if chop == 0 || s.size > 4096 {
		return s.steps
	}
	var chopped []step
	for _, st := range s.steps {
		for len(st.write) > chop {
			chopped = append(chopped, step{write: st.write[:chop]})
			st.write = st.write[chop:]
		}
		chopped = append(chopped, st)
	}
	return chopped
}

func (s *script) next() {
	op := s.param()
	switch op {
	case 'M':
		s.add("MAIL FROM:" + pick(scriptSenders, s.param()))
	case 'R':
		s.add("RCPT TO:" + pick(scriptRecipients, s.param()))
	case 'l':
		s.octets(pick(scriptLines, s.param()))
	case '.':
		s.octets(".\r\n")
	case 'B':
		s.octets(chunk(s.param(), s.param()))
	case 'A':
		s.add(pick(scriptAuth, s.param()))
	case 'O':
		s.octets(pick(scriptOdd, s.param()))
	case 'Z':
		s.octets(strings.Repeat("z", 128*int(s.param())))
	case '|', 'w', 'f', 'F', 'k', 'P', '!':
		s.flush(op, 0)
	case 's':
		s.flush(op, time.Duration(s.param()%8)*9*time.Second)
	default:
		if verb, ok := scriptVerbs[op]; ok {
			s.add(verb)
		} else {
			s.octets(string([]byte{op}))
		}
	}
}

// param returns the next byte of the script; 0 at its end.
func (s *script) param() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) add(line string) { s.octets(line + "\r\n") }

func (s *script) octets(text string) {
	s.octet = append(s.octet, text...)
	s.size += len(text)
}

func (s *script) flush(then byte, sleep time.Duration) {
	s.steps = append(s.steps, step{write: s.octet, then: then, sleep: sleep})
	s.octet = nil
}

// pick returns the x-th text, where digits and letters that are easy to write
// in a seed count from 0.
func pick(texts []string, x byte) string {
	n := int(x)
	switch {
	case x >= '0' && x <= '9':
		n = int(x - '0')
	case x >= 'a' && x <= 'z':
		n = 10 + int(x-'a')
	}
	return texts[n%len(texts)]
}

// chunk is a BDAT command with its chunk. Of how the bits say: 1 LAST, 2 and 4
// a size that is one too small or too big, 8 a long chunk, 0x80 no number.
func chunk(how, what byte) string {
	if how >= '0' && how <= '9' {
		how -= '0'
	}
	data := pick(scriptLines, what)
	if how&8 != 0 {
		data = strings.Repeat(pick(scriptLines, what), 20)
	}
	size, last := fmt.Sprint(len(data)+int(how>>2&1)-min(int(how>>1&1), len(data))), ""
	if how&0x80 != 0 {
		size = pick([]string{"-1", "x", "", "4294967296", "99999999999999999999", "1 2", "0x10", "1 LAST LAST"}, what)
	}
	if how&1 != 0 {
		last = " LAST"
	}
	return "BDAT " + size + last + "\r\n" + data
}

var scriptVerbs = map[byte]string{
	'E': "EHLO client.example", 'H': "HELO client.example", 'L': "LHLO client.example", 'D': "DATA",
	'r': "RSET", 'N': "NOOP", 'V': "VRFY postmaster", 'X': "EXPN list", '?': "HELP", 'S': "STARTTLS", 'Q': "QUIT",
}

var scriptSenders = []string{
	"<>", "<a@sender.example>", "<b.c@sender.example>", `<"q p"@sender.example>`, "<\u00fc@sender.example> SMTPUTF8",
	"<\u00fc@sender.example>", "<a@sender.example> SIZE=10", "<a@sender.example> SIZE=99999999", "<a@sender.example> BODY=8BITMIME",
	"<a@sender.example> BODY=BINARYMIME", "<a@sender.example> RET=HDRS ENVID=x+2By", "<a@sender.example> FOO=bar",
	"a@sender.example", " <a@sender.example>", "<a@sender.example", "<@relay.example:a@sender.example>", "<a@sender.example> AUTH=<>",
	"<a@sender.example> REQUIRETLS", "<a@>", "<" + strings.Repeat("a", 330) + "@sender.example>", "<A@Sender.Example> size=5 body=7bit",
	`<"a\"b@c"@sender.example>`, "", "<a@sender.example>  ", "<a@sender.example> BODY=9BIT", "<a@sender.example> SIZE=x",
}

// The local parts of scriptRecipients are verdicts, see verdictOf.
var scriptRecipients = []string{
	"<ok1@one.example>", "<ok2@one.example>", "<ok3@two.example>", "<reject@one.example>", "<temp@two.example>",
	"<drop@one.example>", "<hold@two.example>", "<panic@one.example>", "<slow@two.example>", `<"o k"@two.example>`,
	"<postmaster>", "<Postmaster>", "<ok4@two.example> NOTIFY=NEVER", "<ok5@One.example> ORCPT=rfc822;x+2By@one.example",
	"<ok6@one.example> NOTIFY=NEVER,FAILURE", "<ok7@one.example> FOO", "<>", "<ok8>", "<ok9@\u00fc.example>", "ok1@one.example",
	"<" + strings.Repeat("a", 330) + "@one.example>", "<ok@[127.0.0.1]>", "", "<ok1@one.example", "<@relay.example:ok1@one.example>",
}

var scriptLines = []string{
	"Subject: x\r\n", "\r\n", "A line of text.\r\n", "..\r\n", "..dot\r\n", ".\r\n", "Received: by nowhere\r\n",
	"X-Verdict: reject\r\n", "X-Verdict: temp\r\n", "X-Verdict: drop\r\n", "bare LF\n", "bare\rCR\r\n", "\n.\r\n", "\r\n.\n", "\r.\r\n",
	"\r\r\n.\r\n", "\r\n.\r", "a NUL: \x00\r\n", "8 bit: \xff\u00fc\r\n", strings.Repeat("y", 70) + "\r\n", strings.Repeat("y", 998) + "\r\n",
	strings.Repeat("y", 999) + "\r\n", "", "no end", "\r", "\n", "\trather long ago\r\n", "RSET\r\nQUIT\r\n", "MAIL FROM:<evil@sender.example>\r\n",
	".dot\r\n", "." + strings.Repeat("y", 60) + "\r\n", "\r\n.\r\nMAIL FROM:<evil@sender.example>\r\nRCPT TO:<evil@one.example>\r\nDATA\r\nevil\r\n.\r\n",
}

var scriptAuth = []string{
	"AUTH PLAIN " + sessionPlain("", "user", "secret"), "AUTH PLAIN\r\n" + sessionPlain("", "user", "secret"),
	"AUTH PLAIN " + sessionPlain("", "user", "wrong"), "AUTH PLAIN\r\n*", "AUTH PLAIN ???", "AUTH PLAIN\r\n???", "AUTH PLAIN =",
	"AUTH", "AUTH CRAM-MD5", "AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0", "AUTH LOGIN dXNlcg==\r\nc2VjcmV0", "AUTH LOGIN\r\nd3Jvbmc=\r\nd3Jvbmc=",
	"AUTH PLAIN " + sessionPlain("", "user", "down"), "AUTH PLAIN " + sessionPlain("other", "user", "secret"), "AUTH LOGIN\r\n*",
	"auth plain " + sessionPlain("", "user", "secret") + "  ", "AUTH PLAIN " + sessionPlain("", "", "secret"),
}

func sessionPlain(authzid, username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + username + "\x00" + password))
}

var scriptOdd = []string{
	"\r\n", "NOOP\n", "NOOP x y\r\n", "noop\r\n", "DATA x\r\n", "DATA \r\n", "RSET x\r\n", "QUIT x\r\n", "EHLO\r\n", "EHLO  client.example\r\n",
	"EHLO [127.0.0.1]\r\n", "ehlo \u00fc.example\r\n", "NOOP\x00\r\n", "NO\rOP\r\n", "FOO\r\n", "X\r\n", "MAIL\r\n", "MAIL FROM\r\n", "RCPT\r\n",
	"BDAT\r\n", "BDAT 0\r\n", "BDAT 0 LAST\r\n", "bdat 0 last\r\n", "BDAT  3  LAST \r\nabc", "NOOP \r\n", " NOOP\r\n", "\tNOOP\r\n", "STARTTLS x\r\n", "TURN\r\n",
	"XCLIENT NAME=x\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "mail from:<a@sender.example>\r\n", "rcpt to:<ok1@one.example>\r\n", "GET / HTTP/1.1\r\n",
	"NOOP 100%d %s\r\n", "\x16\x03\x01\x00\n", "EHLO " + strings.Repeat("h", 300) + "\r\n", "NOOP " + strings.Repeat("n", 600) + "\r\n",
}
