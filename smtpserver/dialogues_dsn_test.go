package smtpserver

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
	{name: "ORCPT of other types", rule: "RFC 3461 4.2", opts: deferredMode, lines: `
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250
		C: RCPT TO:<b@one.example> ORCPT=x400;/C+3Dde/S+3Djoe/
		S: 250
		C: RCPT TO:<c@one.example> ORCPT=X-LOCAL;joe
		S: 250
		C: RCPT TO:<d@one.example> ORCPT=unknown;gr+C3+B6+C3+9Fe
		S: 250
		C: RCPT TO:<f@one.example> ORCPT=utf-8;\x{E000}joe
		S: 250
		C: RCPT TO:<e@one.example> ORCPT=x.400;joe
		S: 501 5\.5\.4
		C: RCPT TO:<e@one.example> ORCPT=x400;
		S: 501 5\.5\.4
		C: RCPT TO:<e@one.example> ORCPT=x400;+3
		S: 501 5\.5\.4
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{
			{"a@sender.example", "b@one.example", "", "ORCPT=x400;/C=de/S=joe/"},
			{"a@sender.example", "c@one.example", "", "ORCPT=X-LOCAL;joe"},
			{"a@sender.example", "d@one.example", "", "ORCPT=unknown;größe"},
			{"a@sender.example", "f@one.example", "", ""}}},
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
