package otel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/smtp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A host is a scheduler that is traced.
type host struct {
	t     *testing.T
	spans *tracetest.InMemoryExporter
	sched *queue.Scheduler
	stop  func()
}

func newHost(t *testing.T, sp spool.Spool, opts Options, inject queue.Handler, next queue.Handler, change ...func(*queue.Options)) *host {
	t.Helper()
	h := &host{t: t, spans: tracetest.NewInMemoryExporter()}
	opts.TracerProvider = sdk.NewTracerProvider(sdk.WithSyncer(h.spans))
	tracing := New(&opts)
	o := &queue.Options{
		Logger: slog.New(slog.DiscardHandler), Arriving: tracing.Arriving, Record: func(context.Context, queue.Record) error { return nil },
		Configure: func(string) queue.Config {
			return queue.Config{Backoff: queue.Backoff{Base: time.Minute, Jitter: -1}}
		},
	}
	for _, f := range change {
		f(o)
	}
	var err error
	h.sched, err = queue.NewScheduler(sp, tracing.Handler(inject), o)
	if err != nil {
		t.Fatal(err)
	}
	if next != nil {
		if err := h.sched.Handle("*", tracing.Handler(next)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *host) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.sched.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
}

func (h *host) submit(ctx context.Context) spool.ID {
	h.t.Helper()
	env := spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}}}
	ids, err := h.sched.Submit(ctx, env, nil, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
	if err != nil {
		h.t.Fatal(err)
	}
	return ids[0]
}

// tell describes the spans in the order in which they ended.
func (h *host) tell() (lines []string) {
	for _, s := range h.spans.GetSpans() {
		line := fmt.Sprintf("%s %v", s.Name, s.SpanKind)
		for _, a := range s.Attributes {
			switch a.Key {
			case "deferredqueue.attempt", "deferredqueue.verdict", "messaging.destination.name", "messaging.batch.message_count":
				line += fmt.Sprintf(" %s", a.Value.String())
			}
		}
		if s.Status.Code == codes.Error {
			line += " failed: " + s.Status.Description
		}
		lines = append(lines, strings.ReplaceAll(line, queue.Deferred, "deferred"))
	}
	return lines
}

// TestLife: reception, a retry, a restart, the success, and the next queue; each attempt
// links to the reception.
func TestLife(t *testing.T) {
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprint("same trace ", same), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sp := spool.NewMemory()
				down := true
				var inside trace.SpanContext
				inject := func(ctx context.Context, m *queue.Message) error {
					inside = trace.SpanContextFromContext(ctx)
					if down {
						return errors.New("down")
					}
					return nil
				}
				next := func(context.Context, *queue.Message) error { return queue.Reject(550, "5.1.1 no such user") }
				h := newHost(t, sp, Options{SameTrace: same}, inject, next)
				h.run()
				id := h.submit(t.Context())
				synctest.Wait()
				h.stop()
				first := h.spans.GetSpans()
				down = false
				again := newHost(t, sp, Options{SameTrace: same}, inject, next)
				again.run()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				got := append(h.tell(), again.tell()...)
				want := []string{
					"receive producer deferred 1",
					"process consumer deferred 1 TransientFailure failed: 450 4.0.0",
					"process consumer deferred 2 Delivery",
					"process consumer example.com 1 Bounce failed: 550 5.1.1",
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %q\nwant %q", got, want)
				}
				reception := first[0].SpanContext
				for _, s := range append(first[1:], again.spans.GetSpans()...) {
					checkLink(t, s, reception, same)
					if !slices.Contains(s.Attributes, attribute.String("messaging.message.id", id.String())) {
						t.Errorf("the span has no ID: %v", s.Attributes)
					}
				}
				if !inside.Equal(again.spans.GetSpans()[0].SpanContext) {
					t.Error("the handler's context has another span")
				}
			})
		})
	}
}

func checkLink(t *testing.T, s tracetest.SpanStub, reception trace.SpanContext, same bool) {
	t.Helper()
	switch {
	case same:
		if s.Parent.SpanID() != reception.SpanID() || len(s.Links) != 0 {
			t.Errorf("its parent is %v, with links %v", s.Parent, s.Links)
		}
	case s.Parent.IsValid() || s.SpanContext.TraceID() == reception.TraceID():
		t.Error("an attempt is no root")
	case len(s.Links) != 1 || s.Links[0].SpanContext.SpanID() != reception.SpanID() || s.Links[0].SpanContext.TraceID() != reception.TraceID():
		t.Errorf("it links to %v", s.Links)
	}
}

