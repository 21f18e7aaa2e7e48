package queue

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestConfigurePanics: a panic of Options.Configure holds no lock, and the
// message is run all the same.
func TestConfigurePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		inject := func(context.Context, *Message) error {
			ran++
			return nil
		}
		opts := &Options{Configure: func(string) Config { panic("configure") }, Logger: slog.New(slog.DiscardHandler)}
		s, err := NewScheduler(spool.NewMemory(), inject, opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		env := spool.Envelope{Recipients: []spool.Recipient{{Address: "a@example.com"}}}
		if _, err := s.Submit(ctx, env, nil, strings.NewReader("text")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || ran != 1 {
			t.Errorf("Run: %v; the callback ran %d times, want once", err, ran)
		}
	})
}
