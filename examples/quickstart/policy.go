package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
)

// A policy is what the host does with mail after the 250.
type policy struct {
	slow    time.Duration
	outbox  string
	tracker *tracker
}

// errLookup is why the policy fails at first.
var errLookup = errors.New("key look-up timed out")

// inject is the inject callback. It takes its time, fails at the first attempt
// (mail with an attachment at the second too), and knows one address that does
// not exist.
func (p *policy) inject(ctx context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	p.tracker.attempt(m.ID, title(h.Get("Subject")), m.Attempt)
	// Edited before the failure on purpose: nothing of it is left at the next
	// attempt, so that what is delivered has this field once.
	h.Prepend("X-Quickstart-Policy", fmt.Sprintf("passed at attempt %d", m.Attempt))

	select { // in earnest a look-up that may take long
	case <-time.After(p.slow):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if strings.HasPrefix(m.Envelope.Recipients[0].Address, "nobody@") {
		return deferred.Reject(550, "5.1.1 no such address")
	}
	failures := 1
	if strings.HasPrefix(h.Get("Content-Type"), "multipart/mixed") {
		failures = 2
	}
	if m.Attempt <= failures {
		return errLookup
	}
	m.Meta["tenant"] = "demo" // part of the name of the next queue
	return nil
}

// deliver is the handler of the queues behind the deferred queue. A host's own
// would relay; this one writes a file. It may run twice for a message, and the
// name of the file makes that harmless.
func (p *policy) deliver(ctx context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	p.tracker.name(m.ID, title(h.Get("Subject")))
	content, err := m.Open()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(p.outbox, "writing-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(p.outbox, m.ID.String()+".eml"))
}
