package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// ErrRecordsFull is what [Scheduler.Ready] answers while too many records wait
// to be taken by [Options.Record].
var ErrRecordsFull = errors.New("queue: too many records wait to be taken")

// A Transaction takes in one body and makes messages of it (RFC 5321, section
// 3.3). It is how a protocol server hands mail to a Scheduler; a host that has
// mail from elsewhere calls [Scheduler.Submit]. The order of calls is Begin, Write,
// then Commit, Keep or Inject, then HandOver or Revoke; Abort at any time, and
// always at the end. It is not for concurrent use.
type Transaction struct {
	s        *Scheduler
	writer   spool.Writer
	size     int64
	stored   []*spool.Entry // accepted and owned, not yet handed over
	body     *keptBody      // the Writer in the hands of the scheduler; nil: it is not
	received bool           // to be recorded of each of them then
	after    []Record       // to be recorded then
	done     bool
	aborted  bool

	begun, storedAt time.Time
	arrived         func(stored time.Time, err error) // of Options.Arriving
	told            bool                              // it was called
	failure         error                             // of Commit or Inject
}

// Ready says whether messages can be accepted at the moment: nil,
// [ErrRecordsFull], the Health of the spool, or why messages that were accepted
// by [Transaction.Keep] cannot be stored. It is cheap and never blocks.
func (s *Scheduler) Ready() error {
	if err := s.spool.Health(); err != nil {
		return err
	}
	if s.recorder.full() {
		return ErrRecordsFull
	}
	return s.kept.failure()
}

// Begin starts a Transaction. size is a hint of how long the body will be, 0 if
// unknown. The errors are those of [Scheduler.Ready] and of [spool.Spool.Create].
func (s *Scheduler) Begin(ctx context.Context, size int64) (*Transaction, error) {
	if err := s.Ready(); err != nil {
		return nil, err
	}
	w, err := s.spool.Create(ctx, size)
	if err != nil {
		return nil, fmt.Errorf("queue: beginning a transaction: %w", err)
	}
	return &Transaction{s: s, writer: w, begun: time.Now()}, nil
}

// Write appends to the body, with the errors of [spool.Writer].
func (t *Transaction) Write(p []byte) (int, error) {
	if t.body != nil {
		return 0, errors.New("queue: Transaction: Write after Keep")
	}
	n, err := t.writer.Write(p)
	t.size += int64(n)
	return n, err
}

// Open reads what was written so far.
func (t *Transaction) Open() (spool.Body, error) {
	if t.body != nil {
		return t.body.open(context.Background())
	}
	return t.writer.Open()
}

// Commit makes the body and one message per entry durable in the queue
// [Deferred], all or none. It returns nil only when they survive the loss of
// power. Of an entry it reads ID, Class, Envelope, Meta, Header, Received (zero:
// now) and Expires; the other fields it sets.
//
// ctx counts until the spool has taken the messages up; from then on Commit waits
// for the outcome. After nil the messages are owned by this process and nothing
// is done with them until HandOver or Revoke.
func (t *Transaction) Commit(ctx context.Context, entries ...*spool.Entry) error {
	if err := t.begin(ctx, entries); err != nil {
		return err
	}
	return t.commit(ctx, entries)
}

func (t *Transaction) commit(ctx context.Context, entries []*spool.Entry) error {
	if err := t.writer.Commit(ctx, entries...); err != nil {
		t.failure = fmt.Errorf("queue: storing %d messages: %w", len(entries), err)
		return t.failure
	}
	t.accept(entries)
	return nil
}

// accept notes what HandOver hands over and records as received.
func (t *Transaction) accept(entries []*spool.Entry) {
	t.stored, t.received, t.done, t.storedAt = entries, true, true, time.Now()
}

// Keep is Commit, but for that it may leave the body and its messages in memory:
// a message is then stored only when the inject callback fails, rejects, drops or
// holds it, when its success binds it for another queue or emits messages, when
// there is no slot for it at the hand-over, or when the scheduler stops; what is
// left of one body is stored together. A message that ends with the success of
// the callback is never stored.
//
// What is in memory when the process or the machine dies is lost although Keep
// returned nil: at most its Reception record is left of it. Messages that Run
// could not store before it returned are counted in its error, see [ErrNotSaved].
// As long as the spool does not take a message, the message stays in memory,
// storing it is tried again, its callback is not called again, and
// [Scheduler.Ready] answers why.
//
// Keep does what Commit does, with the guarantee of that, for a body of more than
// 1 MiB or more than 256 messages, when more than 64 MiB would be in memory, while
// Ready answers an error, while the scheduler has no slot free for each of the
// messages or others wait before them, and when it does not run. Otherwise it does
// not wait for the disk. [Stats] tells what is in memory.
//
// The entries must not be changed afterwards. Messages for which neither HandOver
// nor Revoke is called are stored when the scheduler stops.
func (t *Transaction) Keep(ctx context.Context, entries ...*spool.Entry) error {
	if err := t.begin(ctx, entries); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("queue: keeping %d messages: %w", len(entries), context.Cause(ctx))
	}
	if !t.s.keeps(t.size, entries) {
		return t.commit(ctx, entries)
	}
	b := newKeptBody(t.writer, t.size, entries)
	if !t.s.kept.add(b) {
		return t.commit(ctx, entries)
	}
	t.body = b
	t.accept(entries)
	return nil
}

