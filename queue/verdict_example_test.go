package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func ExampleReject() {
	errNoKey := errors.New("no key for example.com")

	err := queue.Reject(550, "5.7.20 cannot sign: %w", errNoKey)

	fmt.Println(err)
	fmt.Println(errors.Is(err, errNoKey))
	// Output:
	// 550 5.7.20 cannot sign: no key for example.com
	// true
}

func ExampleRetryAfter() {
	err := queue.RetryAfter(15*time.Minute, errors.New("greylisted"))
	fmt.Println(err)
	// Output: greylisted
}

func ExampleHold() {
	fmt.Println(queue.Hold("attachment waits for review"))
	// Output: hold: attachment waits for review
}

func ExampleDrop() {
	fmt.Println(queue.Drop("recipient unsubscribed"))
	// Output: drop: recipient unsubscribed
}

// A message for three recipients, of whom each fares differently. What is tried
// again keeps the ID.
func ExampleSplit() {
	inject := func(ctx context.Context, m *queue.Message) error {
		return queue.Split([]error{
			nil,
			queue.Reject(550, "5.1.1 no such user"),
			queue.RetryAfter(time.Hour, errors.New("mailbox is locked")),
		})
	}
	records := make(chan queue.Record, 4)
	record := func(ctx context.Context, r queue.Record) error {
		if r.Type != queue.Reception {
			records <- r
		}
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: record})
	if err != nil {
		fmt.Println(err)
		return
	}
	t, err := s.Begin(context.Background(), 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Abort()
	if _, err := t.Write([]byte("Subject: hello\r\n\r\nHi\r\n")); err != nil {
		fmt.Println(err)
		return
	}
	e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Sender: "news@example.org", Recipients: []spool.Recipient{
		{Address: "ann@example.com"}, {Address: "bob@example.com"}, {Address: "cid@example.com"},
	}}}
	if err := t.Commit(context.Background(), e); err != nil {
		fmt.Println(err)
		return
	}
	t.HandOver()
	run(s, records, 3, func(r queue.Record) {
		fmt.Println(r.Type, r.Recipients, r.Response.Content, r.ID == e.ID)
	})
	// Output:
	// Delivery [ann@example.com] OK false
	// TransientFailure [cid@example.com] mailbox is locked true
	// Bounce [bob@example.com] no such user false
}

// A peer's 5xx is a verdict on the message only where the host says so, and
// never where the code speaks of the host.
func ExampleFromSMTP() {
	noUser := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	badPassword := &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "bad credentials"}

	for _, err := range []error{noUser, badPassword} {
		var rejected *queue.RejectError
		fmt.Println(errors.As(queue.FromSMTP(err), &rejected))
	}
	// Output:
	// true
	// false
}

// What stands around a handler can tell what its result means.
func ExampleResultOf() {
	for _, err := range []error{nil, queue.Reject(550, "5.1.1 no such user"), errors.New("database is down"), queue.Drop("spam")} {
		t, reply := queue.ResultOf(err)
		fmt.Println(t, reply.Code, reply.Content)
	}
	// Output:
	// Delivery 250 OK
	// Bounce 550 no such user
	// TransientFailure 450 database is down
	// AdminBounce 551 drop: spam
}
