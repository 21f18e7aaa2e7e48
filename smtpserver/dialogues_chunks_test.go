package smtpserver

// talksChunks: BDAT (RFC 3030).
var talksChunks = []talk{
	{name: "chunks", rule: "RFC 3030 2", covers: "TestServer_Chunking", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 12
		C: Subject: a
		S: 250 2\.
		C: BDAT 0
		S: 250 2\.
		C: bdat 7 last
		C:
		C: .
		C:
		S: 250 2\.0\.0 OK ids=
		C: NOOP
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "Subject: a\r\n\r\n.\r\n\r\n", ""}}},
	{name: "chunks end anywhere", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		c: BDAT 4{CR}{LF}a{CR}{LF}.BDAT 2{CR}{LF}{CR}{LF}BDAT 1{CR}{LF}bBDAT 0 LAST{CR}{LF}
		S: 250
		S: 250
		S: 250
		S: 250
		S: 250
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", "a\r\n.\r\nb", ""}}},
	{name: "no chunk but the last", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 0 LAST
		S: 250 2\.0\.0 OK ids=
		C: BDAT 0 LAST
		S: 503 5\.5\.1`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "BDAT before MAIL", rule: "RFC 3030 2", covers: "TestServerBdatDiscard", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		c: BDAT 9 LAST{CR}{LF}MAIL FROM
		S: 503 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "BDAT before RCPT", rule: "RFC 3030 2", covers: "TestServerBdatNoRecipientsDiscard", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		c: BDAT 6 LAST{CR}{LF}QUIT{CR}{LF}
		S: 503 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "a refused chunk is no commands", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		c: BDAT 4{CR}{LF}
		C: NOOP
		C: QUIT
		S: 503
		S: 500
		S: 221`},
	{name: "RSET between chunks", rule: "RFC 3030 2", covers: "TestServer_Chunking_Reset", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		C: RSET
		S: 250
		C: BDAT 7 LAST
		C: evil?
		S: 503 5\.5\.1
		C: MAIL FROM:<c@sender.example>
		S: 250
		C: RCPT TO:<d@one.example>
		S: 250
		C: BDAT 8 LAST
		C: second
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"c@sender.example", "d@one.example", "second\r\n", ""}}},
	{name: "EHLO between chunks", rule: "RFC 5321 4.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		C: EHLO client.example
		S: 250-
		C: BDAT 0 LAST
		S: 503 5\.5\.1
		C: DATA
		S: 503 5\.5\.1`},
	{name: "other commands between chunks", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		C: NOOP
		S: 250
		C: MAIL FROM:<c@sender.example>
		S: 503 5\.5\.1
		C: RCPT TO:<d@one.example>
		S: 503 5\.5\.1
		C: DATA
		S: 503 5\.5\.1
		C: VRFY b
		S: 252
		C: BDAT 6 LAST
		C: last
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\nlast\r\n", ""}}},
	{name: "the client goes in a chunk", rule: "RFC 3030 2", covers: "TestServer_Chunking_ClosedInTheMiddle", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 100 LAST
		C: half
		X:`},
	{name: "the client goes between chunks", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		X:`},
	{name: "the spool gets full before the chunk", rule: "RFC 3030 2, RFC 5321 4.2.3",
		covers: "TestServer_Chunking_EarlyError TestServer_Chunking_EarlyErrorDuringChunk", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		F:
		C: BDAT 8 LAST
		C: second
		S: 452 4\.3\.1
		C: NOOP
		S: 250
		C: BDAT 0 LAST
		S: 503 5\.5\.1`},
	{name: "too large in chunks", rule: "RFC 1870 6.3, RFC 3030 2", covers: "TestServer_Chunking_tooLongMessage",
		opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: 20}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 12
		C: 1234567890
		S: 250
		C: BDAT 9 LAST
		C: QUIT...
		S: 552 5\.3\.4
		C: NOOP
		S: 250
		C: BDAT 0 LAST
		S: 503 5\.5\.1
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 12
		C: 1234567890
		S: 250
		C: BDAT 8 LAST
		C: 123456
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", "1234567890\r\n123456\r\n", ""}}},
	{name: "a chunk that is too large is not the end of the session", rule: "RFC 3030 2",
		opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: 20}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 21000
		c: {21000*x}
		S: 552 5\.3\.4
		C: RSET
		S: 250`},
	{name: "BINARYMIME", rule: "RFC 3030 3", covers: "TestServer_Chunking_Binarymime", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]BINARYMIME\r\n
		C: MAIL FROM:<a@sender.example> BODY=BINARYMIME
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 503 5\.5\.1
		C: BDAT 7
		c: a{LF}b{CR}c{NUL}{CR}
		S: 250
		c: BDAT 3 LAST{CR}{LF}{LF}.{CR}
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", "a\nb\rc\x00\r\n.\r", "BODY=BINARYMIME"}}},
	{name: "the next message is not BINARYMIME", rule: "RFC 3030 3", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> BODY=BINARYMIME
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		c: BDAT 2 LAST{CR}{LF}a{LF}
		S: 552 5\.6\.0
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "long command behind a reset chunk", rule: "RFC 5321 4.5.3.1.4", covers: "TestServer_Chunking_lineLimitRestoredAfterReset", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		C: RSET
		S: 250
		C: NOOP {70000*x}
		S: 500 5\.5\.
		.:`},
	{name: "long command between chunks", rule: "RFC 5321 4.5.3.1.4", covers: "TestServer_Chunking_lineLimitInsideTransaction", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 7
		C: first
		S: 250
		C: NOOP {70000*x}
		S: 500 5\.5\.
		.:`},
	{name: "long lines in chunks", rule: "RFC 5321 4.5.3.1.6", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT 600
		c: {600*x}
		S: 250
		C: BDAT 401 LAST
		C: {399*x}
		S: 5\d\d 5\.6\.0
		C: NOOP
		S: 250`},
	{name: "bare LF in chunks", rule: "RFC 5321 2.3.8", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		c: BDAT 2 LAST{CR}{LF}a{LF}
		S: 552 5\.6\.0
		C: NOOP
		S: 250`},
	{name: "CR and LF in two chunks", rule: "RFC 3030 2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		c: BDAT 2{CR}{LF}a{CR}
		S: 250
		c: BDAT 1 LAST{CR}{LF}{LF}
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", "a\r\n", ""}}},
	{name: "a chunk of unknown size", rule: "RFC 3030 2: nobody knows where the next command begins", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: BDAT many LAST
		C: MAIL FROM:<evil@sender.example>
		S: 501 5\.5\.4
		.:`},
}
