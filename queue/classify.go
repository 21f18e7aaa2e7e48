package queue

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A verdictKind is what becomes of a message.
type verdictKind uint8

const (
	success verdictKind = iota
	transient
	reject
	hold
	drop
	split
)

// A verdict is what a handler's error says.
type verdict struct {
	kind     verdictKind
	response Response      // what a record says
	said     bool          // the response is a RejectError's, which the sender may read
	after    time.Duration // RetryAfter: at least a second; 0: the backoff decides
	err      error         // as the handler returned it
	parts    []error       // Split
}

// An explicitVerdict is an error made by one of the constructors.
type explicitVerdict interface {
	error
	verdict() verdict
}

// classify returns the verdict of err. The outermost one wins: err itself,
// then what it wraps, depth first, as errors.As goes. Without one in it, err
// is a transient failure. It does not panic, whatever err's methods do.
func classify(err error) (v verdict) {
	if err == nil {
		return verdict{kind: success, response: Response{Code: 250, Enhanced: [3]int{2, 0, 0}, Content: "OK"}}
	}
	defer func() {
		if p := recover(); p != nil {
			v = unknown(fmt.Sprintf("a method of the error panicked: %v", p))
		}
		v.err = err
	}()
	if explicit, ok := errors.AsType[explicitVerdict](err); ok {
		return explicit.verdict()
	}
	return unknown(fmt.Sprint(err)) // unlike Error, Sprint contains panics
}

// ResultOf says what a handler's result means: the type of the record that follows,
// and its reply. It is for what stands around a handler, such as logs and traces. An
// Expiration it does not know: the Scheduler alone knows how old a message is; and a
// Split is its worst verdict.
func ResultOf(err error) (RecordType, Response) {
	v := classify(err)
	if v.kind == split {
		v = worstOf(v.parts)
	}
	switch v.kind {
	case success:
		return Delivery, v.response
	case reject:
		return Bounce, v.response
	case drop:
		return AdminBounce, v.response
	}
	return TransientFailure, v.response
}

// classifyPart is classify for one recipient of a Split.
func classifyPart(err error) verdict {
	v := classify(err)
	if v.kind == split {
		v = unknown("a Split inside a Split is no verdict: " + v.response.Content)
		v.err = err
	}
	return v
}

// unknown is the verdict of an error that is none.
func unknown(text string) verdict {
	return verdict{kind: transient, response: respond(450, [3]int{4, 0, 0}, text)}
}

// respond returns a Response whose content is one line.
func respond(code int, enhanced [3]int, content string) Response {
	return Response{Code: code, Enhanced: enhanced, Content: oneLine(content)}
}

const maxContent = 1024 // bytes of a response's content

// oneLine returns text as one line of valid UTF-8 of at most maxContent bytes:
// white space and control characters become single spaces.
func oneLine(text string) string {
	if len(text) > 8*maxContent {
		text = text[:8*maxContent] // what the rest of this function is worth
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029'
	}), " ")
	if len(text) <= maxContent {
		return text
	}
	const mark = "..."
	n := maxContent - len(mark)
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + mark
}

// parseEnhanced reads an enhanced status code (RFC 3463, section 2).
func parseEnhanced(s string) (enhanced [3]int, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != len(enhanced) {
		return [3]int{}, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return [3]int{}, false
		}
		enhanced[i] = int(n)
	}
	if !validEnhanced(enhanced) {
		return [3]int{}, false
	}
	return enhanced, true
}

// validEnhanced reports whether the numbers are those of an enhanced status
// code (RFC 3463, section 2).
func validEnhanced(e [3]int) bool {
	return (e[0] == 2 || e[0] == 4 || e[0] == 5) && e[1] >= 0 && e[1] <= 999 && e[2] >= 0 && e[2] <= 999
}
