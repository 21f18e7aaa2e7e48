package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// received begins a Transaction on s that has content.
func received(s *queue.Scheduler) *queue.Transaction {
	t, err := s.Begin(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(t, "Subject: hello\r\n\r\nHi.\r\n"); err != nil {
		log.Fatal(err)
	}
	return t
}

// beside runs s while f does something.
func beside(s *queue.Scheduler, f func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	f(ctx)
	stop()
	if err := <-ran; err != nil {
		log.Fatal(err)
	}
}

func entryTo(address string) *spool.Entry {
	return &spool.Entry{ID: spool.NewID(), Envelope: toOne(address)}
}

// What is stored but was not answered with success is taken back: here the client is gone.
func ExampleTransaction_Revoke() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	answer := func() error { return errors.New("connection reset by peer") }

	ctx, t := context.Background(), received(s)
	defer t.Abort()
	if err := t.Commit(ctx, entryTo("bob@example.com")); err != nil {
		log.Fatal(err) // it is not accepted, and nothing is stored
	}
	if err := answer(); err == nil {
		t.HandOver()
	} else if err := t.Revoke(ctx); err != nil {
		fmt.Println(err) // it is injected all the same
	}
	fmt.Println(s.Stats().Scheduled, "queued")
	// Output: 0 queued
}

// HandOver lets the scheduler have the messages once their sender has its answer.
func ExampleTransaction_HandOver() {
	inject := func(context.Context, *queue.Message) error {
		fmt.Println("inject")
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	ended := routed(s, 1)
	beside(s, func(ctx context.Context) {
		t := received(s)
		defer t.Abort()
		if err := t.Commit(ctx, entryTo("bob@example.com")); err != nil {
			log.Fatal(err)
		}
		fmt.Println("250 2.0.0 OK")
		t.HandOver()
		<-ended
	})
	// Output:
	// 250 2.0.0 OK
	// inject
}

// Keep promises less than Commit: a message that ends with its callback is never stored.
func ExampleTransaction_Keep() {
	inject := func(context.Context, *queue.Message) error { return queue.Drop("seen") }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan queue.Record, 2)
	if err := s.Observe(func(r queue.Record) { ended <- queue.Record{Type: r.Type} }); err != nil {
		log.Fatal(err)
	}
	beside(s, func(ctx context.Context) {
		t := received(s)
		defer t.Abort()
		if err := t.Keep(ctx, entryTo("bob@example.com")); err != nil {
			log.Fatal(err)
		}
		t.HandOver()
		fmt.Println((<-ended).Type)
		fmt.Println((<-ended).Type)
	})
	// Output:
	// Reception
	// AdminBounce
}

// Without a deferred queue the callback decides what the sender is told.
func ExampleTransaction_Inject() {
	inject := func(_ context.Context, m *queue.Message) error {
		if m.Envelope.Recipients[0].Address == "nobody@example.com" {
			return queue.Reject(550, "5.1.1 nobody here")
		}
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	accept := func(ctx context.Context, rcpt string) error {
		t := received(s)
		defer t.Abort()
		if errs := t.Inject(ctx, false, entryTo(rcpt)); errs != nil {
			return errs[0]
		}
		t.HandOver() // with the 250
		return nil
	}
	beside(s, func(ctx context.Context) {
		for _, rcpt := range []string{"bob@example.com", "nobody@example.com"} {
			fmt.Println(rcpt, accept(ctx, rcpt))
		}
	})
	// Output:
	// bob@example.com <nil>
	// nobody@example.com 550 5.1.1 nobody here
}

// The body may be looked at before it is accepted.
func ExampleTransaction_Open() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	t := received(s)
	defer t.Abort()
	body, err := t.Open()
	if err != nil {
		log.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Printf("%q %v\n", text, err)
	// Output: "Subject: hello\r\n\r\nHi.\r\n" <nil>
}
