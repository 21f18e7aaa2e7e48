package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// maxReply is the length of a reply line with its CRLF (RFC 5321, section 4.5.3.1.5).
const maxReply = 512

// A reply is one reply to the client, and the error that carries it: 250 is an
// error here only because go-smtp wants its text so.
type reply struct {
	code     int
	enhanced [3]int
	text     string
	close    bool // the connection ends behind it
}

func (r *reply) Error() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.code, r.enhanced[0], r.enhanced[1], r.enhanced[2], r.text)
}

// line returns r as it goes over the wire.
func (r *reply) line() []byte { return append([]byte(r.Error()), '\r', '\n') }

// smtp returns r as go-smtp wants it. It is never nil.
func (r *reply) smtp() *smtp.SMTPError {
	return &smtp.SMTPError{Code: r.code, EnhancedCode: r.enhanced, Message: r.text}
}

// Replies that are the same every time.
var (
	replyDraining  = &reply{code: 421, enhanced: [3]int{4, 3, 2}, text: "Service shutting down, try again later", close: true}
	replyPanic     = &reply{code: 421, enhanced: [3]int{4, 3, 0}, text: "Internal error, try again later", close: true}
	replyTemporary = &reply{code: 451, enhanced: [3]int{4, 3, 0}, text: "Temporary failure, try again later"}
	replyStorage   = &reply{code: 451, enhanced: [3]int{4, 3, 0}, text: "Storage failed, try again later"}
	replyFull      = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient disk space, try again later"}
	replyInodes    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient inodes, try again later"}
	replyQuota     = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Spool quota reached, try again later"}
	replyMemory    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Insufficient memory, try again later"}
	replyBusy      = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Too busy, try again later"}
	replyRecords   = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Too many log records are waiting, try again later"}

	replyQueuedMessages = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Too many messages are queued, try again later"}
	replyQueuedBytes    = &reply{code: 452, enhanced: [3]int{4, 3, 1}, text: "Too many bytes are queued, try again later"}
	replyQueuedAge      = &reply{code: 451, enhanced: [3]int{4, 3, 2}, text: "Queued messages are waiting too long, try again later"}

	replyProcessing  = &reply{code: 451, enhanced: [3]int{4, 4, 5}, text: "Processing took too long, try again later"}
	replyIdle        = &reply{code: 421, enhanced: [3]int{4, 4, 2}, text: "Timeout waiting for the client, closing connection", close: true}
	replyLost        = &reply{code: 421, enhanced: [3]int{4, 4, 2}, text: "Connection broken, nothing was accepted", close: true}
	replyTooMany     = &reply{code: 421, enhanced: [3]int{4, 3, 2}, text: "Too many connections, try again later", close: true}
	replyMessages    = &reply{code: 421, enhanced: [3]int{4, 7, 0}, text: "Too many messages on this connection, open another", close: true}
	replyErrors      = &reply{code: 421, enhanced: [3]int{4, 7, 0}, text: "Too many errors, closing connection", close: true}
	replyHello       = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say EHLO first"}
	replyHelloLong   = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "Domain is too long"}
	replyNested      = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Sender already given, say RSET first"}
	replyNoMail      = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Say MAIL first"}
	replyNeedTLS     = &reply{code: 530, enhanced: [3]int{5, 7, 0}, text: "Must issue a STARTTLS command first"}
	replyNeedAuth    = &reply{code: 530, enhanced: [3]int{5, 7, 0}, text: "Authentication required"}
	replyRelay       = &reply{code: 550, enhanced: [3]int{5, 7, 1}, text: "Relaying not permitted"}
	replyCredentials = &reply{code: 454, enhanced: [3]int{4, 7, 0}, text: "Temporary authentication failure"}
	replySender      = &reply{code: 501, enhanced: [3]int{5, 1, 7}, text: "Sender address is too long"}
	replyRecipient   = &reply{code: 501, enhanced: [3]int{5, 1, 3}, text: "Recipient address is too long"}
	replyCommandLine = &reply{code: 500, enhanced: [3]int{5, 5, 2}, text: "Command line too long, closing connection", close: true}
	replyControl     = &reply{code: 500, enhanced: [3]int{5, 5, 2}, text: "Control characters are not allowed in commands"}
	replyUnknown     = &reply{code: 500, enhanced: [3]int{5, 5, 1}, text: "Command not recognized"}
	replyChunk       = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "Malformed BDAT, closing connection", close: true}
	replyTooLarge    = &reply{code: 552, enhanced: [3]int{5, 3, 4}, text: "Message is larger than the maximum"}
	replyLineEnding  = &reply{code: 552, enhanced: [3]int{5, 6, 0}, text: "Lines must end with CRLF; bare CR or LF are not allowed"}
	replyLineLength  = &reply{code: 500, enhanced: [3]int{5, 6, 0}, text: "Line too long in the message"}
	replyHops        = &reply{code: 554, enhanced: [3]int{5, 4, 6}, text: "Too many hops, mail is looping"}
)

