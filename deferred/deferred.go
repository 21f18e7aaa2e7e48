package deferred

import (
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
)

// What a host and its policy need, under one import. The documentation of each
// is that of the package where it stands.
type (
	// Options configure a Listener: [smtpserver.Options].
	Options = smtpserver.Options

	// A Listener receives mail by SMTP or LMTP: [smtpserver.Listener].
	Listener = smtpserver.Listener

	// A Session is one connection, as hooks see it: [smtpserver.Session].
	Session = smtpserver.Session

	// A Handler works on one message: [queue.Handler].
	Handler = queue.Handler

	// A Message is a handler's working copy of a queued message: [queue.Message].
	Message = queue.Message

	// A Header is the header section of a Message: [queue.Header].
	Header = queue.Header

	// A RejectError is the verdict that Reject makes: [queue.RejectError].
	RejectError = queue.RejectError

	// An Envelope is what MAIL FROM and RCPT TO said: [spool.Envelope].
	Envelope = spool.Envelope

	// A Recipient is one RCPT TO: [spool.Recipient].
	Recipient = spool.Recipient

	// An ID names a message for good: [spool.ID].
	ID = spool.ID
)

// Queue is the name of the queue in which messages wait for the inject callback.
const Queue = queue.Deferred

// ErrServerClosed is what [Listener.Serve] and [Listener.ListenAndServe] return
// after Shutdown or Close, and what [Run] returns when the host has closed all
// of its listeners.
var ErrServerClosed = smtpserver.ErrServerClosed

// NewListener returns a Listener that hands what it accepts to s. It checks
// opts, which may be nil, and opens nothing. With nil opts DeferredQueue is
// false: the callback runs before the reply. Run serves the Listener and runs s.
func NewListener(s *queue.Scheduler, opts *Options) (*Listener, error) {
	return smtpserver.NewListener(s, opts)
}

// Reject returns the verdict that the message is refused with this code (RFC
// 5321, section 4.2) and a text formatted as fmt.Errorf does, %w included. A 5xx
// code ends the message with a Bounce record; any other is a transient failure.
// An enhanced status code (RFC 3463) may lead the text: "5.7.1 no such key".
func Reject(code int, format string, args ...any) error { return queue.Reject(code, format, args...) }

// RetryAfter returns the verdict that this attempt failed and that the next one
// is due in d instead of after the backoff. It counts as an attempt. A nil err
// is a failure nevertheless.
func RetryAfter(d time.Duration, err error) error { return queue.RetryAfter(d, err) }

// Hold returns the verdict that the message is kept, untouched and not retried,
// until an operator releases it. It does not count as an attempt.
func Hold(reason string) error { return queue.Hold(reason) }

// Drop returns the verdict that the message ends without a bounce to its sender.
// It is recorded as an AdminBounce with the reason.
func Drop(reason string) error { return queue.Drop(reason) }

// Split returns a verdict for each recipient, in the order in which the envelope
// was handed in; nil is success. The slice is copied. From there on recipients
// with equal verdicts are a message of their own.
func Split(verdicts []error) error { return queue.Split(verdicts) }

// FromSMTP takes a peer's reply, a *smtp.SMTPError or a *textproto.Error, for
// the verdict: 5xx rejects, except for the codes that blame us and not the
// message. Without it every error of a peer is a transient failure.
func FromSMTP(err error) error { return queue.FromSMTP(err) }
