package smtpserver

import (
	"context"
	"net/netip"

	"github.com/deferredqueue/deferredqueue/spool"
)

// talkTables are all talks.
var talkTables = [][]talk{talksGreeting, talksEnvelope, talksContent, talksChunks, talksPipelining, talksTLSAndAuth, talksDSN, talksLMTP}

var deferredMode = Options{DeferredQueue: true}

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
		S: 250 .*\r\n$
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

// talksEnvelope: MAIL and RCPT.
var talksEnvelope = []talk{
	{name: "null sender", rule: "RFC 5321 4.5.5", covers: "TestServerEmptyFrom2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<>
		S: 250 2\.1?\.?0
		C: RCPT TO:<b@one.example>
		S: 250 2\.
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"", "b@one.example", "", ""}}},
	{name: "MAIL and RCPT without an address", rule: "RFC 5321 4.1.1.2, 4.1.1.3", covers: "TestServerEmptyFrom1 TestServerEmptyTo", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:
		S: 501 5\.
		C: MAIL
		S: 501 5\.
		C: MAIL TO:<a@sender.example>
		S: 501 5\.
		C: MAIL FROM:<a@sender.example
		S: 501 5\.
		C: MAIL FROM:<a@>
		S: 501 5\.
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:
		S: 501 5\.
		C: RCPT TO:<>
		S: 501 5\.
		C: RCPT
		S: 501 5\.
		C: RCPT FROM:<b@one.example>
		S: 501 5\.
		C: RCPT TO:<b@one.example>
		S: 250`},
	{name: "lenient addresses", rule: "RFC 5321 4.1.1.2 wants brackets and no space: many clients have none, or one", covers: "TestServer_anonymousUserOK", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: mail from: a@sender.example
		S: 250
		C: rcpt to: <b@one.example>
		S: 250
		C: data
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "quoted local parts, literals, source routes, case", rule: "RFC 5321 4.1.2, 2.4, C", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<"a b"@sender.example>
		S: 250
		C: RCPT TO:<"c@d"@one.example>
		S: 250
		C: RCPT TO:<"e\"f"@one.example>
		S: 250
		C: RCPT TO:<G.h+i@[192.0.2.1]>
		S: 250
		C: RCPT TO:<@relay.example,@hub.example:j@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250 2\.0\.0 OK ids=[0-9a-f]{32}( [0-9a-f]{32}){3}\r\n`,
		want: []letter{{`"a b"@sender.example`, `"c@d"@one.example`, "", ""}, {`"a b"@sender.example`, `"e\"f"@one.example`, "", ""},
			{`"a b"@sender.example`, "G.h+i@[192.0.2.1]", "", ""}, {`"a b"@sender.example`, "j@one.example", "", ""}}},
	{name: "long addresses", rule: "RFC 5321 4.5.3.1", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<{330*a}@sender.example>
		S: 501 5\.1\.
		C: MAIL FROM:<{64*a}@{63*b}.{63*c}.{63*d}.example>
		S: 250
		C: RCPT TO:<{330*a}@one.example>
		S: 501 5\.1\.
		C: RCPT TO:<{64*a}@{63*b}.{63*c}.{63*d}.example>
		S: 250`},
	{name: "nested MAIL", rule: "RFC 5321 4.1.4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: MAIL FROM:<evil@sender.example>
		S: 503 5\.5\.1
		C: RCPT TO:<b@one.example>
		S: 250
		C: MAIL FROM:<evil@sender.example>
		S: 503 5\.5\.1
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "one session, several messages", rule: "RFC 5321 3.3", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: first
		C: .
		S: 250
		C: DATA
		S: 503
		C: RCPT TO:<c@one.example>
		S: 503
		C: MAIL FROM:<d@sender.example>
		S: 250
		C: RCPT TO:<e@one.example>
		S: 250
		C: RCPT TO:<f@one.example>
		S: 250
		C: DATA
		S: 354
		C: second
		C: .
		S: 250
		C: QUIT
		S: 221
		.:`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\n", ""}, {"d@sender.example", "e@one.example", "second\r\n", ""},
			{"d@sender.example", "f@one.example", "second\r\n", ""}}},
	{name: "too many recipients", rule: "RFC 5321 4.5.3.1.10", opts: Options{DeferredQueue: true, Limits: Limits{Recipients: 2}}, lines: `
		C: EHLO client.example
		S: 250-
		C: MAIL FROM:<>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RCPT TO:<c@one.example>
		S: 250
		C: RCPT TO:<d@one.example>
		S: 452 4\.5\.3
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"", "b@one.example", "", ""}, {"", "c@one.example", "", ""}}},
	{name: "SIZE", rule: "RFC 1870 6", covers: "TestServerTooBig TestServerBadSize",
		opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: 1000}}, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]SIZE 1000\r\n
		C: MAIL FROM:<a@sender.example> SIZE=1001
		S: 552 5\.3\.4
		C: MAIL FROM:<a@sender.example> SIZE=4294967295
		S: 552 5\.3\.4
		C: MAIL FROM:<a@sender.example> SIZE=rabbit
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> SIZE=-1
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> SIZE=1000
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: shorter than that
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "shorter than that\r\n", ""}}},
	{name: "BODY", rule: "RFC 6152 2", covers: "TestServer8BITMIME TestServer_BODYInvalidValue", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> BODY=9BIT
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> BODY=7bit
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example> body=8bitMIME
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: größer
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "größer\r\n", "BODY=8BITMIME"}}},
	{name: "SMTPUTF8", rule: "RFC 6531 3.4", covers: "TestServerSMTPUTF8", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<größe@sender.example> SMTPUTF8
		S: 250
		C: RCPT TO:<b@größe.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"größe@sender.example", "b@größe.example", "", "SMTPUTF8"}}},
	{name: "parameters that are not known", rule: "RFC 5321 4.1.1.11; RFC 7293, RFC 2852 and RFC 6710 are not offered",
		covers: "TestServerUnknownArg TestServerRRVS TestServerDELIVERBY TestServerMTPRIORITY", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> RABBIT
		S: 5\d\d 5\.5\.4
		C: MAIL FROM:<a@sender.example> MT-PRIORITY=3
		S: 5\d\d 5\.5\.4
		C: MAIL FROM:<a@sender.example> BY=120;R
		S: 5\d\d 5\.5\.4
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example> RABBIT=1
		S: 5\d\d 5\.5\.4
		C: RCPT TO:<b@one.example> RRVS=2014-04-03T23:01:00Z
		S: 5\d\d 5\.5\.4
		C: RCPT TO:<b@one.example> BY=120;R
		S: 5\d\d 5\.5\.4
		C: RCPT TO:<b@one.example> MT-PRIORITY=3
		S: 5\d\d 5\.5\.4
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "relaying refused", rule: "RFC 5321 3.6.2, 7.9", opts: Options{DeferredQueue: true, RelayHosts: []netip.Prefix{}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 550 5\.7\.1
		C: DATA
		S: 50[34] 5\.5\.1`},
	{name: "a hook that panics", rule: "RFC 5321 3.8", covers: "TestServerPanicRecover",
		opts: Options{DeferredQueue: true, Hooks: Hooks{Mail: func(context.Context, *Session, *spool.Envelope) error { panic("hook") }}}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 421 4\.3\.0
		.:`},
}

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
