package queue_test

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// With net/http/pprof or expvar's handler served, an operator sees them at
// /debug/vars.
func ExampleScheduler_Stats() {
	inject := func(ctx context.Context, m *queue.Message) error {
		if m.Envelope.Recipients[0].Address == "bob@example.com" {
			return queue.RetryAfter(time.Hour, nil)
		}
		return nil
	}
	sched, err := queue.NewScheduler(spool.NewMemory(), inject, &queue.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	expvar.Publish("queue", expvar.Func(func() any { return sched.Stats() }))

	for _, rcpt := range []string{"ann@example.com", "bob@example.com", "cid@example.com"} {
		meta := map[string]string{"tenant": "acme"}
		if _, err := sched.Submit(context.Background(), toOne(rcpt), meta, strings.NewReader("Subject: hello\n\nHi\n")); err != nil {
			fmt.Println(err)
			return
		}
	}
	ended := make(chan queue.Record, 10)
	err = sched.Observe(func(r queue.Record) {
		if r.Type != queue.Reception {
			ended <- r
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- sched.Run(ctx) }()
	for range 3 {
		<-ended
	}
	vars := expvar.Get("queue").String()
	stop()
	if err := <-done; err != nil {
		fmt.Println(err)
	}

	var stats struct {
		UntilInject struct{ Count int } `json:"until_inject"`
		Outcomes    map[string]int
		Retries     map[string]int
		Queues      []struct {
			Name    string
			Classes []struct {
				Class   string
				Waiting int
			}
		}
	}
	if err := json.Unmarshal([]byte(vars), &stats); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("called for the first time:", stats.UntilInject.Count)
	fmt.Println("outcomes:", stats.Outcomes)
	fmt.Println("retries:", stats.Retries)
	fmt.Println("waiting:", stats.Queues)
	// Output:
	// called for the first time: 3
	// outcomes: map[Delivery:2 Reception:3 TransientFailure:1]
	// retries: map[retry_after:1]
	// waiting: [{deferred_smtp_inject.kumomta.internal [{acme 1}]}]
}
