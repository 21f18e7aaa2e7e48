// Package prometheus makes metrics of what a Scheduler does, for client_golang:
//
//	c, err := prometheus.NewCollector(sched, nil)
//	...
//	registry.MustRegister(c)
//
// It is a module of its own, so that a host without Prometheus carries none of it. A
// scrape asks for [queue.Scheduler.Stats] once, which stops nothing.
//
// Names that mean the same as in KumoMTA are close to its own; README.md has both in a
// table. dashboard.json, beside it, is a dashboard for Grafana.
//
// # Labels
//
// No label has an ID or an address. Queues are without number, one for each domain, and
// so only the largest have series of their own; the others are summed up, see
// [Options.MaxQueues]. A class may be who authenticated, and so a class has the label that
// the host gives it, or none: see [Options.Classes].
package prometheus
