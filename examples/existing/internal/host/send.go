package host

import (
	"net"
	"net/smtp"
	"time"
)

// send sends a message as an application does, and says how long the reply to
// its content took.
func (h *Host) send(addr string) (took time.Duration, err error) {
	c, err := smtp.Dial(addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	if err := c.Auth(smtp.PlainAuth("", User, Password, name)); err != nil {
		return 0, err
	}
	if err := c.Mail("app@example.com"); err != nil {
		return 0, err
	}
	if err := c.Rcpt("ada@example.net"); err != nil {
		return 0, err
	}
	w, err := c.Data()
	if err != nil {
		return 0, err
	}
	if _, err := w.Write([]byte("Subject: hello\r\n\r\nGood morning.\r\n")); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := w.Close(); err != nil {
		return 0, err
	}
	took = time.Since(begin)
	return took, c.Quit()
}
