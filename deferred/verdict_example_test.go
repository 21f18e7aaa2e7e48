package deferred_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// judge prints what is recorded of a message of which a callback says this.
func judge(verdict error, rcpts ...string) {
	env := spool.Envelope{Sender: "ada@example.org"}
	for _, r := range rcpts {
		env.Recipients = append(env.Recipients, spool.Recipient{Address: r})
	}
	inject := func(context.Context, *deferred.Message) error { return verdict }
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: func(context.Context, queue.Record) error { return nil }})
	if err != nil {
		log.Fatal(err)
	}
	outcomes := make(chan queue.Record, len(rcpts))
	err = sched.Observe(func(r queue.Record) {
		if r.Type != queue.Reception {
			outcomes <- r
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t, err := sched.Begin(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer t.Abort()
	if _, err := io.WriteString(t, "Subject: hello\r\n\r\nHi\r\n"); err != nil {
		log.Fatal(err)
	}
	if err := t.Commit(ctx, &spool.Entry{ID: spool.NewID(), Envelope: env}); err != nil {
		log.Fatal(err)
	}
	t.HandOver()
	ran := make(chan error)
	go func() { ran <- sched.Run(ctx) }()
	for range rcpts {
		r := <-outcomes
		fmt.Println(r.Type, r.Recipients, r.Response.Code, r.Response.Content)
	}
	stop()
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
}

// The sender did nothing wrong, and the time to come again is known.
func ExampleRetryAfter() {
	judge(deferred.RetryAfter(15*time.Minute, errors.New("the database is down")), "bob@example.com")
	// Output: TransientFailure [bob@example.com] 450 the database is down
}

// A message that a person is to look at stays, until an operator releases it.
func ExampleHold() {
	judge(deferred.Hold("attachment waits for review"), "bob@example.com")
	// Output: TransientFailure [bob@example.com] 450 hold: attachment waits for review
}

// A message that ends without a word to its sender leaves a record.
func ExampleDrop() {
	judge(deferred.Drop("recipient unsubscribed"), "bob@example.com")
	// Output: AdminBounce [bob@example.com] 551 drop: recipient unsubscribed
}

// One verdict for each recipient, in their order.
func ExampleSplit() {
	judge(deferred.Split([]error{
		deferred.Drop("recipient unsubscribed"),
		deferred.Reject(550, "5.1.1 no such user"),
	}), "ann@example.com", "bob@example.com")
	// Unordered output:
	// AdminBounce [ann@example.com] 551 drop: recipient unsubscribed
	// Bounce [bob@example.com] 550 no such user
}

// What go-smtp's client returned is a verdict only if the host says so: a 5xx bounces.
func ExampleFromSMTP() {
	err := fmt.Errorf("to mx.example.com: %w", &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"})
	judge(err, "bob@example.com")
	judge(deferred.FromSMTP(err), "bob@example.com")
	// Output:
	// TransientFailure [bob@example.com] 450 to mx.example.com: SMTP error 550: no such user
	// Bounce [bob@example.com] 550 no such user
}
