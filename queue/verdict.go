package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A RejectError is the verdict that a message is refused. With a code of class
// 5 the message ends: [Reject] makes one. With a code of class 4 it is a
// transient failure with that code. Any other code is a mistake, and the
// failure is transient with 450 4.0.0, so that no message ends by accident.
//
// Fields must not be changed once the error was returned; until then a
// RejectError is a plain value.
type RejectError struct {
	Code     int    // RFC 5321, section 4.2; 5xx: permanent; 4xx: transient with this code; anything else: transient
	Enhanced [3]int // RFC 3463; zero, or of another class than Code: X.0.0
	Err      error  // the text of the reply and the cause; nil: "rejected"
}

// Error returns the reply: "550 5.7.1 text".
func (e *RejectError) Error() string {
	code, enhanced := e.reply()
	return fmt.Sprintf("%d %d.%d.%d %s", code, enhanced[0], enhanced[1], enhanced[2], e.text())
}

// Unwrap returns Err.
func (e *RejectError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// reply returns the codes that are in force.
func (e *RejectError) reply() (code int, enhanced [3]int) {
	if e == nil || !failureCode(e.Code) {
		return 450, [3]int{4, 0, 0}
	}
	class := e.Code / 100
	if e.Enhanced[0] != class || !validEnhanced(e.Enhanced) {
		return e.Code, [3]int{class, 0, 0}
	}
	return e.Code, e.Enhanced
}

// text returns the text of the reply.
func (e *RejectError) text() string {
	switch {
	case e == nil:
		return "rejected by a nil *RejectError"
	case !failureCode(e.Code):
		return fmt.Sprintf("rejected with code %d, want 400 to 599: %v", e.Code, e.Err)
	case e.Err == nil:
		return "rejected"
	}
	return fmt.Sprint(e.Err)
}

func (e *RejectError) verdict() verdict {
	code, enhanced := e.reply()
	v := verdict{kind: transient, response: respond(code, enhanced, e.text()), said: true}
	if code >= 500 {
		v.kind = reject
	}
	return v
}

// failureCode reports whether code is a negative completion reply (RFC 5321,
// section 4.2.1).
func failureCode(code int) bool { return code >= 400 && code <= 599 }

// Reject returns a [RejectError] with this code and a text formatted as
// [fmt.Errorf] does, %w included. An enhanced status code that leads the text,
// as in "5.7.1 no such key", becomes Enhanced if it is of the class of code,
// and stays text if not. A code that is neither 4xx nor 5xx makes a transient
// failure.
func Reject(code int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	enhanced, rest, ok := cutEnhanced(err.Error())
	if !ok || enhanced[0] != code/100 {
		return &RejectError{Code: code, Err: err}
	}
	return &RejectError{Code: code, Enhanced: enhanced, Err: &textError{text: rest, err: err}}
}

// A textError is an error under another text.
type textError struct {
	text string
	err  error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.err }

// A retryError is the verdict of RetryAfter.
type retryError struct {
	after time.Duration
	err   error
}

// RetryAfter returns the verdict that this attempt failed and that the next
// one is due in d instead of after the backoff. It counts as an attempt. A d
// below a second is a second; one that goes past the end of the message's life
// is cut to it. The code of the record is that of err where err is a 4xx
// verdict, such as [FromSMTP] makes, else 450 4.0.0. A nil err is a failure
// nevertheless.
func RetryAfter(d time.Duration, err error) error {
	return &retryError{after: max(d, time.Second), err: err}
}

func (e *retryError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("retry after %v", e.after)
	}
	return fmt.Sprint(e.err)
}

func (e *retryError) Unwrap() error { return e.err }

func (e *retryError) verdict() verdict {
	v := verdict{kind: transient, after: e.after, response: respond(450, [3]int{4, 0, 0}, e.Error())}
	if inner, ok := errors.AsType[*RejectError](e.err); ok && inner.verdict().kind == transient {
		v.response, v.said = inner.verdict().response, true
	}
	return v
}

// A holdError is the verdict of Hold.
type holdError struct{ reason string }

// Hold returns the verdict that the message is kept, untouched and not
// retried, until an operator releases it. It is recorded as a TransientFailure
// with the reason; attempts do not change, and a held message does not expire.
func Hold(reason string) error { return &holdError{reason} }

func (e *holdError) Error() string { return "hold: " + e.reason }

func (e *holdError) verdict() verdict {
	return verdict{kind: hold, response: respond(450, [3]int{4, 0, 0}, e.Error())}
}

// A dropError is the verdict of Drop.
type dropError struct{ reason string }

// Drop returns the verdict that the message ends without a bounce to its
// sender. It is recorded as an AdminBounce with the reason.
func Drop(reason string) error { return &dropError{reason} }

func (e *dropError) Error() string { return "drop: " + e.reason }

func (e *dropError) verdict() verdict {
	// The codes are those of KumoMTA's AdminBounce.
	return verdict{kind: drop, response: respond(551, [3]int{5, 7, 1}, e.Error())}
}

// A splitError is the verdict of Split.
type splitError struct{ parts []error }

// Split returns a verdict for each recipient, in the order in which the envelope
// was handed in; nil is success. The slice is copied.
//
// Recipients with equal verdicts stay together: those of the same kind with the
// same codes, text and delay. From there on each such group is a message of its
// own, with its own record that names its recipients; all of them become durable
// in one step. The first group that is tried again keeps the ID, else the first
// one that is held, else the first one; the others get new IDs, over the same
// stored body. What is tried again or held is as it was received, and each group
// has its own attempts, due time, LastError and end of life.
//
// What the handler changed and emitted belongs to the recipients that succeeded,
// and becomes durable once, with them; without any it vanishes. In the queue
// [Deferred] that group is rebound by its first recipient and the metadata.
// Their addresses may be changed, but an envelope with another number of
// recipients than was handed in says not who is who. That, like every reason for
// which a success cannot be carried out, makes it a transient failure, while the
// verdicts of the others stand. When the rest is tried again, its handler makes
// its changes, and emits, anew.
//
// Where all verdicts are equal, that is the verdict on the message. A number of
// verdicts other than the number of recipients is a transient failure for all of
// them, a Split inside a Split one for that recipient. A listener without
// DeferredQueue answers the worst verdict for the whole message, see
// [Transaction.Inject].
func Split(verdicts []error) error { return &splitError{parts: slices.Clone(verdicts)} }

func (e *splitError) Error() string {
	worst := worstOf(e.parts)
	return fmt.Sprintf("split %d ways, the worst: %s", len(e.parts), worst.response.Content)
}

func (e *splitError) verdict() verdict {
	return verdict{kind: split, response: worstOf(e.parts).response, parts: slices.Clone(e.parts)}
}

// worstOf returns the verdict that counts most: a rejection before a
// transient failure, and both before what answers 250.
func worstOf(parts []error) verdict {
	worst := classify(nil)
	rank := map[verdictKind]int{success: 0, drop: 1, hold: 2, split: 3, transient: 3, reject: 4}
	for _, err := range parts {
		v := classifyPart(err)
		if rank[v.kind] > rank[worst.kind] {
			worst = v
		}
	}
	return worst
}

// cutEnhanced takes an enhanced status code off the front of text.
func cutEnhanced(text string) (enhanced [3]int, rest string, ok bool) {
	word, rest, _ := strings.Cut(text, " ")
	enhanced, ok = parseEnhanced(word)
	if !ok {
		return [3]int{}, text, false
	}
	return enhanced, strings.TrimLeft(rest, " "), true
}
