package smtpserver

import (
	"context"
	"strings"

	"github.com/deferredqueue/deferredqueue/queue"
)

// byLocalPart is an inject callback whose verdict stands in the recipients.
func byLocalPart(_ context.Context, m *queue.Message) error {
	for _, addr := range addresses(m.Envelope) {
		switch local, _, _ := strings.Cut(addr, "@"); local {
		case "unknown":
			return queue.Reject(550, "5.1.1 no such user")
		case "busy":
			return queue.Reject(450, "4.2.0 mailbox is busy")
		}
	}
	return nil
}

// passwords accepts "user" with "secret".
var passwords = Auth{Password: sessionPassword, AllowPlaintext: true}

// talksTLSAndAuth: STARTTLS (RFC 3207) and AUTH (RFC 4954).
var talksTLSAndAuth = []talk{
	{name: "STARTTLS is not there", rule: "RFC 3207 4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		-: STARTTLS
		C: STARTTLS
		S: 50[02] 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "STARTTLS", rule: "RFC 3207 4.2", opts: deferredMode, tls: true, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]STARTTLS\r\n
		-: REQUIRETLS
		C: STARTTLS
		S: 220 2\.
		T:
		C: MAIL FROM:<a@sender.example>
		S: 503 5\.5\.1
		C: EHLO client.example
		S: 250
		-: STARTTLS
		C: STARTTLS
		S: 50[23] 5\.5\.1
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		C: DATA
		S: 250
		S: 250
		S: 354
		C: first
		C: .
		C: MAIL FROM:<c@sender.example>
		C: RCPT TO:<d@one.example>
		C: BDAT 8 LAST
		C: second
		C: QUIT
		S: 250 2\.0\.0 OK ids=
		S: 250
		S: 250
		S: 250 2\.0\.0 OK ids=
		S: 221
		.:`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\n", ""}, {"c@sender.example", "d@one.example", "second\r\n", ""}}},
	{name: "STARTTLS with an argument", rule: "RFC 3207 4", opts: deferredMode, tls: true, lines: `
		C: EHLO client.example
		S: 250
		C: STARTTLS now
		S: 501 5\.5\.4
		C: STARTTLS
		S: 220
		T:
		C: EHLO client.example
		S: 250`},
	{name: "STARTTLS with commands behind it", rule: "RFC 3207 6, CVE-2011-0411", opts: deferredMode, tls: true, lines: `
		C: EHLO client.example
		S: 250
		C: STARTTLS
		C: MAIL FROM:<evil@sender.example>
		S: 5\d\d 5\.5\.1
		.:`},
	{name: "TLS is required", rule: "RFC 3207 4", opts: Options{DeferredQueue: true, TLS: TLS{Require: true}}, tls: true, lines: `
		C: EHLO client.example
		S: 250
		C: NOOP
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 530 5\.7\.0
		C: STARTTLS
		S: 220
		T:
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250`},
	{name: "AUTH is not there", rule: "RFC 4954 4", covers: "TestServer_authDisabled", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		-: AUTH
		C: AUTH PLAIN
		S: 50[0-3] 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "AUTH is not there in clear", rule: "RFC 4954 4, 9", opts: Options{DeferredQueue: true, Auth: Auth{Password: sessionPassword}}, tls: true, lines: `
		C: EHLO client.example
		S: 250
		-: AUTH
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 538 5\.7\.11
		C: STARTTLS
		S: 220
		T:
		C: EHLO client.example
		S: 250
		+: \n250[- ]AUTH PLAIN
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235 2\.`},
	{name: "AUTH is required", rule: "RFC 4954 6", covers: "TestServer_anonymousUserError",
		opts: Options{DeferredQueue: true, Auth: Auth{Password: sessionPassword, AllowPlaintext: true, Require: true}}, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]AUTH PLAIN
		C: MAIL FROM:<a@sender.example>
		S: 530 5\.7\.0
		C: AUTH PLAIN
		S: 334 \r\n
		C: AHVzZXIAc2VjcmV0
		S: 235 2\.
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
	{name: "AUTH twice", rule: "RFC 4954 4", covers: "TestServerAuthTwice", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235 2\.
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1
		C: RSET
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1`},
	{name: "AUTH in a transaction", rule: "RFC 4954 4", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1
		C: RCPT TO:<b@one.example>
		S: 250`},
	{name: "AUTH before EHLO", rule: "RFC 4954 4", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1`},
	{name: "AUTH cancelled", rule: "RFC 4954 4", covers: "TestServerCancelSASL", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN
		S: 334 \r\n
		C: *
		S: 501 5\.
		C: NOOP
		S: 250
		C: auth plain AHVzZXIAc2VjcmV0
		S: 235`},
	{name: "AUTH with a wrong password", rule: "RFC 4954 6", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAd3Jvbmc=
		S: 535 5\.7\.8
		C: AUTH PLAIN AHVzZXIAZG93bg==
		S: 454 4\.7\.0
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235`},
	{name: "AUTH by an unknown mechanism", rule: "RFC 4954 4", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH CRAM-MD5
		S: 504 5\.5\.4
		C: NOOP
		S: 250`},
	{name: "MAIL AUTH", rule: "RFC 4954 5: also of clients that did not authenticate", covers: "TestServer_authParam",
		opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> AUTH=<hey+A>
		S: 50[01] 5\.5\.4
		C: MAIL FROM:<a@sender.example> AUTH=<he+YYa>
		S: 50[01] 5\.5\.4
		C: MAIL FROM:<a@sender.example> AUTH=<>
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<a@sender.example> AUTH=e+3Dmc2@sender.example
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}}},
}

// talksDSN: delivery status notifications (RFC 3461), which stay in the envelope.
var talksDSN = []talk{
	{name: "DSN", rule: "RFC 3461 4", covers: "TestServerDSN", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<e=mc2@sender.example> envID=e+3Dmc2 Ret=hdrs
		S: 250
		C: RCPT TO:<b@one.example> Notify=Never ORcpt=Rfc822;e+3Dmc2@one.example
		S: 250
		C: RCPT TO:<c@one.example> notify=failure,delay
		S: 250
		C: RCPT TO:<d@one.example> NOTIFY=SUCCESS
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{
			{"e=mc2@sender.example", "b@one.example", "", "RET=HDRS ENVID=e=mc2 NOTIFY=NEVER ORCPT=RFC822;e=mc2@one.example"},
			{"e=mc2@sender.example", "c@one.example", "", "RET=HDRS ENVID=e=mc2 NOTIFY=FAILURE,DELAY"},
			{"e=mc2@sender.example", "d@one.example", "", "RET=HDRS ENVID=e=mc2 NOTIFY=SUCCESS"}}},
	{name: "DSN parameters that are wrong", rule: "RFC 3461 4", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example> RET=SOME
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> ENVID=a+
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> ENVID=
		S: 501 5\.5\.4
		C: MAIL FROM:<a@sender.example> RET=FULL
		S: 250
		C: RCPT TO:<b@one.example> NOTIFY=NEVER,DELAY
		S: 501 5\.5\.4
		C: RCPT TO:<b@one.example> NOTIFY=
		S: 501 5\.5\.4
		C: RCPT TO:<b@one.example> ORCPT=one
		S: 501 5\.5\.4
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", "RET=FULL"}}},
	{name: "DSN with SMTPUTF8", rule: "RFC 6533 3", covers: "TestServerDSNwithSMTPUTF8", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<e=mc2@sender.example> SMTPUTF8 ENVID=e+3Dmc2 RET=HDRS
		S: 250
		C: RCPT TO:<b@größe.example> ORCPT=UTF-8;e\x{3D}mc2@gr\x{F6}\x{DF}e.example NOTIFY=FAILURE,DELAY
		S: 250
		C: RCPT TO:<b@größe.example> ORCPT=utf-8;e\x{3D}mc2@größe.example NOTIFY=SUCCESS
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{
			{"e=mc2@sender.example", "b@größe.example", "", "RET=HDRS ENVID=e=mc2 SMTPUTF8 NOTIFY=FAILURE,DELAY ORCPT=UTF-8;e=mc2@größe.example"},
			{"e=mc2@sender.example", "b@größe.example", "", "RET=HDRS ENVID=e=mc2 SMTPUTF8 NOTIFY=SUCCESS ORCPT=UTF-8;e=mc2@größe.example"}}},
}

// talksLMTP: LMTP (RFC 2033), and callbacks that run before the reply.
var talksLMTP = []talk{
	{name: "callbacks before the reply", rule: "RFC 5321 4.2.5: one reply, so that one failure is that of all", inject: byLocalPart, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<busy@one.example>
		S: 250
		C: RCPT TO:<unknown@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 550 5\.1\.1 no such user
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<busy@one.example>
		S: 250
		C: BDAT 0 LAST
		S: 450 4\.2\.0 mailbox is busy`},
	{name: "LHLO", rule: "RFC 2033 4.1", opts: Options{DeferredQueue: true, LMTP: true}, lines: `
		C: EHLO client.example
		S: 50[0-2] 5\.5\.1
		C: HELO client.example
		S: 50[0-2] 5\.5\.1
		C: MAIL FROM:<a@sender.example>
		S: 503 5\.5\.1
		C: LHLO client.example
		S: 250-mx\.example\.com
		+: \n250[- ]PIPELINING\r\n
		+: \n250[- ]ENHANCEDSTATUSCODES\r\n
		C: DATA
		S: 503 5\.5\.1
		C: QUIT
		S: 221 2\.
		.:`},
	{name: "LHLO to SMTP", rule: "RFC 2033 4.1", opts: deferredMode, lines: `
		C: LHLO client.example
		S: 50[0-2] 5\.5\.1
		C: EHLO client.example
		S: 250`},
	{name: "LMTP", rule: "RFC 2033 4.2", covers: "TestServer_LMTP_Expand", opts: Options{DeferredQueue: true, LMTP: true}, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RCPT TO:nonsense
		S: 501
		C: RCPT TO:<c@one.example>
		S: 250
		C: DATA
		S: 354
		C: Text.
		C: .
		S: 250 2\.0\.0 (<b@one\.example> )?OK ids=[0-9a-f]{32}\r\n
		S: 250 2\.0\.0 (<c@one\.example> )?OK ids=[0-9a-f]{32}\r\n
		C: NOOP
		S: 250 2\.`,
		want: []letter{{"a@sender.example", "b@one.example", "Text.\r\n", ""}, {"a@sender.example", "c@one.example", "Text.\r\n", ""}}},
	{name: "LMTP without a recipient", rule: "RFC 2033 4.2", opts: Options{DeferredQueue: true, LMTP: true}, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:nonsense
		S: 501
		C: DATA
		S: 503 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "LMTP with a verdict for each", rule: "RFC 2033 4.2", covers: "TestServer_LMTP", opts: Options{LMTP: true}, inject: byLocalPart, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<unknown@one.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RCPT TO:<busy@one.example>
		S: 250
		C: DATA
		S: 354
		C: Text.
		C: .
		S: 550 5\.1\.1
		S: 250 2\.0\.0
		S: 450 4\.2\.0
		C: NOOP
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "Text.\r\n", ""}}},
	{name: "LMTP with a recipient twice", rule: "RFC 2033 4.2", covers: "TestServer_LMTP_DuplicatedRcpt", opts: Options{LMTP: true}, inject: byLocalPart, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<unknown@one.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RCPT TO:<unknown@one.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 550 5\.1\.1
		S: 250
		S: 550 5\.1\.1
		S: 250
		C: NOOP
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", ""}, {"a@sender.example", "b@one.example", "", ""}}},
	{name: "LMTP, too large", rule: "RFC 2033 4.2, RFC 1870 6.3", covers: "TestServer_LMTP_tooLongMessage",
		opts: Options{DeferredQueue: true, LMTP: true, Limits: Limits{MessageSize: 50}}, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: RCPT TO:<c@one.example>
		S: 250
		C: DATA
		S: 354
		C: {30*x}
		C: {30*y}
		C: MAIL FROM:<evil@sender.example>
		C: .
		S: 552 5\.3\.4
		S: 552 5\.3\.4
		C: NOOP
		S: 250`},
	{name: "LMTP in chunks", rule: "RFC 2033 4.3", covers: "TestServer_Chunking_LMTP", opts: Options{LMTP: true}, inject: byLocalPart, lines: `
		C: LHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		C: RCPT TO:<b@one.example>
		C: RCPT TO:<unknown@one.example>
		C: BDAT 7
		C: first
		S: 250
		S: 250
		S: 250
		S: 250
		C: BDAT 6 LAST
		C: last
		C: NOOP
		S: 250 2\.0\.0
		S: 550 5\.1\.1
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "first\r\nlast\r\n", ""}}},
}
