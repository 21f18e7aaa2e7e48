package smtpserver

import (
	"slices"
)

var swaksTools = []tool{{"swaks", "swaks, libnet-ssleay-perl"}}

var swaksClients = []outsideClient{
	{name: "swaks", tools: swaksTools, rcpts: 2, send: swaks()},
	{name: "swaks, pipelining", tools: swaksTools, rcpts: 2, send: swaks("--pipeline")},
	{name: "swaks, STARTTLS", tools: swaksTools, security: byStartTLS, rcpts: 2, send: swaks()},
	{name: "swaks, TLS, pipelining", tools: swaksTools, security: implicitTLS, rcpts: 2, send: swaks("--pipeline")},
	{name: "swaks, AUTH PLAIN", tools: swaksTools, mechanism: "PLAIN", rcpts: 2, send: swaks()},
	{name: "swaks, STARTTLS, AUTH PLAIN", tools: swaksTools, security: byStartTLS, mechanism: "PLAIN", rcpts: 2, send: swaks()},
	{name: "swaks, TLS, AUTH PLAIN", tools: swaksTools, security: implicitTLS, mechanism: "PLAIN", rcpts: 2, send: swaks()},
	{name: "swaks, AUTH LOGIN", tools: swaksTools, mechanism: "LOGIN", rcpts: 2, send: swaks()},
	{name: "swaks, TLS, AUTH LOGIN", tools: swaksTools, security: implicitTLS, mechanism: "LOGIN", rcpts: 2, send: swaks()},
	{name: "swaks, LMTP", tools: swaksTools, lmtp: true, rcpts: 2, send: swaks()},
}

// swaks sends one message to two recipients.
func swaks(more ...string) func(*target) error {
	return func(tg *target) error {
		args := []string{"--server", tg.addr, "--ehlo", "swaks.example", "--from", "sender@example.com",
			"--to", "0@example.org,1@example.org", "--data", "@" + tg.unended}
		if tg.lmtp {
			args = append(args, "--protocol", "LMTP")
		}
		switch tg.security {
		case byStartTLS:
			args = append(args, "--tls")
		case implicitTLS:
			args = append(args, "--tls-on-connect")
		}
		if tg.security != inClear {
			args = append(args, "--tls-ca-path", tg.ca, "--tls-verify")
		}
		if tg.mechanism != "" {
			args = append(args, "--auth", tg.mechanism, "--auth-user", clientUser, "--auth-password", clientPassword)
		}
		return run("swaks", slices.Concat(args, more)...)
	}
}
