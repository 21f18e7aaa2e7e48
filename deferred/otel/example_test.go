package otel_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/deferredqueue/deferredqueue/deferred/otel"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A scheduler whose receptions and attempts are traced.
func ExampleNew() {
	spans := tracetest.NewInMemoryExporter() // instead of that of a collector
	tracing := otel.New(&otel.Options{TracerProvider: sdk.NewTracerProvider(sdk.WithSyncer(spans))})

	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	inject := func(context.Context, *queue.Message) error { return queue.Reject(550, "5.7.1 not today") }
	sched, err := queue.NewScheduler(spool.NewMemory(), tracing.Handler(inject), &queue.Options{
		Arriving: tracing.Arriving,
		Record: func(_ context.Context, r queue.Record) error {
			if r.Type == queue.Bounce {
				stop()
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	env := spool.Envelope{Sender: "ada@example.org", Recipients: []spool.Recipient{{Address: "bob@example.com"}}}
	if _, err := sched.Submit(ctx, env, nil, strings.NewReader("Subject: hi\r\n\r\nHi.\r\n")); err != nil {
		log.Fatal(err)
	}
	if err := sched.Run(ctx); err != nil {
		log.Fatal(err)
	}
	for _, s := range spans.GetSpans() {
		fmt.Printf("%s %v %q links: %d\n", s.Name, s.SpanKind, s.Status.Description, len(s.Links))
	}
	// Output:
	// receive producer "" links: 0
	// process consumer "550 5.7.1" links: 1
}
