package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Message is a handler's working copy of a queued message. It is valid until
// the handler returns or its deadline passes, and only one goroutine at a time
// may use it.
//
// Fields may be read and changed at will; methods are what can fail. All
// changes become durable in one step with the handler's success, and vanish
// with its failure: the next attempt starts from what was received. Changes to
// ID, Queue, Attempt, Received, LastError and Size have no effect.
type Message struct {
	ID        spool.ID  // the same over retries and rebinding: the key for idempotence
	Queue     string    // the queue whose handler is running
	Attempt   int       // 1 on the first call in this queue
	Received  time.Time // when the message was accepted, in UTC
	Expires   time.Time // set by the handler or at reception; zero: the queue's MaxAge alone
	LastError string    // why the last attempt failed; empty on the first
	Size      int64     // of the content when the handler was called, in bytes

	Envelope spool.Envelope
	Meta     map[string]string // never nil

	entry *spool.Entry
	due   time.Time

	mu struct {
		sync.Mutex
		gone   bool // the working copy is no longer valid
		opened []spool.Body
	}
	source source
	target func(queue string) error // says why nothing can be bound to it; nil: not known
	header *Header
	emits  []spool.Change
}

// A source is where a Message finds its content: the entry's own, or what
// SetContent staged in its place.
type source struct {
	ctx   context.Context
	sp    spool.Spool
	front []byte
	skip  int64
	stage spool.Writer // nil: the stored body

	// received opens the body as it was received.
	received func() (spool.Body, error)
}

func (c *source) openBody() (spool.Body, error) {
	if c.stage != nil {
		return c.stage.Open()
	}
	return c.received()
}

// errGone is what the methods of a Message answer once it is no longer valid.
var errGone = errors.New("queue: message used after its handler returned or its deadline passed")

// NewMessage returns a working copy of e whose content is read from sp, as a
// handler gets it. Nothing that is done to it becomes durable. It serves tests
// of policies and tools that look at a message; call [Message.Discard] at the end.
func NewMessage(ctx context.Context, sp spool.Spool, e *spool.Entry) *Message {
	return newMessage(ctx, sp, e, func() (spool.Body, error) { return sp.Open(ctx, e.Body) })
}

func newMessage(ctx context.Context, sp spool.Spool, e *spool.Entry, open func() (spool.Body, error)) *Message {
	m := &Message{
		ID: e.ID, Queue: e.Queue, Attempt: e.Attempts + 1,
		Received: e.Received.UTC(), Expires: e.Expires,
		LastError: e.LastError, Size: e.Size,
		Envelope: e.Envelope.Clone(), Meta: maps.Clone(e.Meta),
		entry:  e,
		source: source{ctx: ctx, sp: sp, front: e.Header, skip: e.Skip, received: open},
	}
	if m.Meta == nil {
		m.Meta = map[string]string{}
	}
	return m
}

// Header returns the message's header for reading and editing. It reads the
// beginning of the content at the first call; later calls return the same
// Header. Odd mail is no error: what does not parse is kept as it is. The error
// is that of the spool.
func (m *Message) Header() (*Header, error) {
	if err := m.valid(); err != nil {
		return nil, err
	}
	if m.header != nil {
		return m.header, nil
	}
	body, err := m.source.openBody()
	if err != nil {
		return nil, fmt.Errorf("queue: reading the header of %s: %w", m.ID, err)
	}
	defer body.Close()
	section, err := readSection(body, m.source.skip)
	if err != nil {
		return nil, fmt.Errorf("queue: reading the header of %s: %w", m.ID, err)
	}
	m.header = parseHeader(m.source.front, section)
	return m.header, nil
}

// readSection reads the beginning of a body: up to its first empty line, and
// at most headerLimit bytes.
func readSection(body spool.Body, skip int64) ([]byte, error) {
	limit := max(min(headerLimit, body.Size()-skip), 0)
	var section []byte
	for size := min(int64(16<<10), limit); ; size = min(4*size, limit) {
		old := int64(len(section))
		section = append(section, make([]byte, size-old)...)
		n, err := body.ReadAt(section[old:], skip+old)
		if err != nil && !(err == io.EOF && int64(n) == size-old) {
			return nil, err
		}
		if size == limit || hasEmptyLine(section) {
			return section, nil
		}
	}
}

func hasEmptyLine(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\r\n")) || bytes.HasPrefix(b, []byte("\n")) ||
		bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n"))
}

