package dsn

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An Action is what became of a recipient (RFC 3464, section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"    // it will not be delivered
	Delayed   Action = "delayed"   // it has not been, and is tried further on
	Delivered Action = "delivered" // it is in the recipient's mailbox
	Relayed   Action = "relayed"   // it was handed to a host that sends no notices (RFC 3461, section 5.2.2)
	Expanded  Action = "expanded"  // it was delivered to a list, and goes to its members
)

// A Recipient is what a notice says of one recipient.
type Recipient struct {
	Address    string    // to which it was to be delivered, without angle brackets
	ORcpt      string    // the ORCPT parameter: "type;address", decoded; empty: Address stands for itself
	Action     Action    // empty: Failed
	Status     [3]int    // RFC 3463; one of another class than Action asks for is replaced by X.0.0
	Diagnostic string    // the SMTP reply that decided it, "550 5.1.1 no such user"; empty: not known
	RemoteMTA  string    // the host that gave that reply; empty: not known, or our own
	LastTried  time.Time // zero: not known
	RetryUntil time.Time // of Delayed; zero: not known
}

// A Report is the material of a notice about one message.
type Report struct {
	ID       spool.ID       // of the message
	Envelope spool.Envelope // of the message; its Sender is who is told. Its Recipients do not matter
	Arrived  time.Time      // when the message was accepted; zero: not known

	// Recipients are those that the notice is about; the action of the first one is
	// that of all. [Wanted] says who asked to be in it.
	Recipients []Recipient

	// Content is the message. Write reads MaxContent of it at the most, and does
	// not close it. Defaults to nil: the notice then has nothing of the message.
	Content io.Reader

	// ReportingMTA is the name of the host that reports.
	// Defaults to "localhost".
	ReportingMTA string

	// From is the address that the header of the notice names as its author; the
	// envelope's is always empty.
	// Defaults to "MAILER-DAEMON@" and the ReportingMTA.
	From string

	// MaxContent is how much of a message is returned at the most, in bytes. A
	// longer one is cut to its header, and a longer header to its first fields.
	// Defaults to 50 KiB.
	MaxContent int64

	// NoticeID names the notice itself: its Message-ID is made of it.
	// Defaults to a new ID.
	NoticeID spool.ID

	// Date is that of the notice.
	// Defaults to now.
	Date time.Time

	// Text is what people read, ahead of what programs do.
	// Defaults to an English text that names the recipients and the replies.
	Text string

	returned8bit *bool // whether Write has returned 8-bit content; nil: not known
}

const defaultMaxContent = 50 << 10

// withDefaults returns r with its zero fields filled.
func (r *Report) withDefaults() *Report {
	c := *r
	if clean(c.ReportingMTA, true) == "" { // blank is no name either
		c.ReportingMTA = "localhost"
	}
	if c.From == "" {
		c.From = "MAILER-DAEMON@" + c.ReportingMTA
	}
	if c.MaxContent <= 0 {
		c.MaxContent = defaultMaxContent
	}
	if c.NoticeID.IsZero() {
		c.NoticeID = spool.NewID()
	}
	if c.Date.IsZero() {
		c.Date = time.Now()
	}
	c.Recipients = slices.Clone(c.Recipients)
	for i := range c.Recipients {
		c.Recipients[i].Action = c.action()
	}
	return &c
}

// action is what the notice is about.
func (r *Report) action() Action {
	if len(r.Recipients) == 0 || subjects[r.Recipients[0].Action] == "" {
		return Failed
	}
	return r.Recipients[0].Action
}

// utf8 reports whether the notice is an internationalized message: its sender, who
// is told, has an address that needs SMTPUTF8. Nobody else surely understands it.
func (r *Report) utf8() bool { return !isASCII(r.Envelope.Sender) }

// NoticeEnvelope is the envelope of the notice: from nobody, to the sender of the
// message, and never reported itself (RFC 3461, section 6.1). Its Body is 8BITMIME
// for a notice that is not ASCII, which Write finds out: before that, for one that
// may not be.
func (r *Report) NoticeEnvelope() spool.Envelope {
	returned8bit := r.full()
	if r.returned8bit != nil {
		returned8bit = returned8bit && *r.returned8bit
	}
	return spool.Envelope{
		Recipients: []spool.Recipient{{Address: r.Envelope.Sender, Notify: []string{"NEVER"}}},
		SMTPUTF8:   r.utf8(),
		Body:       map[bool]string{true: "8BITMIME"}[r.utf8() || returned8bit],
		RequireTLS: r.Envelope.RequireTLS, // RFC 8689, section 5
	}
}

// Wanted reports whether a recipient is in a notice about that action: as its
// NOTIFY asks, and never for a message from the null reverse-path (RFC 3461,
// sections 4.1 and 6.1; RFC 5321, section 6.1).
func Wanted(env spool.Envelope, rcpt spool.Recipient, action Action) bool {
	if env.Sender == "" {
		return false
	}
	keyword := "SUCCESS"
	switch action {
	case Failed, "":
		keyword = "FAILURE"
	case Delayed:
		keyword = "DELAY"
	}
	if len(rcpt.Notify) == 0 {
		return keyword != "SUCCESS"
	}
	return slices.ContainsFunc(rcpt.Notify, func(s string) bool { return strings.EqualFold(s, keyword) })
}
