package smtpserver

import (
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/spool"
)

// verdicts are what became of each message of a transaction. They are an error
// only as what [transaction.complete] returns.
type verdicts struct {
	entries []*spool.Entry
	errs    []error // one per entry, nil: all stored
}

func (v *verdicts) Error() string { return "smtpserver: the messages have verdicts" }

// outcome is what became of entries: all were stored, or there is an error for
// each, or one for all of them.
func outcome(entries []*spool.Entry, errs []error) error {
	if len(errs) > 0 && len(errs) != len(entries) {
		return errs[0]
	}
	return &verdicts{entries: entries, errs: errs}
}

// answer returns the reply to the content. Under LMTP it tells status about each
// recipient (RFC 2033, section 4.2).
func (tx *transaction) answer(err error, status smtp.StatusCollector) error {
	v, ok := err.(*verdicts)
	if !ok {
		return tx.s.refuse(err) // go-smtp gives it to every recipient
	}
	if status == nil {
		return tx.s.refuse(v.reply())
	}
	v.tell(tx.rcptTo, tx.env, status)
	return nil
}

// reply is the one reply of SMTP. If anything failed, nothing was stored.
func (v *verdicts) reply() *reply {
	if w := worst(v.errs); w != nil {
		return w
	}
	ids := make([]spool.ID, len(v.entries))
	for i, e := range v.entries {
		ids[i] = e.ID
	}
	return okReply(ids...)
}

// tell finds the message of each recipient, and tells status of it.
func (v *verdicts) tell(rcptTo []string, env spool.Envelope, status smtp.StatusCollector) {
	replies := make(map[string][]*reply, len(rcptTo))
	for i, e := range v.entries {
		r := okReply(e.ID)
		if v.errs != nil && v.errs[i] != nil {
			r = toReply(v.errs[i])
		}
		for _, rcpt := range e.Envelope.Recipients {
			replies[rcpt.Address] = append(replies[rcpt.Address], r)
		}
	}
	for i, rcpt := range env.Recipients {
		r := replies[rcpt.Address][0]
		replies[rcpt.Address] = replies[rcpt.Address][1:]
		status.SetStatus(rcptTo[i], r.smtp())
	}
}
