package queue

import (
	"strings"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A BatchFunc splits the recipients of one transaction into messages: each
// element of the result becomes a message with its own ID, and all of them
// share one body. Every recipient must be in exactly one of them, and none may
// be empty. It must not change or retain the envelope, must not block, and is
// called concurrently.
type BatchFunc func(spool.Envelope) [][]spool.Recipient

// PerRecipient makes one message per recipient, in the order in which they
// were sent. A recipient that was sent twice gets two.
func PerRecipient(env spool.Envelope) [][]spool.Recipient {
	batches := make([][]spool.Recipient, 0, len(env.Recipients))
	for _, rcpt := range env.Recipients {
		batches = append(batches, []spool.Recipient{rcpt})
	}
	return batches
}

// PerDomain makes one message per domain, in the order in which the domains
// first appear; inside a message the recipients stand as they were sent.
// Domains are compared without case (RFC 5321, section 2.4). Recipients
// without a domain, such as <postmaster>, go together.
func PerDomain(env spool.Envelope) [][]spool.Recipient {
	var batches [][]spool.Recipient
	index := make(map[string]int)
	for _, rcpt := range env.Recipients {
		domain := domainOf(rcpt.Address)
		i, ok := index[domain]
		if !ok {
			i = len(batches)
			index[domain] = i
			batches = append(batches, nil)
		}
		batches[i] = append(batches[i], rcpt)
	}
	return batches
}

// domainOf returns the domain of an address in lower case, empty if there is
// none.
func domainOf(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	return strings.ToLower(address[at+1:])
}
