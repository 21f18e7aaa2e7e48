package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// quiet takes records and says nothing.
func quiet(context.Context, queue.Record) error { return nil }

// delivered yields the records of what left the queues behind the deferred one.
func delivered(s *queue.Scheduler, n int) <-chan queue.Record {
	return deliveries(s, n, func(r queue.Record) bool { return r.Queue != queue.Deferred })
}

// routed yields the records of what inject sent on.
func routed(s *queue.Scheduler, n int) <-chan queue.Record {
	return deliveries(s, n, func(r queue.Record) bool { return r.Queue == queue.Deferred })
}

func deliveries(s *queue.Scheduler, n int, from func(queue.Record) bool) <-chan queue.Record {
	c := make(chan queue.Record, n)
	err := s.Observe(func(r queue.Record) {
		if r.Type == queue.Delivery && from(r) {
			c <- queue.Record{Type: r.Type, Queue: r.Queue}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// Mail that does not come by SMTP. It is durable when Submit returns nil.
func ExampleScheduler_Submit() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	meta := map[string]string{"request_id": "42"} // by which inject recognises a repeat
	ids, err := s.Submit(context.Background(), toOne("bob@example.com"), meta, strings.NewReader("Subject: hello\n\nHi\n"))
	fmt.Println(len(ids), err, s.Stats().Scheduled)
	// Output: 1 <nil> 1
}

// The pattern with the most fixed parts wins.
func ExampleScheduler_Handle() {
	inject := func(_ context.Context, m *queue.Message) error {
		m.Meta["tenant"] = "acme"
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	say := func(text string) queue.Handler {
		return func(_ context.Context, m *queue.Message) error {
			fmt.Println(m.Queue, text)
			return nil
		}
	}
	for pattern, h := range map[string]queue.Handler{"*": say("by *"), "acme@*": say("by tenant")} {
		if err := s.Handle(pattern, h); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	run(s, delivered(s, 1), 1)
	// Output: acme@example.com by tenant
}

// Observe looks on beside Options.Record.
func ExampleScheduler_Observe() {
	inject := func(context.Context, *queue.Message) error { return errors.New("not yet") }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	failed := make(chan queue.Record, 1)
	err = s.Observe(func(r queue.Record) {
		if r.Type == queue.TransientFailure {
			failed <- queue.Record{Attempts: r.Attempts, Response: r.Response}
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	run(s, failed, 1, func(r queue.Record) { fmt.Println(r.Attempts, r.Response.Code, r.Response.Content) })
	// Output: 1 450 not yet
}

// Nothing is accepted while the spool is full, and Ready says so.
func ExampleScheduler_Ready() {
	sp := spool.NewMemory()
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(sp, inject, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Ready())
	sp.SetFull(true)
	fmt.Println(errors.Is(s.Ready(), spool.ErrFull))
	// Output:
	// <nil>
	// true
}

// A reception of one's own: the body in pieces, then its messages in one step.
func ExampleScheduler_Begin() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tx, err := s.Begin(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Abort() // does nothing after Commit
	if _, err := io.WriteString(tx, "Subject: hello\r\n\r\nHi\r\n"); err != nil {
		log.Fatal(err)
	}
	err = tx.Commit(ctx,
		&spool.Entry{ID: spool.NewID(), Envelope: toOne("ada@example.com")},
		&spool.Entry{ID: spool.NewID(), Envelope: toOne("bob@example.com")})
	fmt.Println(err, s.Stats().Scheduled)
	// Output: <nil> 2
}

// What a handler replaces and emits becomes durable with its nil.
func ExampleMessage_Emit() {
	inject := func(ctx context.Context, m *queue.Message) error {
		_, err := m.Emit(ctx, toOne("archive@example.org"), nil, strings.NewReader("Subject: a copy\r\n\r\nHi\r\n"))
		if err != nil {
			return err
		}
		return m.SetContent(strings.NewReader("Subject: replaced\r\n\r\nHi\r\n"))
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	relay := func(_ context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		fmt.Println(m.Queue+":", h.Get("Subject"))
		return nil
	}
	if err := s.Handle("*", relay); err != nil {
		log.Fatal(err)
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	run(s, delivered(s, 2), 2)
	// Unordered output:
	// example.com: replaced
	// example.org: a copy
}
