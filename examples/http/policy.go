package main

import (
	"context"
	"strings"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A policy sends each message once, as far as that can be: a client that got no answer
// submits a message again, and then there are two with the same key.
type policy struct {
	keys *keys
	send queue.Handler
}

// inject is the callback. It may be called again for the same message, with the same
// ID; another ID with the same key is a repeat.
func (p *policy) inject(ctx context.Context, m *queue.Message) error {
	first, err := p.keys.take(m.Meta["tenant"]+"\x00"+m.Meta[metaKey]+"\x00"+mailbox(m.Envelope.Recipients[0].Address), m.ID.String())
	if err != nil {
		return err // tried again
	}
	if first != m.ID.String() {
		return queue.Drop("a repeat of " + first)
	}
	return p.send(ctx, m)
}

// mailbox is an address by which a repeat is known: only its domain has no case (RFC
// 5321, section 2.4).
func mailbox(address string) string {
	at := strings.LastIndexByte(address, '@')
	return address[:at+1] + strings.ToLower(address[at+1:])
}
