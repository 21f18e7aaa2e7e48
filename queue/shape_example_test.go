package queue_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// Each queue is run as it needs: here the deferred queue gives one tenant two turns
// where others have one, and what goes to example.com is sent at 50 messages a second.
func ExampleConfig() {
	configure := func(name string) queue.Config {
		switch name {
		case queue.Deferred:
			return queue.Config{Concurrency: 1, Weights: map[string]int{"gold": 2}}
		case "example.com":
			return queue.Config{Rate: queue.Rate{N: 50, Burst: 1}}
		}
		return queue.Config{}
	}
	const messages = 8
	inject := func(ctx context.Context, m *queue.Message) error {
		fmt.Println("inject", m.Meta["tenant"])
		m.Meta["queue"] = "example.com"
		return nil
	}
	started := make(chan time.Time, messages)
	relay := func(ctx context.Context, m *queue.Message) error {
		started <- time.Now()
		return nil
	}
	delivered := make(chan queue.Record, messages)
	record := func(ctx context.Context, r queue.Record) error {
		if r.Type == queue.Delivery && r.Queue == "example.com" {
			delivered <- r
		}
		return nil
	}
	s, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Configure: configure, Record: record})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Handle("*", relay); err != nil {
		fmt.Println(err)
		return
	}
	for i := range messages { // the tenant is the class of a message
		meta := map[string]string{"tenant": []string{"plain", "gold"}[i/4]}
		if _, err := s.Submit(context.Background(), toOne("bob@example.com"), meta, strings.NewReader("Subject: hello\n\nHi\n")); err != nil {
			fmt.Println(err)
			return
		}
	}
	run(s, delivered, messages)
	first, last := <-started, time.Time{}
	for range messages - 1 {
		last = <-started
	}
	fmt.Println("relayed, the last one at least 100 ms after the first:", last.Sub(first) >= 100*time.Millisecond)
	// Output:
	// inject gold
	// inject plain
	// inject gold
	// inject gold
	// inject plain
	// inject gold
	// inject plain
	// inject plain
	// relayed, the last one at least 100 ms after the first: true
}
