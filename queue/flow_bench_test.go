package queue

import (
	"context"
	"log/slog"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// BenchmarkFlow is what the Scheduler itself costs a message: from Commit by the
// inject callback to the end in another queue, on a spool that costs little.
func BenchmarkFlow(b *testing.B) {
	ended := make(chan struct{}, 64)
	done := func(context.Context, *Message) error { return nil }
	s, err := NewScheduler(spool.NewMemory(), done, &Options{
		Logger: slog.New(slog.DiscardHandler),
		Record: func(_ context.Context, r Record) error {
			if r.Type == Delivery && r.Queue != Deferred {
				ended <- struct{}{}
			}
			return nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Handle("*", done); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	run := make(chan error)
	go func() { run <- s.Run(ctx) }()
	b.ReportAllocs()
	for b.Loop() {
		tx, err := s.Begin(ctx, 0)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Write([]byte(mail)); err != nil {
			b.Fatal(err)
		}
		e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
		if err := tx.Commit(ctx, e); err != nil {
			b.Fatal(err)
		}
		tx.HandOver()
		tx.Abort()
		<-ended
	}
	stop()
	if err := <-run; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkHistogram(b *testing.B) {
	var h histogram
	var m meter
	b.ReportAllocs()
	for b.Loop() {
		h.add(12345678)
		m.add(12345678)
	}
}
