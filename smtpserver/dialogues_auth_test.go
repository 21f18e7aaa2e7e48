package smtpserver

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
	{name: "REQUIRETLS", rule: "RFC 8689 2, 4.1", opts: deferredMode, tls: true, lines: `
		C: EHLO client.example
		S: 250
		-: REQUIRETLS
		C: MAIL FROM:<a@sender.example> REQUIRETLS
		S: 5(04|30|50|55) 5\.
		C: STARTTLS
		S: 220
		T:
		C: EHLO client.example
		S: 250
		+: \n250[- ]REQUIRETLS\r\n
		C: MAIL FROM:<a@sender.example> REQUIRETLS
		S: 250
		C: RCPT TO:<b@one.example>
		S: 250
		C: DATA
		S: 354
		C: .
		S: 250`,
		want: []letter{{"a@sender.example", "b@one.example", "", "REQUIRETLS"}}},
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
		S: 50[02] 5\.5\.1
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
		S: 235 2\.7\.0
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
		S: 235 2\.7\.0
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1
		C: RSET
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 503 5\.5\.1`},
	{name: "AUTH outlives RSET and EHLO", rule: "RFC 4954 4",
		opts: Options{DeferredQueue: true, Auth: Auth{Password: sessionPassword, AllowPlaintext: true, Require: true}}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235
		C: RSET
		S: 250
		C: EHLO client.example
		S: 250
		C: MAIL FROM:<a@sender.example>
		S: 250`},
	{name: "STARTTLS behind AUTH", rule: "RFC 3207 4.2: nothing that was said in clear may count", tls: true,
		opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN AHVzZXIAc2VjcmV0
		S: 235
		C: STARTTLS
		S: 503 5\.5\.1
		C: NOOP
		S: 250`},
	{name: "a command in the midst of AUTH", rule: "RFC 4954 4: what comes is the response", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN
		S: 334
		C: MAIL FROM:<a@sender.example>
		S: 501 5\.5\.2
		C: RCPT TO:<b@one.example>
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
	{name: "AUTH LOGIN", rule: "draft-murchison-sasl-login", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		+: \n250[- ]AUTH PLAIN LOGIN\r\n
		C: AUTH LOGIN
		S: 334 VXNlcm5hbWU6\r\n
		C: dXNlcg==
		S: 334 UGFzc3dvcmQ6\r\n
		C: d3Jvbmc=
		S: 535 5\.7\.8
		C: AUTH LOGIN
		S: 334
		C: *
		S: 501
		C: AUTH LOGIN dXNlcg==
		S: 334 UGFzc3dvcmQ6\r\n
		C: c2VjcmV0
		S: 235 2\.`},
	{name: "AUTH that cannot be read", rule: "RFC 4954 4", opts: Options{DeferredQueue: true, Auth: passwords}, lines: `
		C: EHLO client.example
		S: 250
		C: AUTH PLAIN ???
		S: 501 5\.5\.2
		C: AUTH PLAIN
		S: 334
		C: ???
		S: 501 5\.5\.2
		C: AUTH PLAIN
		S: 334
		C: AA==
		S: 5(01|35) 5\.
		C: AUTH PLAIN =
		S: 5(01|35) 5\.
		C: AUTH
		S: 501 5\.5\.4`},
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
