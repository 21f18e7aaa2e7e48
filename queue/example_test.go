package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// toOne is an envelope with one recipient.
func toOne(address string) spool.Envelope {
	return spool.Envelope{Sender: "news@example.org", Recipients: []spool.Recipient{{Address: address}}}
}

// run runs a Scheduler until n records were written that are sent to last, and
// calls see for each of them.
func run(s *queue.Scheduler, last <-chan queue.Record, n int, see ...func(queue.Record)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for range n {
		r := <-last
		for _, f := range see {
			f(r)
		}
	}
	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
}

// A policy that adds a header field and routes by tenant; what it routes is
// then relayed.
func ExampleNewScheduler() {
	inject := func(ctx context.Context, m *queue.Message) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		h.Prepend("X-Policy", "seen")
		m.Meta["tenant"] = "acme"
		return nil
	}
	relay := func(ctx context.Context, m *queue.Message) error {
		body, err := m.Open()
		if err != nil {
			return err
		}
		fmt.Printf("%s, attempt %d:\n", m.Queue, m.Attempt)
		_, err = io.Copy(os.Stdout, body)
		return err
	}
	delivered := make(chan queue.Record, 1)
	record := func(ctx context.Context, r queue.Record) error {
		if r.Type == queue.Delivery && r.Queue != queue.Deferred {
			delivered <- r
		}
		return nil
	}

	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: record})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Handle("acme@*", relay); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("Subject: hello\n\nHi Bob\n")); err != nil {
		fmt.Println(err)
		return
	}
	run(s, delivered, 1)
	// Output:
	// acme@example.com, attempt 1:
	// X-Policy: seen
	// Subject: hello
	//
	// Hi Bob
}

// Every result but nil leaves the message as it was received.
func ExampleScheduler_Run() {
	inject := func(ctx context.Context, m *queue.Message) error {
		m.Meta["tries"] += "x" // vanishes with the failure
		switch m.Attempt {
		case 1:
			return errors.New("the database is away")
		case 2:
			return queue.Reject(550, "5.7.1 not from here (tries: %s)", m.Meta["tries"])
		}
		return nil
	}
	records := make(chan queue.Record, 3)
	record := func(ctx context.Context, r queue.Record) error {
		if r.Type != queue.Reception {
			fmt.Println(r.Type, r.Response.Code, r.Response.Content)
		}
		if r.Type == queue.Bounce {
			records <- r
		}
		return nil
	}
	configure := func(name string) queue.Config {
		return queue.Config{Backoff: queue.Backoff{Base: 10 * time.Millisecond}}
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: record, Configure: configure})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("Subject: hello\n\nHi\n")); err != nil {
		fmt.Println(err)
		return
	}
	run(s, records, 1)
	// Output:
	// TransientFailure 450 the database is away
	// Bounce 550 not from here (tries: x)
}