// begin checks and completes the entries of a Commit or an Inject.
func (t *Transaction) begin(ctx context.Context, entries []*spool.Entry) error {
	if t.done {
		return errors.New("queue: Transaction: used after it was committed")
	}
	if t.aborted {
		return errors.New("queue: Transaction: used after it was aborted")
	}
	if len(entries) == 0 {
		return errors.New("queue: Transaction: no message to store: every transaction needs an entry")
	}
	now := time.Now()
	for _, e := range entries {
		if e.ID.IsZero() || len(e.Envelope.Recipients) == 0 {
			return errors.New("queue: Transaction: an entry needs an ID and a recipient")
		}
		if e.Received.IsZero() {
			e.Received = now
		}
		if e.Class == "" {
			e.Class = class(e.Meta)
		}
		e.Body, e.Queue, e.State, e.Due = t.writer.ID(), Deferred, spool.Queued, now
		e.Attempts, e.Interrupted, e.Skip, e.Rev, e.LastError, e.Outcome = 0, 0, 0, 0, "", nil
	}
	t.arriving(ctx, entries)
	return nil
}

// HandOver ends a Transaction that was answered with success: it records the
// receptions and gives the messages to the scheduler. It does not wait for the
// records; of messages that Keep left in memory it stores those that find no slot.
// Without it the messages are found when the spool is next opened.
func (t *Transaction) HandOver() {
	entries := t.stored
	t.stored = nil
	t.tellArrived(nil)
	if t.received {
		for _, e := range entries {
			t.s.recorder.postReception(e, t.s.recordHeaders(e, t.Open))
		}
	}
	for _, r := range t.after {
		t.s.recorder.post(r)
	}
	t.after = nil
	t.s.handOver(entries, t.body)
}

// Revoke ends a Transaction that was committed but not answered with success: it
// removes the messages. After an error they are injected all the same, and
// recorded as received: a message too many is better than one too few.
func (t *Transaction) Revoke(ctx context.Context) error {
	if len(t.stored) == 0 {
		return nil
	}
	stored, err := t.unkeep(ctx)
	if err != nil {
		t.HandOver()
		return err
	}
	if !stored {
		t.stored, t.after = nil, nil
		return nil
	}
	unit := make(spool.Unit, len(t.stored))
	for i, e := range t.stored {
		unit[i] = spool.Change{Op: spool.Remove, Entry: e}
	}
	if errs := t.s.spool.Apply(ctx, unit); errs != nil {
		t.HandOver()
		return fmt.Errorf("queue: removing %d messages whose sender was told to try again: %w", len(unit), errs[0])
	}
	t.stored, t.after = nil, nil
	return nil
}

// unkeep ends what Keep has left in memory, and reports whether there is
// something to be removed from the spool.
func (t *Transaction) unkeep(ctx context.Context) (stored bool, err error) {
	switch {
	case t.body == nil:
		return true, nil
	case t.s.endKept(ctx, t.body, t.stored...):
		return false, nil
	}
	// The scheduler has stored it, or has tried to, because it stops.
	if err := t.s.saveOnce(ctx, t.body); err != nil {
		return false, fmt.Errorf("queue: removing %d messages whose sender was told to try again: %w", len(t.stored), err)
	}
	return true, t.body.revise(ctx, t.stored...)
}

// Abort discards a body that was neither committed nor kept.
func (t *Transaction) Abort() {
	switch {
	case t.failure != nil:
		t.tellArrived(t.failure)
	case !t.done || len(t.stored) == 0:
		t.tellArrived(errNotAccepted)
	}
	if t.body == nil {
		t.aborted = true
		t.writer.Abort()
	}
}

// reception is the record of a message that was just accepted.
func (s *Scheduler) reception(e *spool.Entry) Record {
	r := receptionRecord(e, e.Queue, e.Size, s.opts.NodeID)
	r.Headers = s.recordHeaders(e, func() (spool.Body, error) { return s.spool.Open(s.hard, e.Body) })
	return r
}

// receptionRecord is the record of the reception of e into a queue. Of e it reads
// only what never changes.
func receptionRecord(e *spool.Entry, queue string, size int64, nodeID string) Record {
	was := &spool.Entry{ID: e.ID, Queue: queue, Size: size, Received: e.Received, Envelope: e.Envelope, Meta: e.Meta}
	return newRecord(Reception, was, e.Received, Response{Code: 250, Enhanced: [3]int{2, 0, 0}, Content: "OK ids=" + e.ID.String()}, nodeID)
}

// Submit accepts a message that did not come by SMTP, into the deferred queue,
// one message per recipient, and returns their IDs. It returns nil error only
// when they are durable. meta goes into each message's metadata; body is taken
// as it is, without trace fields. Safe for concurrent use.
func (s *Scheduler) Submit(ctx context.Context, env spool.Envelope, meta map[string]string, body io.Reader) ([]spool.ID, error) {
	t, err := s.Begin(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer t.Abort()
	if _, err := io.Copy(t, body); err != nil {
		return nil, fmt.Errorf("queue: Submit: reading the body: %w", err)
	}
	var ids []spool.ID
	var entries []*spool.Entry
	for _, rcpts := range PerRecipient(env) {
		part := env
		part.Recipients = rcpts
		e := &spool.Entry{ID: spool.NewID(), Envelope: part.Clone(), Meta: meta}
		ids, entries = append(ids, e.ID), append(entries, e.Clone())
	}
	if err := t.Commit(ctx, entries...); err != nil {
		return nil, err
	}
	t.HandOver()
	return ids, nil
}
