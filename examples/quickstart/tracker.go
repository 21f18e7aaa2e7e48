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
	attempts int           // calls of the policy
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

// attempt says that the policy runs on a message.
func (t *tracker) attempt(id spool.ID, title string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.get(id)
	p.title, p.attempts = title, n
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
	o, final := t.describe(r)
	attempt := 0
	if r.Queue == queue.Deferred {
		attempt = p.attempts
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

// describe puts a record into words.
func (t *tracker) describe(r queue.Record) (o outcome, final bool) {
	switch r.Type {
	case queue.TransientFailure:
		again := short(t.backoff.Delay(r.Attempts))
		return outcome{fmt.Sprintf("failed: %s, again in %s", r.Response.Content, again), warn}, false
	case queue.Delivery:
		if r.Queue == queue.Deferred {
			_, next, _ := strings.Cut(r.Response.Content, "queued as ")
			return outcome{"passed, moved to queue " + next, plain}, false
		}
		return outcome{"delivered to the outbox", good}, true
	case queue.Bounce:
		return outcome{"refused: " + reply(r.Response), bad}, true
	default:
		return outcome{fmt.Sprintf("%s: %s", r.Type, r.Response.Content), bad}, true
	}
}

// reply writes a response as it goes over the wire (RFC 5321, section 4.2).
func reply(r queue.Response) string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Content)
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
