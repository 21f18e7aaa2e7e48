package smtpserver

import "strconv"

var pythonTools = []tool{{"python3", "python3"}}

// pythonClients send by smtplib of the standard library.
var pythonClients = []outsideClient{
	{name: "smtplib", tools: pythonTools, rcpts: 3, send: smtplib},
	{name: "smtplib, STARTTLS", tools: pythonTools, security: byStartTLS, rcpts: 3, send: smtplib},
	{name: "smtplib, TLS", tools: pythonTools, security: implicitTLS, rcpts: 3, send: smtplib},
	{name: "smtplib, AUTH PLAIN", tools: pythonTools, mechanism: "PLAIN", rcpts: 3, send: smtplib},
	{name: "smtplib, TLS, AUTH PLAIN", tools: pythonTools, security: implicitTLS, mechanism: "PLAIN", rcpts: 3, send: smtplib},
	{name: "smtplib, AUTH LOGIN", tools: pythonTools, mechanism: "LOGIN", rcpts: 3, send: smtplib},
	{name: "smtplib, STARTTLS, AUTH LOGIN", tools: pythonTools, security: byStartTLS, mechanism: "LOGIN", rcpts: 3, send: smtplib},
	{name: "smtplib, LMTP", tools: pythonTools, lmtp: true, rcpts: 3, send: smtplib},
}

// smtplib sends to three recipients.
func smtplib(tg *target) error {
	return run("python3", "-c", smtplibProgram, tg.host, tg.port, tg.message, strconv.FormatBool(tg.lmtp), string(tg.security), tg.ca,
		tg.mechanism, clientUser, clientPassword)
}

const smtplibProgram = `
import smtplib, ssl, sys
host, port, file, lmtp, security, ca, mechanism, user, password = sys.argv[1:]
content = open(file, "rb").read()
context = ssl.create_default_context(cafile=ca) if ca else None
if lmtp == "true":
    s = smtplib.LMTP(host, int(port))
elif security == "tls":
    s = smtplib.SMTP_SSL(host, int(port), context=context)
else:
    s = smtplib.SMTP(host, int(port))
with s:
    if security == "starttls":
        s.starttls(context=context)
    if mechanism:
        s.ehlo_or_helo_if_needed()
        s.user, s.password = user, password
        code, text = s.auth(mechanism, getattr(s, "auth_" + mechanism.lower()))
        assert code == 235, (code, text)
    batches = [["0@example.org", "1@example.org"], ["2@example.org"]]
    if lmtp == "true":  # smtplib reads one reply to the content, however many recipients there are
        batches = [["0@example.org"], ["1@example.org"], ["2@example.org"]]
    for to in batches:
        assert s.sendmail("sender@example.com", to, content, ["BODY=8BITMIME"]) == {}
`
