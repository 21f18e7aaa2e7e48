package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// inlineResult is what one message of a transaction becomes when its callback
// runs before the reply.
type inlineResult struct {
	changes []spool.Change
	records []Record
	message *Message
	err     error
}

// Inject runs the inject callback on the body for each entry, and then makes
// the messages durable in the queues that they are bound for. It is what a
// listener does without DeferredQueue; the messages do not pass the queue
// [Deferred]. partial: the messages whose callback failed are left out (LMTP,
// RFC 2033); else one failure and nothing is stored.
//
// errs is nil if all were accepted, else it holds one error per entry, nil for
// those that were or, without partial, could have been. A [*RejectError]
// carries the code for the client: it is there only if it is the outermost
// verdict, or a 4xx inside of RetryAfter. Drop and Hold accept the message. A
// Split is its worst verdict, for all recipients of the message, under LMTP too;
// but a Drop of some while others are accepted is a transient failure.
//
// Of the entries Inject reads what Commit does. It needs Run to be running, and
// waits a second for it to be called. ctx is the callbacks' too; a callback that
// is still running when it ends cannot move its message on.
func (t *Transaction) Inject(ctx context.Context, partial bool, entries ...*spool.Entry) (errs []error) {
	if err := t.begin(ctx, entries); err != nil {
		return repeat(err, len(entries))
	}
	t.s.awaitRun(ctx)
	results := make([]inlineResult, len(entries))
	errs = make([]error, len(entries))
	failed := 0
	for i, e := range entries {
		results[i] = t.injectOne(ctx, e)
		if errs[i] = results[i].err; errs[i] != nil {
			failed++
		}
	}
	defer func() {
		for _, r := range results {
			if r.message != nil {
				r.message.Discard()
			}
		}
	}()
	if failed == len(entries) || failed > 0 && !partial {
		t.failure = errors.Join(errs...)
		return errs
	}
	if err := t.storeInjected(ctx, results); err != nil {
		t.failure = err
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	if failed == 0 {
		return nil
	}
	return errs
}

func repeat(err error, n int) []error {
	errs := make([]error, max(n, 1))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// storeInjected makes what the callbacks of a transaction left durable.
func (t *Transaction) storeInjected(ctx context.Context, results []inlineResult) error {
	var unit spool.Unit
	var stored []*spool.Entry
	var after []Record
	for _, r := range results {
		if r.err != nil {
			continue
		}
		unit = append(unit, r.changes...)
		after = append(after, r.records...)
		for _, c := range r.changes {
			stored = append(stored, c.Entry)
		}
	}
	if len(unit) > 0 {
		if errs := t.s.spool.Apply(ctx, unit); len(errs) > 0 && errs[0] != nil {
			return fmt.Errorf("queue: storing %d messages: %w", len(unit), errs[0])
		}
	}
	for i := range after {
		for _, e := range stored {
			if after[i].ID == e.ID {
				after[i].Size = e.Size
			}
		}
	}
	t.stored, t.after, t.done, t.storedAt = stored, after, true, time.Now()
	return nil
}

// injectOne runs the callback on one message and says what is to be stored.
func (t *Transaction) injectOne(ctx context.Context, e *spool.Entry) (r inlineResult) {
	if r.err = context.Cause(ctx); r.err != nil {
		return r
	}
	body, err := t.writer.Open()
	if err != nil {
		r.err = fmt.Errorf("queue: reading the staged body: %w", err)
		return r
	}
	e.Size = int64(len(e.Header)) + body.Size()
	body.Close()

	m, err := t.callInline(ctx, e)
	if m == nil {
		r.err = err
		return r
	}
	r.message = m
	m.invalidate()
	now := time.Now()
	v := classify(err)
	if v.kind == split {
		v = splitInline(v, len(e.Envelope.Recipients))
	}
	switch v.kind {
	case success:
		t.bindInline(&r, e, m, now)
	case drop:
		r.records = []Record{t.s.reception(e), t.s.record(AdminBounce, e, now, v.response)}
	case hold:
		held := e.Clone()
		held.State, held.LastError = spool.Held, v.response.Content
		r.changes = []spool.Change{{Op: spool.Insert, Entry: held, Stage: t.writer, Keep: true}}
		r.records = []Record{t.s.reception(held), t.s.record(TransientFailure, held, now, v.response)}
	default:
		r.err = v.refusal()
	}
	for i := range r.records { // nothing is in the spool yet
		if rec := &r.records[i]; rec.ID == e.ID {
			rec.Headers = t.s.recordHeaders(e, t.writer.Open)
		}
	}
	return r
}

// splitInline is the verdict of a Split on the whole message: its worst one.
// Where that would drop a message that has a recipient left, it is a failure.
func splitInline(v verdict, recipients int) verdict {
	if len(v.parts) != recipients {
		return classify(errMiscounted(v, recipients))
	}
	worst := worstOf(v.parts)
	kept := func(err error) bool { return classifyPart(err).kind != drop }
	if worst.kind == drop && slices.ContainsFunc(v.parts, kept) {
		return classify(errors.New("queue: before the reply a Split cannot drop some of the recipients of a message and keep others"))
	}
	return worst
}

// refusal returns the error for the client of a verdict that is transient or
// rejects: a *RejectError if that is what counts. What another verdict or an
// error that is none wraps is hidden: it must not turn a failure that is
// transient into one that is permanent.
func (v verdict) refusal() (err error) {
	defer func() {
		if recover() != nil { // a method of the host's error did not stand being asked
			err = fmt.Errorf("queue: the inject callback: %s", v.response.Content)
		}
	}()
	if r, ok := errors.AsType[*RejectError](v.err); ok && r != nil && r.verdict().kind == v.kind {
		return r
	}
	if errors.Is(v.err, spool.ErrFull) {
		return fmt.Errorf("queue: the inject callback: %w: %s", spool.ErrFull, v.response.Content)
	}
	return fmt.Errorf("queue: the inject callback: %s", v.response.Content)
}

func (t *Transaction) bindInline(r *inlineResult, e *spool.Entry, m *Message, now time.Time) {
	next, err := t.s.bind(m, now)
	if err = errors.Join(err, m.refused()); err != nil {
		r.err = err
		return
	}
	if next == nil {
		r.records = []Record{t.s.reception(e)}
	} else {
		stage := m.source.stage
		if stage == nil {
			stage = t.writer
		}
		next.Rev = 0
		r.changes = []spool.Change{{Op: spool.Insert, Entry: next, Stage: stage, Keep: true}}
		r.records = []Record{t.s.reception(next)}
	}
	for _, c := range m.emits {
		if err := t.s.checkTarget(c.Entry.Queue); err != nil {
			r.err = fmt.Errorf("queue: an emitted message: %w", err)
			return
		}
		c.Keep = true
		r.changes = append(r.changes, c)
		rec := t.s.reception(c.Entry)
		rec.Headers = t.s.recordHeaders(c.Entry, c.Stage.Open)
		r.records = append(r.records, rec)
	}
}

// callInline runs the callback as a task of the scheduler and waits for it. It
// returns no Message if the callback has not returned in time; the working copy
// is then discarded whenever it does.
func (t *Transaction) callInline(ctx context.Context, e *spool.Entry) (*Message, error) {
	s := t.s
	if !s.works(ctx) {
		return nil, fmt.Errorf("%w or was not started: Inject needs Scheduler.Run", ErrStopped)
	}
	timeout := s.opts.Configure(Deferred).withDefaults(Deferred).Timeout
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w after %v", ErrDeadline, timeout))
		defer stop()
	}
	defer context.AfterFunc(s.jobs, func() { cancel(context.Cause(s.jobs)) })()

	staged := &staged{w: t.writer}
	m := newMessage(ctx, s.spool, e, staged.open)
	m.target = s.checkTarget
	returned := make(chan error, 1)
	var decided atomic.Bool // by the return, or by the end of ctx
	started := s.pool.run(func() {
		err := error(errExited)
		defer func() {
			if !decided.CompareAndSwap(false, true) {
				m.Discard()
				return
			}
			returned <- err
		}()
		err = s.call(ctx, s.inject, m)
	})
	if !started {
		return nil, ErrStopped
	}
	select {
	case err := <-returned:
		if cause := context.Cause(ctx); cause != nil {
			m.Discard()
			return nil, cause
		}
		return m, err
	case <-ctx.Done():
		m.invalidate()
		staged.leave()
		if !decided.CompareAndSwap(false, true) {
			<-returned
			m.Discard()
		}
		return nil, context.Cause(ctx)
	}
}

// startGrace is how long Inject waits for Run to be called: a host that starts a
// listener and a scheduler at once does not know which of them comes first.
const startGrace = time.Second

// awaitRun waits for Run to be called, for a while.
func (s *Scheduler) awaitRun(ctx context.Context) {
	if s.phaseNow() != idle {
		return
	}
	grace := time.NewTimer(startGrace)
	defer grace.Stop()
	select {
	case <-s.begun:
	case <-grace.C:
	case <-ctx.Done():
	}
}

// works reports whether the scheduler runs. It waits for one that is about to.
func (s *Scheduler) works(ctx context.Context) bool {
	at := s.phaseNow()
	if at == starting {
		select {
		case <-s.begun:
		case <-ctx.Done():
		}
		at = s.phaseNow()
	}
	return at == running
}

func (s *Scheduler) phaseNow() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.phase
}

// A staged is the Writer of a transaction, as a callback sees it that may run on
// when the transaction has ended: a Writer is not for concurrent use.
type staged struct {
	mu sync.Mutex
	w  spool.Writer // nil: left
}

func (s *staged) open() (spool.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return nil, errGone
	}
	return s.w.Open()
}

// leave lets nobody open the Writer any more.
func (s *staged) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = nil
}
