package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Place is where a message is, as far as one Scheduler knows.
type Place uint8

// The places of a message.
const (
	PlaceSpool   Place = iota // in the spool: not due, not claimed, held, or with another process
	PlaceWaiting              // in the memory of this Scheduler, due, waiting for a handler
	PlaceRunning              // its handler runs in this process, or its verdict is being stored
)

// String returns "spool", "waiting" or "running".
func (p Place) String() string {
	switch p {
	case PlaceSpool:
		return "spool"
	case PlaceWaiting:
		return "waiting"
	case PlaceRunning:
		return "running"
	}
	return "unknown"
}

// Info is what is known of a message. It is a plain value.
type Info struct {
	ID           spool.ID
	Queue, Class string
	State        spool.State
	Place        Place
	Stored       bool // false: in memory alone, where a crash loses it; see [Transaction.Keep]

	Received time.Time
	Age      time.Duration // since then
	Due      time.Time     // when it is tried next, if it is Queued
	Expires  time.Time     // its end of life in that queue; zero: there is none

	Attempts    int    // failed attempts in that queue
	Interrupted int    // processes that died while its handler may have run
	LastError   string // the last response, or why it is held

	Envelope spool.Envelope
	Meta     map[string]string
	Size     int64 // of the content, in bytes

	Handler   bool // its queue has one
	Suspended bool // its queue is suspended
}

// Details are an [Info] with the header of the message.
type Details struct {
	Info
	// Header is parsed as [Message.Header] does. Its edits are nobody's.
	Header *Header
}

// listLimit is how many messages List returns if it is not told.
const listLimit = 256

// List returns up to limit of the messages that f selects and whose IDs are greater
// than after, in the order of their IDs, which is that of their age. A limit that is
// not positive is 256. The next page begins after the last ID of this one, and there is
// none after an empty one; a message that is there all the time is in exactly one of
// them, whatever is done to it meanwhile. The zero Filter selects everything, what has
// ended and waits for its record included.
//
// List looks through what is stored until the page is full: a Filter that selects
// little makes it read much, and ctx ends it. Damage to entries is a
// [spool.CorruptError], several are joined, beside the messages that could be read.
func (a *Admin) List(ctx context.Context, f Filter, after spool.ID, limit int) ([]Info, error) {
	if limit <= 0 {
		limit = listLimit
	}
	l := lister{s: a.s, filter: f, now: time.Now(), after: after, limit: limit}
	if err := l.collect(ctx); err != nil {
		return nil, fmt.Errorf("queue: List: %w", err)
	}
	infos := l.infos()
	if err := errors.Join(l.damage...); err != nil {
		return infos, fmt.Errorf("queue: List: %w", err)
	}
	return infos, nil
}

// Inspect returns all that is known of one message; [spool.ErrNotFound] if it is
// not there. If only its header cannot be read, what else is known is returned
// beside the error.
func (a *Admin) Inspect(ctx context.Context, id spool.ID) (*Details, error) {
	e, err := a.s.find(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("queue: Inspect: %w", err)
	}
	l := lister{s: a.s, now: time.Now(), page: []*spool.Entry{e}}
	infos := l.infos()
	d := &Details{Info: infos[0]}
	m := newMessage(ctx, a.s.spool, e, func() (spool.Body, error) { return a.s.openBody(ctx, e) })
	defer m.Discard()
	if d.Header, err = m.Header(); err != nil {
		return d, fmt.Errorf("queue: Inspect: %w", err)
	}
	return d, nil
}

// Open returns the content of one message as it was received: its header, then the
// body; [spool.ErrNotFound] if it is not there. It stays readable until it is closed,
// which is the caller's to do, even if the message ends meanwhile.
func (a *Admin) Open(ctx context.Context, id spool.ID) (spool.Body, error) {
	e, err := a.s.find(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("queue: Open: %w", err)
	}
	body, err := a.s.openBody(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("queue: Open: %w", err)
	}
	return spool.Content(e.Header, body, e.Skip), nil
}

// openBody opens the body of a message, stored or not.
func (s *Scheduler) openBody(ctx context.Context, e *spool.Entry) (spool.Body, error) {
	if b := s.kept.holder(e.ID); b != nil {
		return b.open(ctx)
	}
	return s.spool.Open(ctx, e.Body)
}
