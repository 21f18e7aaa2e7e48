package queue

import (
	"errors"
	"net/textproto"
	"strings"

	"github.com/emersion/go-smtp"
)

// FromSMTP takes a peer's reply for the verdict: a *smtp.SMTPError or a
// *textproto.Error, wrapped or not. A 5xx reply rejects, except the codes that
// blame us and not the message: 502, 503 and 504 (RFC 5321, section 4.2.2),
// 530, 534, 535 and 538 (RFC 4954, section 6). These, like an error without a
// reply, are transient failures; a 4xx reply is one with its own code.
//
// An error that joins several replies, such as smtp.LMTPDataError, rejects
// only if every one of them does: [Split] tells the recipients apart. An error
// that holds a verdict already is returned as it is, and so is nil.
func FromSMTP(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[explicitVerdict](err); ok {
		return err
	}
	var verdict *RejectError
	for _, r := range replies(err, nil) {
		if !failureCode(r.Code) || blamesUs(r.Code) {
			return err
		}
		if verdict == nil || r.Code < 500 && verdict.Code >= 500 {
			verdict = &RejectError{Code: r.Code, Enhanced: r.EnhancedCode, Err: &textError{text: r.Message, err: err}}
		}
	}
	if verdict == nil {
		return err
	}
	return verdict
}

// blamesUs reports whether a code says that we did wrong: an unknown command
// or order, or credentials.
func blamesUs(code int) bool {
	switch code {
	case 502, 503, 504, 530, 534, 535, 538:
		return true
	}
	return false
}

// replies appends every reply in err's tree to found.
func replies(err error, found []smtp.SMTPError) []smtp.SMTPError {
	switch e := err.(type) {
	case *smtp.SMTPError:
		if e != nil {
			found = append(found, reply(e.Code, e.EnhancedCode, e.Message))
		}
		return found
	case *textproto.Error:
		if e != nil {
			found = append(found, reply(e.Code, smtp.EnhancedCodeNotSet, e.Msg))
		}
		return found
	case interface{ Unwrap() error }:
		return replies(e.Unwrap(), found)
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			found = replies(part, found)
		}
	}
	return found
}

// reply returns a reply with the enhanced code apart from the text: a server
// repeats it on each line (RFC 2034, section 4).
func reply(code int, enhanced smtp.EnhancedCode, text string) smtp.SMTPError {
	if first, rest, ok := cutEnhanced(text); ok && !validEnhanced(enhanced) {
		prefix := strings.TrimSuffix(text, rest)
		enhanced, text = first, strings.ReplaceAll(rest, "\n"+prefix, "\n")
	}
	return smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}
