package smtpserver

import (
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// toAll is one reply for the whole transaction: under LMTP it is given for each
// recipient (RFC 2033, section 4.2).
func (tx *transaction) toAll(r *reply) []*reply {
	if !tx.r.opts.LMTP {
		return []*reply{r}
	}
	return slices.Repeat([]*reply{r}, len(tx.env.Recipients))
}

// outcome is what the client is told of entries: all were stored, or there is
// an error for each, or one for all of them.
func (tx *transaction) outcome(entries []*spool.Entry, errs []error) []*reply {
	answers := make([]*reply, len(errs))
	for i, err := range errs {
		answers[i] = tx.r.explain(err)
	}
	switch {
	case len(errs) > 0 && len(errs) != len(entries):
		return tx.toAll(answers[0])
	case tx.r.opts.LMTP:
		return tx.perRecipient(entries, answers)
	}
	if w := worst(answers); w != nil { // nothing was stored
		return []*reply{w}
	}
	ids := make([]spool.ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	return []*reply{okReply(ids...)}
}

// perRecipient finds the reply to the message of each recipient. answers is
// empty, or has one for each entry, nil for those that were stored.
func (tx *transaction) perRecipient(entries []*spool.Entry, answers []*reply) []*reply {
	of := make(map[string][]*reply, len(tx.env.Recipients))
	for i, e := range entries {
		r := okReply(e.ID)
		if len(answers) > 0 && answers[i] != nil {
			r = answers[i]
		}
		for _, rcpt := range e.Envelope.Recipients {
			of[rcpt.Address] = append(of[rcpt.Address], r)
		}
	}
	replies := make([]*reply, len(tx.env.Recipients))
	for i, rcpt := range tx.env.Recipients {
		replies[i] = of[rcpt.Address][0]
		of[rcpt.Address] = of[rcpt.Address][1:]
	}
	closeBehind(replies)
	return replies
}

// closeBehind lets the connection end only behind the last reply, if one says that
// a message was stored: that one must be heard.
func closeBehind(replies []*reply) {
	stored := slices.ContainsFunc(replies, func(r *reply) bool { return r.code == 250 })
	closes := slices.ContainsFunc(replies, func(r *reply) bool { return r.close })
	if !stored || !closes {
		return
	}
	for i, r := range replies {
		c := *r
		c.close = i == len(replies)-1
		replies[i] = &c
	}
}
