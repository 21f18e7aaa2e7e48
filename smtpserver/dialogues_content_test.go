package smtpserver

// talksContent: DATA and what follows it.
var talksContent = []talk{
	{name: "a message", rule: "RFC 5321 4.1.1.4, 4.5.2", covers: "TestServer", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: From: a@sender.example
		C:
		C: ..a dot
		C: .. two, and one in the line .
		C: ..
		C: ...
		C: end
		C: .
		S: 250 2\.0\.0 OK ids=[0-9a-f]{32}\r\n$`,
		want: []letter{{"a@sender.example", "b@one.example",
			"From: a@sender.example\r\n\r\n.a dot\r\n. two, and one in the line .\r\n.\r\n..\r\nend\r\n", ""}}},
	{name: "empty lines", rule: "RFC 5321 4.1.1.4", covers: "TestServer_EmptyMessage", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C:
		C:
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "\r\n\r\n", ""}}},
	{name: "DATA with an argument", rule: "RFC 5321 4.1.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA now
		S: 501 5\.5\.4
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "DATA without recipients", rule: "RFC 5321 3.3", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: DATA
		S: 503 5\.5\.1
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: DATA
		S: (503|554) 5\.5\.1
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "bare CR", rule: "RFC 5321 2.3.8, where go-smtp accepts; InvalidLineEndings", covers: "TestServer", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: a{CR} b
		C: .
		S: 552 5\.6\.0
		C: RCPT TO:<b@one.example>
		S: 503
		C: NOOP
		S: 250`},
	{name: "LF . LF", rule: "RFC 5321 2.3.8, 4.1.1.4, where go-smtp accepts", covers: "TestServer_LFDotLF", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: a{LF}.{LF}MAIL FROM:<evil@sender.example>
		C: .
		S: 552 5\.6\.0
		C: NOOP
		S: 250`},
	{name: "CR LF . LF", rule: "RFC 5321 2.3.8, 4.1.1.4, where go-smtp accepts", covers: "TestServer_smtpSmuggling", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: a
		c: .{LF}
		C: MAIL FROM:<evil@sender.example>
		C: RCPT TO:<b@one.example>
		C: DATA
		C: .
		C: NOOP
		S: 552 5\.6\.0
		S: 250`},
	{name: "LF . CR LF", rule: "RFC 5321 2.3.8, 4.1.1.4, where go-smtp accepts", covers: "TestServer_smtpSmuggling", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		c: a{LF}
		C: .
		C: RSET
		C: MAIL FROM:<evil@sender.example>
		C: .
		C: NOOP
		S: 552 5\.6\.0
		S: 250`},
	{name: "smuggled by CR", rule: "RFC 5321 2.3.8, 4.1.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		c: a{CR}.{CR}b{CR}{CR}{LF}.{CR}{LF}
		C: NOOP
		S: 552 5\.6\.0
		S: 250`},
	{name: "too large", rule: "RFC 1870 6.3", covers: "TestServer_tooLongMessage",
		opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: 50}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: {30*x}
		C: {30*y}
		C: MAIL FROM:<evil@sender.example>
		C: .
		S: 552 5\.3\.4
		C: NOOP
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .{47*x}
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", ""}}},
	{name: "of exactly the largest size", rule: "RFC 1870 6.3: the dots of RFC 5321 4.5.2 do not count",
		opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: 10}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: ...
		C: 4567
		C: .
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: ...
		C: 45678
		C: .
		S: 552 5\.3\.4`,
		want: []letter{{"a@sender.example", "b@one.example", "..\r\n4567\r\n", ""}}},
	{name: "lines", rule: "RFC 5321 4.5.3.1.6", opts: Options{DeferredQueue: true, Limits: Limits{LineLength: 10}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: ..234567890
		C: .
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: 12345678901
		C: .
		S: 5\d\d 5\.6\.0
		C: NOOP
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", ".234567890\r\n", ""}}},
	{name: "hops", rule: "RFC 5321 6.3", opts: Options{DeferredQueue: true, Limits: Limits{Hops: 1}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: received: from nowhere
		C: X-Received: from nowhere
		C:
		C: Received: in the text
		C: .
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: Received: from nowhere
		C: RECEIVED: from nowhere
		C: .
		S: 554 5\.4\.6
		C: NOOP
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example",
			"received: from nowhere\r\nX-Received: from nowhere\r\n\r\nReceived: in the text\r\n", ""}}},
	{name: "the spool gets full", rule: "RFC 5321 4.2.3", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		F:
		C: DATA
		S: 452 4\.3\.1
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 452 4\.3\.1
		C: NOOP
		S: 250`},
	{name: "the client goes in the content", rule: "RFC 5321 4.1.1.10", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: half
		c: .
		X:`},
	{name: "QUIT in a transaction", rule: "RFC 5321 4.1.1.10", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: QUIT
		S: 221
		.:`},
}

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
