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
	{name: "invalid line endings allowed", rule: "InvalidLineEndings: the end of data is CRLF . CRLF whatever it says", covers: "TestServer_LFDotLF TestServer_smtpSmuggling",
		opts: Options{DeferredQueue: true, InvalidLineEndings: Allow}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		c: a{LF}.{LF}b{CR}{LF}.{LF}c{CR}.{CR}d{LF}.{CR}{LF}e{CR}{CR}{LF}..f{CR}{LF}
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "a\n.\nb\r\n\nc\r.\rd\n.\r\ne\r\r\n.f\r\n", ""}}},
	{name: "invalid line endings fixed", rule: "InvalidLineEndings: the end of data is CRLF . CRLF whatever it says", covers: "TestServer_LFDotLF TestServer_smtpSmuggling",
		opts: Options{DeferredQueue: true, InvalidLineEndings: Fix}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		c: a{LF}.{LF}b{CR}{LF}.{LF}c{CR}.{CR}d{LF}.{CR}{LF}e{CR}{CR}{LF}..f{CR}{LF}
		C: .
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		c: BDAT 3{CR}{LF}a{LF}{CR}
		S: 250
		c: BDAT 2 LAST{CR}{LF}{LF}{CR}
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "a\r\n.\r\nb\r\n\r\nc\r\n.\r\nd\r\n.\r\ne\r\n\r\n.f\r\n", ""},
			{"a@sender.example", "b@one.example", "a\r\n\r\n\r\n", ""}}},
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
