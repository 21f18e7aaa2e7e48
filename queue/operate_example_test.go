package queue_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host that reads its configuration again says so, and what waits goes by it at once.
func ExampleScheduler_Reconfigure() {
	var rate atomic.Pointer[queue.Rate]
	set := func(text string) {
		r, err := queue.ParseRate(text)
		if err != nil {
			log.Fatal(err)
		}
		rate.Store(&r)
	}
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{
		Record:    quiet,
		Configure: func(string) queue.Config { return queue.Config{Rate: *rate.Load()} },
	})
	if err != nil {
		log.Fatal(err)
	}
	set("1/day")
	ctx := context.Background()
	for range 2 {
		if _, err := s.Submit(ctx, toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
			log.Fatal(err)
		}
	}
	done := routed(s, 2)
	beside(s, func(context.Context) {
		<-done
		fmt.Println("one today")
		set("1,000/s")
		s.Reconfigure()
		<-done
		fmt.Println("and the other")
	})
	// Output:
	// one today
	// and the other
}

// A server of one's own records what it refuses as a listener does.
func ExampleScheduler_RecordRejection() {
	inject := func(context.Context, *queue.Message) error { return nil }
	records := make(chan queue.Record, 1)
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{
		Record: func(_ context.Context, r queue.Record) error {
			records <- r
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	s.RecordRejection(queue.Record{
		Sender: "ada@example.org", Recipients: []string{"nobody@example.com"},
		Response: queue.Response{Code: 550, Content: "nobody here", Command: "RCPT"},
	})
	run(s, records, 1, func(r queue.Record) { fmt.Println(r.Type, r.Response.Code, r.Response.Content) })
	// Output: Rejection 550 nobody here
}

// What is in the spool, without a count of what waits in memory.
func ExampleScheduler_Spool() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, nil)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if _, err := s.Submit(ctx, toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
		log.Fatal(err)
	}
	for info, err := range s.Spool().Queues(ctx) {
		fmt.Println(info.Queue, info.Entries, err)
	}
	// Output: deferred_smtp_inject.kumomta.internal 1 <nil>
}

// Metadata that is with a message from the beginning, whoever brings it.
func ExampleArrival_SetMeta() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{
		Record: quiet,
		Arriving: func(_ context.Context, a *queue.Arrival) func(time.Time, error) {
			a.SetMeta("node", "mx1")
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	ids, err := s.Submit(ctx, toOne("bob@example.com"), nil, strings.NewReader("\nHi\n"))
	if err != nil {
		log.Fatal(err)
	}
	details, err := s.Admin().Inspect(ctx, ids[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(details.Meta["node"])
	// Output: mx1
}

// How long messages waited for their first callback, as quantiles and as buckets.
func ExampleHistogram_Quantile() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
			log.Fatal(err)
		}
	}
	run(s, routed(s, 3), 3)
	h := s.Stats().UntilInject
	fmt.Println(h.Count, h.Quantile(0.5) > 0, h.Quantile(0.99) <= 10*time.Minute)
	// Output: 3 true true
}

func ExampleHistogram_Buckets() {
	inject := func(context.Context, *queue.Message) error { return nil }
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Record: quiet})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := s.Submit(context.Background(), toOne("bob@example.com"), nil, strings.NewReader("\nHi\n")); err != nil {
			log.Fatal(err)
		}
	}
	run(s, routed(s, 3), 3)
	var below, last int64
	for bound, n := range s.Stats().UntilInject.Buckets() {
		last = n
		if bound <= 10*time.Minute {
			below = n
		}
	}
	fmt.Println(below, "of", last, "within ten minutes")
	// Output: 3 of 3 within ten minutes
}