// Open returns the content: the header with its edits so far, then the body.
// It need not be closed; it is when the handler returns.
func (m *Message) Open() (spool.Body, error) {
	if err := m.valid(); err != nil {
		return nil, err
	}
	body, err := m.source.openBody()
	if err != nil {
		return nil, fmt.Errorf("queue: opening %s: %w", m.ID, err)
	}
	front, skip := m.front()
	content := spool.Content(front, body, skip)
	if err := m.closeLater(content); err != nil {
		return nil, err
	}
	return content, nil
}

// front returns the header bytes with all edits, and how much of the body they
// stand for.
func (m *Message) front() ([]byte, int64) {
	if m.header == nil || !m.header.edited() {
		return m.source.front, m.source.skip
	}
	front, n := m.header.encode()
	return front, m.source.skip + int64(n)
}

// SetContent replaces the whole message, header included, by what r yields. r
// may read from the content of the same message. Header then returns the new
// header. On error the content is as before.
func (m *Message) SetContent(r io.Reader) error {
	if err := m.valid(); err != nil {
		return err
	}
	w, err := m.stage(r)
	if err != nil {
		return fmt.Errorf("queue: replacing the content of %s: %w", m.ID, err)
	}
	m.mu.Lock() // the handler may have returned while r was read
	defer m.mu.Unlock()
	if m.mu.gone {
		w.Abort()
		return fmt.Errorf("queue: replacing the content of %s: %w", m.ID, errGone)
	}
	if m.source.stage != nil {
		m.source.stage.Abort()
	}
	m.source.stage, m.source.front, m.source.skip, m.header = w, nil, 0, nil
	return nil
}

func (m *Message) stage(r io.Reader) (spool.Writer, error) {
	w, err := m.source.sp.Create(m.source.ctx, 0)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(w, r); err == nil {
		err = m.valid()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// SetDue sets when the queue that the message is rebound to may run it first.
// The default is at once. A time beyond the life of the message is cut to it.
func (m *Message) SetDue(t time.Time) { m.due = t }

// Emit makes a further message of what body yields. It becomes durable in one
// step with the success of the handler, or never; its ID is valid at once. It
// is routed by its metadata and envelope as rebinding does, and does not pass
// the inject callback. If no handler matches its queue, or that queue is the
// deferred queue, Emit returns an error that says so, and makes none.
func (m *Message) Emit(ctx context.Context, env spool.Envelope, meta map[string]string, body io.Reader) (spool.ID, error) {
	if err := m.valid(); err != nil {
		return spool.ID{}, err
	}
	if len(env.Recipients) == 0 {
		return spool.ID{}, errors.New("queue: Emit: the envelope has no recipient")
	}
	if err := ctx.Err(); err != nil {
		return spool.ID{}, err
	}
	target := route(meta, env)
	if m.target != nil {
		if err := m.target(target); err != nil {
			return spool.ID{}, fmt.Errorf("queue: emitting from %s: %w", m.ID, err)
		}
	}
	w, err := m.stage(body)
	if err != nil {
		return spool.ID{}, fmt.Errorf("queue: emitting from %s: %w", m.ID, err)
	}
	now := time.Now()
	e := &spool.Entry{
		ID: spool.NewID(), Body: w.ID(), Class: class(meta), Queue: target,
		Received: now, Due: now, Envelope: env.Clone(), Meta: maps.Clone(meta),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.gone {
		w.Abort()
		return spool.ID{}, fmt.Errorf("queue: emitting from %s: %w", m.ID, errGone)
	}
	m.emits = append(m.emits, spool.Change{Op: spool.Insert, Entry: e, Stage: w})
	return e.ID, nil
}

// class is the fairness class of a message that did not come by SMTP.
func class(meta map[string]string) string {
	if tenant := meta["tenant"]; tenant != "" {
		return tenant
	}
	return "-"
}

// Discard ends the working copy: what it staged is aborted and what it opened
// is closed. The Scheduler does so for the messages that it hands out.
func (m *Message) Discard() {
	m.closeBodies()
	if m.source.stage != nil {
		m.source.stage.Abort()
	}
	for _, c := range m.emits {
		c.Stage.Abort()
	}
}

// invalidate makes the methods answer errGone from now on.
func (m *Message) invalidate() {
	m.mu.Lock()
	m.mu.gone = true
	m.mu.Unlock()
}

func (m *Message) closeBodies() {
	m.mu.Lock()
	opened := m.mu.opened
	m.mu.gone, m.mu.opened = true, nil
	m.mu.Unlock()
	for _, b := range opened {
		b.Close()
	}
}

func (m *Message) valid() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.gone {
		return errGone
	}
	return nil
}

func (m *Message) closeLater(b spool.Body) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.gone {
		b.Close()
		return errGone
	}
	m.mu.opened = append(m.mu.opened, b)
	return nil
}
