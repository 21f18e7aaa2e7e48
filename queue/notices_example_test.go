package queue_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// Senders are told of what fails. The notice comes to the callback like any other
// message, to be signed and routed.
func ExampleNoticeOptions() {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	inject := func(_ context.Context, m *queue.Message) error {
		if about := m.Meta[queue.MetaNotice]; about != "" {
			fmt.Printf("a notice (%s) from <%s> to <%s>\n", about, m.Envelope.Sender, m.Envelope.Recipients[0].Address)
			stop()
			return nil
		}
		return queue.Reject(550, "5.7.1 %s is no customer", m.Envelope.Sender)
	}
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{
		Notices: &queue.NoticeOptions{ReportingMTA: "relay.example", DelayAfter: -1},
		Record:  func(context.Context, queue.Record) error { return nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	env := spool.Envelope{Sender: "ada@example.org", Recipients: []spool.Recipient{{Address: "bob@example.com"}}}
	if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hello\r\n\r\nHello.\r\n")); err != nil {
		log.Fatal(err)
	}
	if err := sched.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: a notice (failed) from <> to <ada@example.org>
}
