package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

// nastyError has methods that panic, as those of a typed nil pointer do.
type nastyError struct{ text *string }

func (e *nastyError) Error() string { return *e.text }
func (e *nastyError) Unwrap() error { return errors.New(*e.text) }

func TestClassify(t *testing.T) {
	cause := errors.New("cause")
	long := strings.Repeat("x", 5000)
	tests := []struct {
		name    string
		err     error
		kind    verdictKind
		reply   string
		content string
		after   time.Duration
	}{
		{"nil", nil, success, "250 2.0.0", "OK", 0},
		{"any error", cause, transient, "450 4.0.0", "cause", 0},
		{"context", context.DeadlineExceeded, transient, "450 4.0.0", "context deadline exceeded", 0},
		{"several lines", errors.New("a\r\nb\tc\u2028d\x00"), transient, "450 4.0.0", "a b c d", 0},
		{"not UTF-8", errors.New("a\xffb"), transient, "450 4.0.0", "a\uFFFDb", 0},
		{"long, cut inside a character", errors.New(strings.Repeat("\u20ac", 400)), transient, "450 4.0.0", strings.Repeat("\u20ac", 340) + "...", 0},
		{"endless", errors.New(strings.Repeat(long, 1000)), transient, "450 4.0.0", long[:1021] + "...", 0},
		{"long", errors.New(long), transient, "450 4.0.0", long[:1021] + "...", 0},

		{"reject", Reject(550, "no"), reject, "550 5.0.0", "no", 0},
		{"reject, enhanced", Reject(554, "5.7.1 no key"), reject, "554 5.7.1", "no key", 0},
		{"reject, enhanced by an argument", Reject(554, "%s", "5.7.1 no key"), reject, "554 5.7.1", "no key", 0},
		{"reject, enhanced alone", Reject(554, "5.7.1"), reject, "554 5.7.1", "", 0},
		{"reject, enhanced of another class", Reject(550, "4.7.1 no"), reject, "550 5.0.0", "4.7.1 no", 0},
		{"reject, no class of codes", Reject(550, "3.7.1 no"), reject, "550 5.0.0", "3.7.1 no", 0},
		{"reject, not enhanced", Reject(550, "5.7 no"), reject, "550 5.0.0", "5.7 no", 0},
		{"reject 4xx", Reject(421, "4.3.2 later"), transient, "421 4.3.2", "later", 0},
		{"reject 250", Reject(250, "2.0.0 fine"), transient, "450 4.0.0", "rejected with code 250, want 400 to 599: fine", 0},
		{"reject 600", Reject(600, "no"), transient, "450 4.0.0", "rejected with code 600, want 400 to 599: no", 0},
		{"reject -550", Reject(-550, "no"), transient, "450 4.0.0", "rejected with code -550, want 400 to 599: no", 0},
		{"reject, zero value", &RejectError{}, transient, "450 4.0.0", "rejected with code 0, want 400 to 599: <nil>", 0},
		{"reject, typed nil", (*RejectError)(nil), transient, "450 4.0.0", "rejected by a nil *RejectError", 0},
		{"reject, no text", &RejectError{Code: 550}, reject, "550 5.0.0", "rejected", 0},
		{"reject, enhanced out of range", &RejectError{Code: 550, Enhanced: [3]int{5, 1000, 1}, Err: cause}, reject, "550 5.0.0", "cause", 0},
		{"reject, no enhanced", &RejectError{Code: 550, Enhanced: [3]int{-1, -1, -1}, Err: cause}, reject, "550 5.0.0", "cause", 0},
		{"reject, enhanced of the wrong class", &RejectError{Code: 450, Enhanced: [3]int{5, 1, 1}, Err: cause}, transient, "450 4.0.0", "cause", 0},

		{"retry", RetryAfter(time.Minute, cause), transient, "450 4.0.0", "cause", time.Minute},
		{"retry at once", RetryAfter(0, cause), transient, "450 4.0.0", "cause", time.Second},
		{"retry in the past", RetryAfter(-time.Hour, cause), transient, "450 4.0.0", "cause", time.Second},
		{"retry without a cause", RetryAfter(time.Hour, nil), transient, "450 4.0.0", "retry after 1h0m0s", time.Hour},
		{"retry of a 4xx", RetryAfter(time.Hour, Reject(451, "4.7.1 grey")), transient, "451 4.7.1", "grey", time.Hour},
		{"retry of a 5xx", RetryAfter(time.Hour, Reject(550, "5.7.1 no")), transient, "450 4.0.0", "550 5.7.1 no", time.Hour},
		{"hold", Hold("legal"), hold, "450 4.0.0", "hold: legal", 0},
		{"drop", Drop("spam"), drop, "551 5.7.1", "drop: spam", 0},

		{"split", Split([]error{nil, Reject(550, "no"), cause}), split, "550 5.0.0", "no", 0},
		{"split, all well", Split([]error{nil, nil}), split, "250 2.0.0", "OK", 0},
		{"split, none", Split(nil), split, "250 2.0.0", "OK", 0},
		{"split, first of the worst", Split([]error{Hold("h"), cause, io.EOF, Drop("d")}), split, "450 4.0.0", "cause", 0},
		{"split, hold over drop", Split([]error{Drop("d"), Hold("h"), nil}), split, "450 4.0.0", "hold: h", 0},
		{"split in a split", Split([]error{Split([]error{Reject(550, "no")})}), split, "450 4.0.0", "a Split inside a Split is no verdict: no", 0},

		{"wrapped", fmt.Errorf("sign: %w", Reject(550, "no key")), reject, "550 5.0.0", "no key", 0},
		{"outermost wins", &RejectError{Code: 550, Err: Hold("h")}, reject, "550 5.0.0", "hold: h", 0},
		{"outermost wins, the other way", RetryAfter(time.Hour, Drop("d")), transient, "450 4.0.0", "drop: d", time.Hour},
		{"joined, the first", errors.Join(cause, Hold("h"), Reject(550, "no")), hold, "450 4.0.0", "hold: h", 0},
		{"joined, depth first", errors.Join(fmt.Errorf("a: %w", errors.Join(cause, Drop("d"))), Hold("h")), drop, "551 5.7.1", "drop: d", 0},

		{"bare reply", &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no"}, transient, "450 4.0.0", "SMTP error 550: no", 0},
		{"bare textproto reply", &textproto.Error{Code: 550, Msg: "no"}, transient, "450 4.0.0", `550 "no"`, 0},
		{"panics", &nastyError{}, transient, "450 4.0.0", "a method of the error panicked: runtime error: invalid memory address or nil pointer dereference", 0},
		{"typed nil", (*nastyError)(nil), transient, "450 4.0.0", "a method of the error panicked: runtime error: invalid memory address or nil pointer dereference", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := classify(tt.err)
			r := v.response
			reply := fmt.Sprintf("%d %d.%d.%d", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
			if v.kind != tt.kind || reply != tt.reply || r.Content != tt.content || v.after != tt.after {
				t.Errorf("kind %d, reply %q, content %q, after %v\nwant %d, %q, %q, %v",
					v.kind, reply, r.Content, v.after, tt.kind, tt.reply, tt.content, tt.after)
			}
			if v.err != tt.err {
				t.Errorf("err is not what the handler returned")
			}
		})
	}
}

func TestRejectError(t *testing.T) {
	cause := errors.New("cause")
	err := Reject(550, "5.7.1 key: %w", cause)
	if got, want := err.Error(), "550 5.7.1 key: cause"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause given with percent w is not wrapped")
	}
	var rejected *RejectError
	if !errors.As(err, &rejected) || rejected.Code != 550 || rejected.Enhanced != [3]int{5, 7, 1} {
		t.Errorf("got %#v, want a *RejectError with code 550 and 5.7.1", rejected)
	}
	if err := (*RejectError)(nil).Unwrap(); err != nil {
		t.Errorf("Unwrap of a nil *RejectError is %v", err)
	}
}

