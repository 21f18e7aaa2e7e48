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
