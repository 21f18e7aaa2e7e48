package otel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/deferredqueue/deferredqueue/queue"
)

// scope names what makes the spans.
const scope = "github.com/deferredqueue/deferredqueue/deferred/otel"

// Options configure a Tracing. The zero value, and a nil *Options, are ready to use.
type Options struct {
	// TracerProvider makes the spans.
	// Defaults to the global one.
	TracerProvider trace.TracerProvider

	// SameTrace makes attempts children of the reception, instead of traces of their
	// own with a link to it.
	// Defaults to false.
	SameTrace bool

	// Addresses puts senders and recipients into attributes, and the texts of errors,
	// which often name them, into the status of spans; without, that has the codes.
	// Defaults to false.
	Addresses bool
}

// A Tracing makes spans. It is safe for concurrent use, and serves any number of
// schedulers.
type Tracing struct {
	opts    Options
	tracer  trace.Tracer
	context propagation.TraceContext
}

// New returns a Tracing. nil opts are the defaults.
func New(opts *Options) *Tracing {
	t := &Tracing{}
	if opts != nil {
		t.opts = *opts
	}
	if t.opts.TracerProvider == nil {
		t.opts.TracerProvider = otel.GetTracerProvider()
	}
	t.tracer = t.opts.TracerProvider.Tracer(scope)
	return t
}

const (
	system  = "deferredqueue"
	receive = "receive"
	process = "process"
)

// Arriving is for [queue.Options.Arriving]: it makes a span of each transaction, from
// its content to the answer.
func (t *Tracing) Arriving(ctx context.Context, a *queue.Arrival) func(at time.Time, err error) {
	ctx, span := t.tracer.Start(ctx, receive, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(a.Begun),
		trace.WithAttributes(t.received(a)...))
	carrier := propagation.MapCarrier{}
	t.context.Inject(ctx, carrier)
	for key, value := range carrier {
		a.SetMeta(key, value)
	}
	return func(at time.Time, err error) {
		if err != nil {
			t.failed(span, "not accepted", err)
		}
		span.End(trace.WithTimestamp(at))
	}
}

func (t *Tracing) received(a *queue.Arrival) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("messaging.system", system),
		attribute.String("messaging.operation.name", receive),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", queue.Deferred),
		attribute.Int64("messaging.message.body.size", a.Size),
		attribute.Int("messaging.batch.message_count", len(a.Entries)),
	}
	if len(a.Entries) == 0 {
		return attrs
	}
	e := a.Entries[0]
	if len(a.Entries) == 1 {
		attrs = append(attrs, attribute.String("messaging.message.id", e.ID.String()))
	}
	if session := e.Meta["session_id"]; session != "" {
		attrs = append(attrs, attribute.String("deferredqueue.session_id", session))
	}
	if t.opts.Addresses {
		var rcpts []string
		for _, e := range a.Entries {
			for _, r := range e.Envelope.Recipients {
				rcpts = append(rcpts, r.Address)
			}
		}
		attrs = append(attrs, attribute.String("deferredqueue.sender", e.Envelope.Sender), attribute.StringSlice("deferredqueue.recipients", rcpts))
	}
	return attrs
}

// Handler returns a handler that calls h and makes a span of each call. The context
// of h has the span.
func (t *Tracing) Handler(h queue.Handler) queue.Handler {
	return func(ctx context.Context, m *queue.Message) (err error) {
		ctx, span := t.start(ctx, m)
		returned := false
		defer func() {
			if !returned { // it panics, or ends its goroutine
				span.SetStatus(codes.Error, "the handler did not return")
			}
			span.End()
		}()
		err = h(ctx, m)
		returned = true
		verdict, reply := queue.ResultOf(err)
		span.SetAttributes(attribute.String("deferredqueue.verdict", string(verdict)), attribute.Int("deferredqueue.reply_code", reply.Code))
		if err != nil && verdict != queue.AdminBounce {
			t.failed(span, fmt.Sprintf("%d %d.%d.%d", reply.Code, reply.Enhanced[0], reply.Enhanced[1], reply.Enhanced[2]), err)
		}
		return err
	}
}

// failed says that something failed, and how if that may be told.
func (t *Tracing) failed(span trace.Span, what string, err error) {
	if t.opts.Addresses {
		what = fmt.Sprint(err)
		span.RecordError(err)
	}
	span.SetStatus(codes.Error, what)
}

// start begins the span of an attempt.
func (t *Tracing) start(ctx context.Context, m *queue.Message) (context.Context, trace.Span) {
	attrs := []attribute.KeyValue{
		attribute.String("messaging.system", system),
		attribute.String("messaging.operation.name", process),
		attribute.String("messaging.operation.type", process),
		attribute.String("messaging.destination.name", m.Queue),
		attribute.String("messaging.message.id", m.ID.String()),
		attribute.Int64("messaging.message.body.size", m.Size),
		attribute.Int("deferredqueue.attempt", m.Attempt),
		attribute.Float64("deferredqueue.age", time.Since(m.Received).Seconds()),
	}
	if t.opts.Addresses {
		var rcpts []string
		for _, r := range m.Envelope.Recipients {
			rcpts = append(rcpts, r.Address)
		}
		attrs = append(attrs, attribute.String("deferredqueue.sender", m.Envelope.Sender), attribute.StringSlice("deferredqueue.recipients", rcpts))
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	reception := t.context.Extract(ctx, propagation.MapCarrier(m.Meta))
	switch from := trace.SpanContextFromContext(reception); {
	case !from.IsValid():
		opts = append(opts, trace.WithNewRoot())
	case t.opts.SameTrace:
		ctx = reception
	default:
		opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: from}))
	}
	return t.tracer.Start(ctx, process, opts...)
}