// TestSubmitUnderSpan: a host's own span is the parent of the reception.
func TestSubmitUnderSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, spool.NewMemory(), Options{Addresses: true}, func(context.Context, *queue.Message) error { return nil }, nil)
		h.run()
		ctx, span := sdk.NewTracerProvider().Tracer("http").Start(t.Context(), "POST")
		h.submit(ctx)
		synctest.Wait()
		got := h.spans.GetSpans()
		if got[0].Parent.SpanID() != span.SpanContext().SpanID() {
			t.Errorf("the parent is %v", got[0].Parent)
		}
		for _, s := range got {
			if !slices.Contains(s.Attributes, attribute.String("deferredqueue.sender", "a@example.org")) {
				t.Errorf("%s has no sender: %v", s.Name, s.Attributes)
			}
		}
	})
}

// TestSMTP is the same through a listener: one reception, an attempt for each of the
// recipients.
func TestSMTP(t *testing.T) {
	attempts := make(chan string, 2)
	h := newHost(t, spool.NewMemory(), Options{}, func(_ context.Context, m *queue.Message) error {
		attempts <- m.Meta["traceparent"]
		return nil
	}, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := deferred.NewListener(h.sched, &deferred.Options{Listener: ln, DeferredQueue: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- deferred.Run(ctx, l) }()
	err = smtp.SendMail(ln.Addr().String(), nil, "a@example.org", []string{"b@example.com", "c@example.com"}, []byte("Subject: x\r\n\r\nx\r\n"))
	if err != nil {
		t.Error(err)
	}
	one, two := <-attempts, <-attempts
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if one == "" || one != two {
		t.Errorf("the contexts are %q and %q", one, two)
	}
	got := h.tell()
	slices.Sort(got)
	want := []string{"process consumer deferred 1 Delivery", "process consumer deferred 1 Delivery", "receive producer deferred 2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestRefused: a transaction that is not accepted, and a handler that panics.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		h := newHost(t, sp, Options{}, func(context.Context, *queue.Message) error { panic("oh") }, nil)
		h.run()
		h.submit(t.Context())
		synctest.Wait()
		sp.SetFull(true)
		tr, err := h.sched.Begin(t.Context(), 0)
		if err == nil {
			tr.Commit(t.Context(), &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}})
			tr.Abort()
		}
		got := h.tell()
		want := []string{"receive producer deferred 1", "process consumer deferred 1 failed: the handler did not return"}
		if err == nil {
			want = append(want, "receive producer deferred 1 failed: not accepted")
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestPrivacy: nothing that a span says names an address, unless it is asked for.
func TestPrivacy(t *testing.T) {
	for _, addresses := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, spool.NewMemory(), Options{Addresses: addresses}, func(_ context.Context, m *queue.Message) error {
				return queue.Reject(550, "5.7.1 %s is no customer", m.Envelope.Sender)
			}, nil)
			h.run()
			h.submit(t.Context())
			synctest.Wait()
			said := false
			for _, s := range h.spans.GetSpans() {
				said = said || strings.Contains(fmt.Sprint(s.Attributes, s.Status, s.Events), "a@example.org")
			}
			if said != addresses {
				t.Errorf("Addresses %v: the sender is named: %v", addresses, said)
			}
		})
	}
}

// TestNotice: the attempts at a notice link to the reception of the message that it is
// about, with the state of its trace.
func TestNotice(t *testing.T) {
	for _, same := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, spool.NewMemory(), Options{SameTrace: same}, func(_ context.Context, m *queue.Message) error {
				if m.Meta[queue.MetaNotice] == "" {
					return queue.Reject(550, "5.1.1 no such user")
				}
				return nil
			}, nil, func(o *queue.Options) { o.Notices = &queue.NoticeOptions{ReportingMTA: "relay.example"} })
			h.run()
			state, err := trace.ParseTraceState("vendor=1")
			if err != nil {
				t.Fatal(err)
			}
			h.submit(trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
			})))
			synctest.Wait()
			got, want := h.tell(), []string{
				"receive producer deferred 1",
				"process consumer deferred 1 Bounce failed: 550 5.1.1",
				"process consumer deferred 1 Delivery", // of the notice
			}
			if !slices.Equal(got, want) {
				t.Fatalf("got %q\nwant %q", got, want)
			}
			spans := h.spans.GetSpans()
			for _, s := range spans[1:] {
				checkLink(t, s, spans[0].SpanContext, same)
				if !same && len(s.Links) == 1 && s.Links[0].SpanContext.TraceState().Get("vendor") != "1" {
					t.Errorf("the link has the state %q", s.Links[0].SpanContext.TraceState())
				}
			}
		})
	}
}
