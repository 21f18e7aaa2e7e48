package smtpserver

// talksPipelining: groups of commands in one write (RFC 2920).
var talksPipelining = []talk{
	{name: "pipelined transactions", rule: "RFC 2920 3.1", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		C: RCPT TO:<nonsense
		C: RCPT TO:<c@one.example>
		C: DATA
		S: 250
		S: 250
		S: 501
		S: 250
		S: 354
		C: first
		C: .
		C: RSET
		C: MAIL FROM:<d@sender.example>
		C: RCPT TO:<e@one.example>
		C: DATA
		S: 250 2\.0\.0 OK ids=
		S: 250
		S: 250
		S: 250
		S: 354
		C: second
		C: .
		C: QUIT
		S: 250 2\.0\.0 OK ids=
		S: 221
		.:`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\n", ""}, {"a@sender.example", "c@one.example", "first\r\n", ""},
			{"d@sender.example", "e@one.example", "second\r\n", ""}}},
	{name: "all in one write", rule: "RFC 2920 3.1 forbids it to clients: it must do no harm", opts: deferredMode, lines: `
		C: EHLO client.example
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		C: DATA
		C: first
		C: .
		C: MAIL FROM:<c@sender.example>
		C: RCPT TO:<d@one.example>
		C: BDAT 8 LAST
		C: second
		C: QUIT
		S: 250
		S: 250
		S: 250
		S: 354
		S: 250 2\.0\.0 OK ids=
		S: 250
		S: 250
		S: 250 2\.0\.0 OK ids=
		S: 221
		.:`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\n", ""}, {"c@sender.example", "d@one.example", "second\r\n", ""}}},
	{name: "pipelined behind refusals", rule: "RFC 2920 3.1", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:nonsense
		C: RCPT TO:<b@one.example>
		C: DATA
		C: NOOP
		S: 501
		S: 503
		S: 503
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:nonsense
		C: DATA
		C: RSET
		S: 250
		S: 501
		S: 50[34]
		S: 250`},
	{name: "in pieces", rule: "RFC 5321 2.3.8", opts: deferredMode, lines: `
		c: EH
		|:
		c: LO client.example{CR}
		|:
		c: {LF}MAIL FROM:<a@sender.example>{CR}{LF}RCPT TO:<b@o
		S: 250
		S: 250
		C: ne.example>
		S: 250
		C: DATA
		S: 354
		c: .
		|:
		c: .a{CR}
		|:
		c: {LF}
		|:
		c: .
		|:
		c: {CR}
		|:
		c: {LF}
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", ".a\r\n", ""}}},
}
