package smtpserver

// talksGreeting: EHLO, and what needs no transaction.
var talksGreeting = []talk{
	{name: "EHLO", rule: "RFC 5321 4.1.1.1, RFC 1870 4, RFC 2920 3, RFC 3030 2, RFC 3461 5, RFC 6152, RFC 6531 3.1", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250-mx\.example\.com
		+: \n250[- ]PIPELINING\r\n
		+: \n250[- ]8BITMIME\r\n
		+: \n250[- ]ENHANCEDSTATUSCODES\r\n
		+: \n250[- ]CHUNKING\r\n
		+: \n250[- ]SMTPUTF8\r\n
		+: \n250[- ]DSN\r\n
		+: \n250[- ]SIZE 20971520\r\n
		-: AUTH|STARTTLS|REQUIRETLS|XCLIENT|RRVS|DELIVERBY|MT-PRIORITY|VRFY|ETRN
		C: QUIT
		S: 221 2\.
		.:`},
	{name: "HELO", rule: "RFC 5321 4.1.1.1, 2.2.1", covers: "TestServer_helo", opts: deferredMode, lines: `
		C: HELO client.example
		S: 250 mx\.example\.com.*\r\n$
		C: MAIL FROM:<a@sender.example>
		S: 250 2\.
		C: RCPT TO:<b@one.example>
		S: 250 2\.
		C: DATA
		S: 354 
		C: Subject: a note
		C:
		C: Text.
		C: .
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"a@sender.example", "b@one.example", note, ""}}},
	{name: "EHLO with an address literal, in small letters", rule: "RFC 5321 4.1.3, 2.4", opts: deferredMode, lines: `
		C: ehlo [127.0.0.1]
		S: 250-
		C: eHlO [IPv6:::1]
		S: 250-`},
	{name: "EHLO without a domain", rule: "RFC 5321 4.1.1.1", opts: deferredMode, lines: `
		C: EHLO
		S: 501 5\.5\.
		C: MAIL FROM:<>
		S: 503 5\.5\.1`},
	{name: "EHLO beyond ASCII", rule: "RFC 5321 4.1.1.1, 4.2, RFC 6531 3.7.1", opts: deferredMode, lines: `
		C: EHLO größe.example
		S: (501 5|250-)
		-: [^\r\n -~]`},
	{name: "EHLO again resets", rule: "RFC 5321 4.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250-
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: EHLO client.example
		S: 250-
		C: RCPT TO:<b@one.example>
		S: 503 5\.5\.1
		C: MAIL FROM:<c@sender.example>
		S: 250
		C: RCPT TO:<d@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250 2\.0\.0 OK ids=`,
		want: []letter{{"c@sender.example", "d@one.example", "", ""}}},
	{name: "a refused EHLO changes nothing", rule: "RFC 5321 4.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250-
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: LHLO client.example
		S: 50[0-2] 5\.5\.1
		C: EHLO
		S: 501
		C: RCPT TO:<b@one.example>
		S: 250`},
	{name: "other commands", rule: "RFC 5321 3.5.3, 4.1.1.5 to 4.1.1.10", covers: "TestServer_otherCommands", opts: deferredMode, lines: `
		C: HELP
		S: (214|502)
		C: EHLO client.example
		S: 250
		C: HELP MAIL
		S: (214|502)
		C: VRFY postmaster
		S: 252 2\.
		C: EXPN list
		S: (502 5\.5\.1|252|550)
		C: NOOP
		S: 250 2\.
		C: NOOP for a while
		S: 250 2\.
		C: noop
		S: 250 2\.
		C: RSET
		S: 250 2\.
		C: TURN
		S: 50[02] 5\.5\.1
		C: QUIT
		S: 221 2\.
		.:`},
	{name: "commands before EHLO", rule: "RFC 5321 4.1.4", opts: deferredMode, lines: `
		C: NOOP
		S: 250
		C: VRFY postmaster
		S: 252
		C: RSET
		S: 250
		C: RCPT TO:<b@one.example>
		S: 503 5\.5\.1
		C: DATA
		S: 503 5\.5\.1
		C: MAIL FROM:<>
		S: 503 5\.5\.1
		C: QUIT
		S: 221
		.:`},
	{name: "RSET in every state", rule: "RFC 5321 4.1.1.5", opts: deferredMode, lines: `
		C: RSET
		S: 250
		C: EHLO client.example
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RSET
		S: 250
		C: RCPT TO:<b@one.example>
		S: 503
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RSET
		S: 250
		C: DATA
		S: 503
		C: MAIL FROM:<c@sender.example>
		S: 250
		C: RCPT TO:<d@one.example>
		S: 250
		C: DATA
		S: 354
		C: RSET
		C: .
		S: 250
		C: RSET
		S: 250
		C: DATA
		S: 503`,
		want: []letter{{"c@sender.example", "d@one.example", "RSET\r\n", ""}}},
	{name: "too many errors", rule: "RFC 5321 7.8, Limits.Errors", covers: "TestServer_tooManyInvalidCommands",
		opts: Options{DeferredQueue: true, Limits: Limits{Errors: 2}}, lines: `
		C: FOO
		S: 500 5\.5\.
		C: BAR
		S: 500 5\.5\.
		C: BAZ
		S: 500 5\.5\.
		S: 421 4\.7\.0
		.:`},
	{name: "long command", rule: "RFC 5321 4.5.3.1.4, RFC 4954 4", covers: "TestServer_TooLongCommand TestServer_tooLongLine", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: NOOP {12000*x}
		S: 250
		C: MAIL FROM:<{70000*a}>
		S: 500 5\.5\.
		.:`},
	{name: "long command without an end", rule: "RFC 5321 4.5.3.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		c: MAIL FROM:<{70000*a}
		S: 500 5\.5\.
		.:`},
	{name: "control characters", rule: "RFC 5321 4.1.2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: NOOP{NUL}
		S: 500 5\.5\.2
		C: NOOP {CR}RSET
		S: 500 5\.5\.2
		C: MAIL FROM:<a{NUL}@sender.example>
		S: 50[01] 5\.5\.2`},
}
