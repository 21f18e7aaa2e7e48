package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A tracker follows messages by their records, and shows each as it comes.
type tracker struct {
	out     *printer
	backoff queue.Backoff

	mu struct {
		sync.Mutex
		live     bool // the demonstration is over: show what comes in, too
		messages map[spool.ID]*progress
	}
	changed chan struct{} // a message has ended
}

// progress is what is known of one message.
type progress struct {
	title    string
	rcpt     string
	attempts int           // of the policy
	done     time.Duration // from the 250 to the end; 0: not yet
	outcome  outcome
}

// An outcome is a text and how it is meant.
type outcome struct {
	text  string
	style style
}

func newTracker(out *printer, b queue.Backoff) *tracker {
	t := &tracker{out: out, backoff: b, changed: make(chan struct{}, 1)}
	t.mu.messages = map[spool.ID]*progress{}
	return t
}

// name says what a message is called.
func (t *tracker) name(id spool.ID, title string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.get(id).title = title
}

// get returns the progress of a message. mu is held.
func (t *tracker) get(id spool.ID) *progress {
	p := t.mu.messages[id]
	if p == nil {
		p = &progress{title: "?"}
		t.mu.messages[id] = p
	}
	return p
}

// goLive ends the bookkeeping of the demonstration.
func (t *tracker) goLive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.live = true
	clear(t.mu.messages)
}

// record is queue.Options.Record: it takes what the scheduler reports. Each
// record is durable fact by then.
func (t *tracker) record(_ context.Context, r queue.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Type == queue.Reception {
		if t.mu.live {
			t.out.received(r)
		}
		return nil
	}
	p := t.get(r.ID)
	p.rcpt = strings.Join(r.Recipients, ", ")
	o, attempt, final := t.describe(r)
	if attempt > 0 {
		p.attempts = attempt
	}
	t.out.event(r.Time.Sub(r.Created), p, attempt, o)
	if final {
		p.done, p.outcome = max(r.Time.Sub(r.Created), 1), o
		if t.mu.live {
			delete(t.mu.messages, r.ID)
		}
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// describe puts a record into words. attempt is the number of the policy's
// call; 0 if it was not the policy's.
func (t *tracker) describe(r queue.Record) (o outcome, attempt int, final bool) {
	if r.Queue == queue.Deferred {
		attempt = r.Attempts
	}
	switch r.Type {
	case queue.TransientFailure:
		again := round(t.backoff.Delay(r.Attempts))
		return outcome{fmt.Sprintf("failed: %s; again in about %v", r.Response.Content, again), warn}, attempt, false
	case queue.Delivery:
		if r.Queue == queue.Deferred {
			_, next, _ := strings.Cut(r.Response.Content, "queued as ")
			return outcome{"passed, moved to queue " + next, plain}, attempt + 1, false
		}
		return outcome{"delivered to the outbox", good}, 0, true
	case queue.Bounce:
		return outcome{fmt.Sprintf("refused: %d %s", r.Response.Code, r.Response.Content), bad}, attempt, true
	default:
		return outcome{fmt.Sprintf("%s: %s", r.Type, r.Response.Content), bad}, attempt, true
	}
}

// wait returns once all these messages have ended.
func (t *tracker) wait(ctx context.Context, ids []spool.ID) error {
	for {
		if t.open(ids) == 0 {
			return nil
		}
		select {
		case <-t.changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages have not ended: %w", t.open(ids), len(ids), ctx.Err())
		}
	}
}

// open counts the messages that have not ended.
func (t *tracker) open(ids []spool.ID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, id := range ids {
		if t.get(id).done == 0 {
			n++
		}
	}
	return n
}

// progress returns a copy of what is known of a message.
func (t *tracker) progress(id spool.ID) progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.get(id)
}
