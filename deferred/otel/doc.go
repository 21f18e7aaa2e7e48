// Package otel traces what happens to messages, with OpenTelemetry: a span for the
// reception of a transaction, and one for each attempt at a message.
//
//	tracing := otel.New(nil)
//	sched, err := queue.NewScheduler(sp, tracing.Handler(inject), &queue.Options{Arriving: tracing.Arriving})
//	err = sched.Handle("*", tracing.Handler(deliver))
//
// It is a module of its own, so that a host without OpenTelemetry carries none of it.
//
// # How spans hang together
//
// Attempts come minutes and days after the reception. Each is the root of a trace of its
// own with a link to the reception, as the semantic conventions for messaging ask for, so
// that no trace is a week long and the sampler decides about each. With
// [Options.SameTrace] they are children of the reception instead.
//
// The context of the reception is part of the metadata of each message, under the
// names of W3C Trace Context, traceparent and tracestate, and so survives restarts,
// retries and rebinding. A message that a host hands in with Scheduler.Submit under a
// context with a span is received as its child. A notice to a sender has the context of
// the message that it is about, so that its attempts link to that reception. The
// context of a handler has the span of the attempt: what the handler calls is traced
// below it.
//
// # Attributes
//
// They are those of the semantic conventions where they exist (messaging.*), and
// deferredqueue.* else. Addresses, and texts that may
// name them, are in none of them unless [Options.Addresses] says so.
package otel
