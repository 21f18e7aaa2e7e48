package smtpserver

import (
	"context"
	"net/netip"

	"github.com/deferredqueue/deferredqueue/spool"
)

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
	{name: "SIZE of many digits", rule: "RFC 1870 3: up to 20 digits", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> SIZE=4294967296
		S: 552 5\.3\.4
		C: MAIL FROM:<a@sender.example> SIZE=99999999999999999999
		S: 552 5\.3\.4`},
	{name: "SIZE beyond 4 GiB", rule: "RFC 1870 3", opts: Options{DeferredQueue: true, Limits: Limits{MessageSize: -1}}, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]SIZE( 0)?\r\n
		C: MAIL FROM:<a@sender.example> SIZE=5000000000
		S: 250`},
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
	{name: "unknown parameters", rule: "RFC 5321 4.1.1.11; RFC 7293, RFC 2852 and RFC 6710 are not offered", covers: "TestServerUnknownArg TestServerRRVS TestServerDELIVERBY TestServerMTPRIORITY", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> RABBIT
		S: 555 5\.5\.4
		C: MAIL FROM:<a@sender.example> RABBIT=1
		S: 555 5\.5\.4
		C: MAIL FROM:<a@sender.example> MT-PRIORITY=3
		S: 555 5\.5\.4
		C: MAIL FROM:<a@sender.example> BY=120;R
		S: 555 5\.5\.4
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example> RABBIT
		S: 555 5\.5\.4
		C: RCPT TO:<b@one.example> RRVS=2014-04-03T23:01:00Z
		S: 555 5\.5\.4
		C: RCPT TO:<b@one.example> BY=120;R
		S: 555 5\.5\.4
		C: RCPT TO:<b@one.example> MT-PRIORITY=3
		S: 555 5\.5\.4
		C: RCPT TO:<b@one.example>
		S: 250`},
	{name: "addresses beyond ASCII without SMTPUTF8", rule: "RFC 6531 3.5", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<größe@sender.example>
		S: (501 5\.1|55[03] 5\.6\.7)
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@größe.example>
		S: (501 5\.1|553 5\.6\.7)
		C: RCPT TO:<b@one.example>
		S: 250`},
	{name: "replies are ASCII", rule: "RFC 5321 4.2, RFC 6531 3.7.4.2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<größe@sender.example> SMTPUTF8
		S: 250
		-: [^\r\n -~]
		C: RCPT TO:<b@größe.example>
		S: 250
		-: [^\r\n -~]`},
	{name: "postmaster without a domain", rule: "RFC 5321 4.5.1", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<postmaster>
		S: 250
		C: RCPT TO:<PostMaster> NOTIFY=NEVER
		S: 250
		C: RCPT TO:<webmaster>
		S: 501
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "postmaster@mx.example.com", "", ""}, {"a@sender.example", "PostMaster@mx.example.com", "", "NOTIFY=NEVER"}}},
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
