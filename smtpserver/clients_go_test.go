package smtpserver

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"strings"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

// goClients need nothing but Go.
var goClients = []outsideClient{
	{name: "net-smtp, SendMail", rcpts: 2, send: func(tg *target) error {
		return smtp.SendMail(tg.addr, nil, "sender@example.com", []string{"0@example.org", "1@example.org"}, []byte(message))
	}},
	{name: "net-smtp", rcpts: 4, send: netSMTP},
	{name: "net-smtp, AUTH PLAIN", mechanism: "PLAIN", rcpts: 4, send: netSMTP},
	{name: "net-smtp, STARTTLS", security: byStartTLS, rcpts: 4, send: netSMTP},
	{name: "net-smtp, TLS, AUTH PLAIN", security: implicitTLS, mechanism: "PLAIN", rcpts: 4, send: netSMTP},
	{name: "go-smtp", rcpts: 4, send: goSMTP},
	{name: "go-smtp, LMTP", lmtp: true, rcpts: 4, send: goSMTP},
	{name: "go-smtp, STARTTLS, AUTH PLAIN", security: byStartTLS, mechanism: "PLAIN", rcpts: 4, send: goSMTP},
	{name: "go-smtp, STARTTLS, AUTH LOGIN", security: byStartTLS, mechanism: "LOGIN", rcpts: 4, send: goSMTP},
	{name: "go-smtp, TLS", security: implicitTLS, rcpts: 4, send: goSMTP},
}

// netSMTP sends two messages to two recipients each on one connection.
func netSMTP(tg *target) error {
	c, err := netSMTPClient(tg)
	if err != nil {
		return err
	}
	defer c.Close()
	if tg.mechanism != "" {
		if err := c.Auth(smtp.PlainAuth("", clientUser, clientPassword, tg.host)); err != nil {
			return fmt.Errorf("AUTH: %w", err)
		}
	}
	for i := range 2 {
		if err := netSMTPMessage(c, i); err != nil {
			return err
		}
	}
	return c.Quit()
}

// netSMTPMessage sends one message to two recipients.
func netSMTPMessage(c *smtp.Client, i int) error {
	if err := c.Mail("sender@example.com"); err != nil {
		return err
	}
	if err := twoRecipients(i, c.Rcpt); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	return writeMessage(w)
}

func netSMTPClient(tg *target) (*smtp.Client, error) {
	if tg.security == implicitTLS {
		conn, err := tls.Dial("tcp", tg.addr, tg.tlsConfig())
		if err != nil {
			return nil, err
		}
		return smtp.NewClient(conn, tg.host)
	}
	c, err := smtp.Dial(tg.addr)
	if err == nil && tg.security == byStartTLS {
		err = c.StartTLS(tg.tlsConfig())
	}
	return c, err
}

func twoRecipients(message int, rcpt func(string) error) error {
	for i := range 2 {
		if err := rcpt(fmt.Sprintf("%d@example.org", 2*message+i)); err != nil {
			return err
		}
	}
	return nil
}

func writeMessage(w io.WriteCloser) error {
	if _, err := io.Copy(w, strings.NewReader(message)); err != nil {
		return err
	}
	return w.Close()
}

// goSMTP is netSMTP by go-smtp's client, with parameters of extensions.
func goSMTP(tg *target) error {
	c, err := goSMTPClient(tg)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := goSMTPAuth(c, tg); err != nil {
		return fmt.Errorf("AUTH: %w", err)
	}
	for i := range 2 {
		if err := c.Mail("sender@example.com", &gosmtp.MailOptions{Size: int64(len(message)), Body: gosmtp.Body8BitMIME}); err != nil {
			return err
		}
		rcpt := func(to string) error {
			return c.Rcpt(to, &gosmtp.RcptOptions{Notify: []gosmtp.DSNNotify{gosmtp.DSNNotifyFailure}})
		}
		if tg.lmtp { // whose client does not know that LMTP may have DSN
			rcpt = func(to string) error { return c.Rcpt(to, nil) }
		}
		if err := twoRecipients(i, rcpt); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		if err := writeMessage(w); err != nil {
			return err
		}
	}
	return c.Quit()
}

func goSMTPClient(tg *target) (*gosmtp.Client, error) {
	switch {
	case tg.lmtp:
		conn, err := net.Dial("tcp", tg.addr)
		if err != nil {
			return nil, err
		}
		return gosmtp.NewClientLMTP(conn), nil
	case tg.security == implicitTLS:
		return gosmtp.DialTLS(tg.addr, tg.tlsConfig())
	case tg.security == byStartTLS:
		return gosmtp.DialStartTLS(tg.addr, tg.tlsConfig())
	}
	return gosmtp.Dial(tg.addr)
}

func goSMTPAuth(c *gosmtp.Client, tg *target) error {
	switch tg.mechanism {
	case "PLAIN":
		return c.Auth(sasl.NewPlainClient("", clientUser, clientPassword))
	case "LOGIN":
		return c.Auth(sasl.NewLoginClient(clientUser, clientPassword))
	}
	return nil
}
