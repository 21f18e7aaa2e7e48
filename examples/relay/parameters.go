package main

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// fits says what a message needs and the smart host does not offer: no attempt will
// change that.
func fits(c *conn, m *queue.Message) error {
	offered := func(name string) bool {
		ok, _ := c.Extension(name)
		return ok
	}
	if m.Envelope.SMTPUTF8 && !offered("SMTPUTF8") {
		needed, err := needsUTF8(m)
		if err != nil {
			return err
		}
		if needed {
			return queue.Reject(550, "5.6.7 the next host takes no internationalized mail")
		}
		m.Envelope.SMTPUTF8 = false
	}
	switch {
	case m.Envelope.RequireTLS && !offered("REQUIRETLS"):
		return queue.Reject(550, "5.7.30 the next host does not support REQUIRETLS")
	case m.Envelope.Body == "BINARYMIME":
		return queue.Reject(554, "5.6.3 binary content is not passed on")
	}
	if !offered("8BITMIME") { // whatever the client said of the content: many say nothing
		eight, err := hasEightBit(m)
		if err != nil {
			return err
		}
		if eight {
			return queue.Reject(554, "5.6.3 the next host takes no 8-bit content")
		}
	}
	if limit, ok := c.MaxMessageSize(); ok && limit > 0 && m.Size > int64(limit) {
		return queue.Reject(552, "5.3.4 the next host takes messages of up to %d bytes", limit)
	}
	return nil
}

// needsUTF8 reports whether a message is internationalized: many clients say so of
// every one.
func needsUTF8(m *queue.Message) (bool, error) {
	for _, rcpt := range m.Envelope.Recipients {
		if !isASCII(rcpt.Address) {
			return true, nil
		}
	}
	if !isASCII(m.Envelope.Sender) {
		return true, nil
	}
	content, err := m.Open()
	if err != nil {
		return false, err
	}
	lines := bufio.NewReader(content)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case !isASCII(string(line)):
			return true, nil
		case err == io.EOF, len(bytes.TrimSpace(line)) == 0 && err == nil:
			return false, nil
		case err != nil && err != bufio.ErrBufferFull:
			return false, err
		}
	}
}

// hasEightBit reports whether there is an octet beyond ASCII in the content.
func hasEightBit(m *queue.Message) (bool, error) {
	content, err := m.Open()
	if err != nil {
		return false, err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := content.Read(buf)
		switch {
		case !isASCII(string(buf[:n])):
			return true, nil
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= 0x80 })
}

func mailOptions(m *queue.Message) *smtp.MailOptions {
	return &smtp.MailOptions{
		Size: m.Size, UTF8: m.Envelope.SMTPUTF8, RequireTLS: m.Envelope.RequireTLS,
		Return: smtp.DSNReturn(m.Envelope.Ret), EnvelopeID: m.Envelope.EnvID,
	}
}

func rcptOptions(rcpt spool.Recipient) *smtp.RcptOptions {
	o := &smtp.RcptOptions{}
	for _, n := range rcpt.Notify {
		o.Notify = append(o.Notify, smtp.DSNNotify(n))
	}
	if kind, address, ok := strings.Cut(rcpt.ORcpt, ";"); ok {
		switch strings.ToLower(kind) {
		case "rfc822":
			o.OriginalRecipientType, o.OriginalRecipient = smtp.DSNAddressTypeRFC822, address
		case "utf-8":
			o.OriginalRecipientType, o.OriginalRecipient = smtp.DSNAddressTypeUTF8, address
		}
	}
	return o
}
