package prometheus_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/deferredqueue/deferredqueue/deferred/prometheus"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// The metrics of a scheduler, at an endpoint.
func ExampleNewCollector() {
	sched, err := queue.NewScheduler(spool.NewMemory(), func(context.Context, *queue.Message) error { return nil }, nil)
	if err != nil {
		log.Fatal(err)
	}
	c, err := prometheus.NewCollector(sched, nil)
	if err != nil {
		log.Fatal(err)
	}
	registry := client.NewRegistry()
	registry.MustRegister(c)
	endpoint := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // for http.Handle("/metrics", endpoint)

	w := httptest.NewRecorder()
	endpoint.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "messages_received_total") {
			fmt.Print(line)
		}
	}
	// Output:
	// # HELP deferredqueue_messages_received_total Messages accepted.
	// # TYPE deferredqueue_messages_received_total counter
	// deferredqueue_messages_received_total 0
}
