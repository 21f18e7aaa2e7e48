package smtpserver

import (
	"fmt"
	"strings"
)

// capabilities is the reply to HELO, EHLO or LHLO: what this client may use now.
func (s *session) capabilities(verb string) []byte {
	greeting := s.opts.Hostname + " Hello " + s.pub.Hello
	if verb == "HELO" {
		return []byte("250 " + greeting + "\r\n")
	}
	lines := []string{greeting, "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "BINARYMIME", "SMTPUTF8", "DSN"}
	if s.opts.TLS.Config != nil && s.pub.TLS == nil {
		lines = append(lines, "STARTTLS")
	}
	if s.pub.TLS != nil {
		lines = append(lines, "REQUIRETLS")
	}
	if mechanisms := s.AuthMechanisms(); len(mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " "))
	}
	if s.mayClaim() {
		lines = append(lines, xclientKeyword)
	}
	size := "SIZE"
	if n := s.opts.Limits.MessageSize; n > 0 {
		size = fmt.Sprintf("SIZE %d", n)
	}
	lines = append(lines, size)
	if limits := s.limits(); limits != "" {
		lines = append(lines, limits)
	}
	var b strings.Builder
	for i, line := range lines {
		sep := "250-"
		if i == len(lines)-1 {
			sep = "250 "
		}
		b.WriteString(sep + line + "\r\n")
	}
	return []byte(b.String())
}

// limits is the LIMITS extension (RFC 9422), empty if there are none.
func (s *session) limits() string {
	text := ""
	if n := s.opts.Limits.Messages; n > 0 {
		text += fmt.Sprintf(" MAILMAX=%d", n)
	}
	if n := s.opts.Limits.Recipients; n > 0 {
		text += fmt.Sprintf(" RCPTMAX=%d", n)
	}
	if text == "" {
		return ""
	}
	return "LIMITS" + text
}
