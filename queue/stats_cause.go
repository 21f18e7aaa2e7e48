package queue

import (
	"errors"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A RetryCause says why a message is tried again, see [Stats].
type RetryCause string

// The causes of retries. The first one that fits counts.
const (
	RetryInterrupted RetryCause = "interrupted" // processes died while its handler may have run
	RetryRouting     RetryCause = "routing"     // no handler for the queue that it, or what it emitted, was bound for
	RetryInvalid     RetryCause = "invalid"     // the handler left what cannot be carried out, such as a Split of a wrong length
	RetryPanic       RetryCause = "panic"       // the handler panicked
	RetryExited      RetryCause = "exited"      // the handler ended its goroutine
	RetryDeadline    RetryCause = "deadline"    // the handler's deadline passed
	RetryReply4xx    RetryCause = "reply_4xx"   // a peer's reply, or Reject with a code of class 4
	RetryReply5xx    RetryCause = "reply_5xx"   // a peer's reply that is no verdict: it was not passed to FromSMTP, or blames us
	RetrySpool       RetryCause = "spool"       // the spool could not read or store what the handler worked on
	RetryAsked       RetryCause = "retry_after" // RetryAfter, for none of the reasons above
	RetryOther       RetryCause = "other"       // any other error
)

var retryCauses = [...]RetryCause{
	RetryInterrupted, RetryRouting, RetryInvalid, RetryPanic, RetryExited, RetryDeadline,
	RetryReply4xx, RetryReply5xx, RetrySpool, RetryAsked, RetryOther,
}

// A causeError is a failure that the Scheduler found itself, with its cause.
type causeError struct {
	cause RetryCause
	err   error
}

func (e *causeError) Error() string { return e.err.Error() }
func (e *causeError) Unwrap() error { return e.err }

// causeOf returns the cause of a transient failure. The methods of the error are
// the host's, and may panic.
func causeOf(v verdict) (cause RetryCause) {
	defer func() {
		if recover() != nil {
			cause = RetryOther
		}
	}()
	if own, ok := errors.AsType[*causeError](v.err); ok {
		return own.cause
	}
	if _, ok := errors.AsType[*panicError](v.err); ok {
		return RetryPanic
	}
	switch {
	case errors.Is(v.err, errExited):
		return RetryExited
	case errors.Is(v.err, ErrDeadline):
		return RetryDeadline
	}
	if class := replyClass(v.err); class == 4 {
		return RetryReply4xx
	} else if class == 5 {
		return RetryReply5xx
	}
	if ofSpool(v.err) {
		return RetrySpool
	}
	if _, ok := errors.AsType[*retryError](v.err); ok {
		return RetryAsked
	}
	if _, ok := errors.AsType[*splitError](v.err); ok { // inside of another one
		return RetryInvalid
	}
	return RetryOther
}

// replyClass returns the class of the first reply in err's tree, 0 without one.
func replyClass(err error) int {
	if r, ok := errors.AsType[*RejectError](err); ok {
		code, _ := r.reply()
		return code / 100
	}
	for _, r := range replies(err, nil) {
		if failureCode(r.Code) {
			return r.Code / 100
		}
	}
	return 0
}

// ofSpool reports whether an error of package spool is in err's tree.
func ofSpool(err error) bool {
	for _, target := range []error{
		spool.ErrNotFound, spool.ErrExists, spool.ErrFenced, spool.ErrTooLarge,
		spool.ErrFull, spool.ErrBusy, spool.ErrAmbiguous, spool.ErrFailed, spool.ErrClosed,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	_, corrupt := errors.AsType[*spool.CorruptError](err)
	return corrupt
}