func TestRetryAfterWraps(t *testing.T) {
	if !errors.Is(RetryAfter(time.Minute, io.EOF), io.EOF) {
		t.Error("the cause is not wrapped")
	}
}

func TestSplitCopies(t *testing.T) {
	verdicts := []error{nil, io.EOF}
	err := Split(verdicts)
	verdicts[1] = Drop("changed later")
	v := classify(err)
	if len(v.parts) != 2 || v.parts[1] != io.EOF {
		t.Errorf("parts = %v, want those given to Split", v.parts)
	}
	if got, want := err.Error(), "split 2 ways, the worst: EOF"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestFromSMTP(t *testing.T) {
	reply := func(code int, text string) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: text}
	}
	tests := []struct {
		name string
		err  error
		kind verdictKind
		want string // the reply
	}{
		{"5xx", reply(550, "no such user"), reject, "550 5.1.1 no such user"},
		{"4xx", reply(421, "busy"), transient, "421 4.1.1 busy"},
		{"wrapped", fmt.Errorf("relay: %w", reply(554, "no")), reject, "554 5.1.1 no"},
		{"textproto", &textproto.Error{Code: 550, Msg: "5.7.1 a\n5.7.1 b"}, reject, "550 5.7.1 a b"},
		{"textproto without enhanced code", &textproto.Error{Code: 550, Msg: "no"}, reject, "550 5.0.0 no"},
		{"no enhanced code", &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no"}, reject, "550 5.0.0 no"},
		{"250", reply(250, "odd"), transient, "450 4.0.0 SMTP error 250: odd"},
		{"0", reply(0, "odd"), transient, "450 4.0.0 SMTP error 000: odd"},
		{"600", reply(600, "odd"), transient, "450 4.0.0 SMTP error 600: odd"},
		{"not a reply", io.ErrUnexpectedEOF, transient, "450 4.0.0 unexpected EOF"},
		{"nil reply", (*smtp.SMTPError)(nil), transient, "450 4.0.0 <nil>"},
		{"nil textproto reply", (*textproto.Error)(nil), transient, "450 4.0.0 <nil>"},
		{"verdict inside", RetryAfter(time.Hour, reply(550, "no")), transient, "450 4.0.0 SMTP error 550: no"},
		{"verdict itself", Hold("h"), hold, "450 4.0.0 hold: h"},
		{"twice", FromSMTP(reply(550, "no")), reject, "550 5.1.1 no"},
		{"all reject", smtp.LMTPDataError{"a": {Code: 550, Message: "a"}, "b": {Code: 551, Message: "b"}}, reject, "550 5.0.0 a"},
		{"one is temporary", smtp.LMTPDataError{"a": {Code: 550, Message: "a"}, "b": {Code: 451, Message: "b"}}, transient, "451 4.0.0 b"},
		{"one blames us", errors.Join(reply(550, "a"), reply(535, "b")), transient, "450 4.0.0 SMTP error 550: a SMTP error 535: b"},
	}
	for _, code := range []int{502, 503, 504, 530, 534, 535, 538} {
		tests = append(tests, struct {
			name string
			err  error
			kind verdictKind
			want string
		}{fmt.Sprint(code), reply(code, "us"), transient, fmt.Sprintf("450 4.0.0 SMTP error %d: us", code)})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := FromSMTP(tt.err)
			v := classify(err)
			r := v.response
			got := fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Content)
			if v.kind != tt.kind || got != tt.want {
				t.Errorf("kind %d, %q\nwant %d, %q", v.kind, got, tt.kind, tt.want)
			}
			if !inTree(err, tt.err) {
				t.Error("the peer's error is not wrapped")
			}
		})
	}
	if err := FromSMTP(nil); err != nil {
		t.Errorf("FromSMTP(nil) = %v, want nil", err)
	}
}

