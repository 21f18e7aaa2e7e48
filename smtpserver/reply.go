package smtpserver

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// maxReply is the length of a reply line with its CRLF (RFC 5321, section 4.5.3.1.5).
const maxReply = 512

// maxReplyText is what of that is left for the text, behind the longest codes.
const maxReplyText = maxReply - len("550 5.999.999 \r\n")

// A reply is one reply to the client, and the error that carries it: 250 is an
// error here only because go-smtp wants its text so.
type reply struct {
	code     int
	enhanced [3]int
	text     string
	close    bool // the connection ends behind it
}

func (r *reply) Error() string { return string(r.append(nil)) }

// append appends r as it goes over the wire, without its CRLF.
func (r *reply) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(r.code), 10)
	b = append(b, ' ')
	if r.enhanced != [3]int{} {
		for i, n := range r.enhanced {
			b = strconv.AppendInt(b, int64(n), 10)
			b = append(b, ".. "[i])
		}
	}
	return append(b, r.text...)
}

// line returns r as it goes over the wire.
func (r *reply) line() []byte {
	return append(r.append(make([]byte, 0, 16+len(r.text))), '\r', '\n')
}

// to is r for one recipient of several (LMTP).
func (r *reply) to(addr string) *reply {
	c := *r
	c.text = "<" + oneLine(addr, maxPath) + "> " + r.text
	c.text = c.text[:min(len(c.text), maxReplyText)]
	return &c
}

// smtp returns r as go-smtp wants it. It is never nil.
func (r *reply) smtp() *smtp.SMTPError {
	return &smtp.SMTPError{Code: r.code, EnhancedCode: r.enhanced, Message: r.text}
}

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
// wins over a 4xx. nil stands for a part that did not fail.
func worst(answers []*reply) (w *reply) {
	for _, r := range answers {
		if r != nil && (w == nil || r.code >= 500 && w.code < 500) {
			w = r
		}
	}
	return w
}

// okReply is the 250 that names the messages, cut at an ID if it gets too long.
func okReply(ids ...spool.ID) *reply {
	const overhead, length = len("250 2.0.0 OK ids=") + len(" ...\r\n"), 2 * len(spool.ID{})
	fit := min(len(ids), (maxReply-overhead)/(length+1))
	b := make([]byte, 0, overhead+fit*(length+1))
	b = append(b, "OK ids="...)
	for i, id := range ids[:fit] {
		if i > 0 {
			b = append(b, ' ')
		}
		b = hex.AppendEncode(b, id[:])
	}
	if fit < len(ids) {
		b = append(b, " ..."...)
	}
	return &reply{code: 250, enhanced: [3]int{2, 0, 0}, text: string(b)}
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
