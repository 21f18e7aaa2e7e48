package queue_test

import (
	"fmt"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func ExamplePerDomain() {
	env := spool.Envelope{Recipients: []spool.Recipient{
		{Address: "a@example.com"},
		{Address: "b@example.org"},
		{Address: "c@EXAMPLE.com"},
	}}
	for i, batch := range queue.PerDomain(env) {
		for _, rcpt := range batch {
			fmt.Println("message", i+1, "to", rcpt.Address)
		}
	}
	// Output:
	// message 1 to a@example.com
	// message 1 to c@EXAMPLE.com
	// message 2 to b@example.org
}

func ExamplePerRecipient() {
	env := spool.Envelope{Recipients: []spool.Recipient{{Address: "a@example.com"}, {Address: "c@example.com"}}}
	for i, batch := range queue.PerRecipient(env) {
		fmt.Println("message", i+1, "to", len(batch), "recipient,", batch[0].Address)
	}
	// Output:
	// message 1 to 1 recipient, a@example.com
	// message 2 to 1 recipient, c@example.com
}