// toReply maps every error to what the client is told. An error that is not
// known is temporary, and its text stays here.
func toReply(err error) *reply {
	var own *reply
	var verdict *queue.RejectError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &verdict):
		return verdictReply(verdict)
	case errors.Is(err, spool.ErrQuota):
		return replyQuota
	case errors.Is(err, spool.ErrNoInodes):
		return replyInodes
	case errors.Is(err, spool.ErrFull):
		return replyFull
	case errors.Is(err, spool.ErrTooLarge):
		return replyTooLarge
	case errors.Is(err, queue.ErrRecordsFull):
		return replyRecords
	case errors.Is(err, spool.ErrBusy):
		return replyBusy
	case errors.Is(err, spool.ErrFailed), errors.Is(err, spool.ErrFenced):
		return replyStorage
	case errors.Is(err, errDraining), errors.Is(err, spool.ErrClosed):
		return replyDraining
	case errors.Is(err, context.DeadlineExceeded):
		return replyProcessing
	case errors.Is(err, context.Canceled):
		return replyDraining
	}
	return replyTemporary
}

// verdictReply is the reply to a queue.Reject of the host's.
func verdictReply(e *queue.RejectError) *reply {
	if e == nil || e.Code < 400 || e.Code > 599 {
		return replyTemporary
	}
	r := &reply{code: e.Code, enhanced: e.Enhanced, text: "Refused", close: e.Code == 421}
	if r.enhanced[0] != e.Code/100 {
		r.enhanced = [3]int{e.Code / 100, 0, 0}
	}
	if e.Err != nil {
		if text := oneLine(e.Err.Error(), maxReply-40); text != "" {
			r.text = text
		}
	}
	return r
}

// worst returns the reply to a transaction of which these parts failed: a 5xx
// wins over a 4xx.
func worst(errs []error) *reply {
	var w *reply
	for _, err := range errs {
		if err == nil {
			continue
		}
		if r := toReply(err); w == nil || r.code >= 500 && w.code < 500 {
			w = r
		}
	}
	return w
}

// okReply is the 250 that names the messages, cut at an ID if it gets too long.
func okReply(ids ...spool.ID) *reply {
	const overhead = len("250 2.0.0 OK ids=") + len(" ...\r\n")
	var b strings.Builder
	b.WriteString("OK ids=")
	room := maxReply - overhead
	for i, id := range ids {
		s := id.String()
		if room -= len(s) + 1; room < 0 {
			b.WriteString(" ...")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s)
	}
	return &reply{code: 250, enhanced: [3]int{2, 0, 0}, text: b.String()}
}

// oneLine returns s as at most limit printable ASCII characters.
func oneLine(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		if c > 0x7f {
			return '?'
		}
		return c
	}, s)
	s = strings.TrimSpace(s)
	return s[:min(len(s), limit)]
}