// inTree is errors.Is for errors that cannot be compared, such as maps.
func inTree(err, target error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if fmt.Sprintf("%T %v", err, err) == fmt.Sprintf("%T %v", target, target) {
			return true
		}
	}
	return false
}

func FuzzReject(f *testing.F) {
	f.Add(550, "5.7.1 no")
	f.Add(0, "\r\n.\r\n")
	f.Add(421, "4.999.1000 x")
	f.Add(-550, strings.Repeat("\u00e9", 600))
	f.Fuzz(func(t *testing.T, code int, text string) {
		for _, err := range []error{
			Reject(code, "%s", text),
			FromSMTP(&textproto.Error{Code: code, Msg: text}),
			FromSMTP(&smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, code, 1}, Message: text}),
			errors.New(text),
		} {
			v := classify(err)
			r := v.response
			if v.kind != transient && v.kind != reject {
				t.Fatalf("kind %d of a failure", v.kind)
			}
			if (v.kind == reject) != (r.Code >= 500) || !failureCode(r.Code) || r.Enhanced[0] != r.Code/100 || !validEnhanced(r.Enhanced) {
				t.Fatalf("kind %d with %d %v", v.kind, r.Code, r.Enhanced)
			}
			if v.kind == reject && (code < 500 || code > 599) {
				t.Fatalf("code %d rejects", code)
			}
			if len(r.Content) > maxContent || !utf8.ValidString(r.Content) || strings.ContainsAny(r.Content, "\r\n\x00") {
				t.Fatalf("content %q is not one line of at most %d bytes", r.Content, maxContent)
			}
		}
	})
}
