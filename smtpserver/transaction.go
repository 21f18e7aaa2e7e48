package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// How a transaction was answered. The first to decide wins.
const (
	undecided int32 = iota
	accepted        // with 250
	overdue         // by the watchdog
)

// A transaction is one message from MAIL to its reply. It holds all that belongs
// to it, so that nothing of it can become another's.
type transaction struct {
	r       *reception
	env     spool.Envelope
	rcptTo  []string // the recipients as go-smtp knows them, in the order of env.Recipients
	names   []string // the recipients' addresses, for records
	size    int64    // announced at MAIL
	content *content // nil before DATA or the first BDAT; &taken from then on
	taken   content
	q       *queue.Transaction

	// stored says that messages wait for the hand-over.
	stored   bool
	decision atomic.Int32

	// While content is being taken nobody else ends the transaction: go-smtp may
	// call Reset and Logout on another goroutine then.
	mu struct {
		sync.Mutex
		working bool
		idle    chan struct{} // closed when it ends; made by who waits for it
		ended   bool
	}
}

// work marks that content is being taken, until rest.
func (tx *transaction) work() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.mu.working = true
}

// rest ends the transaction if that was asked for meanwhile.
func (tx *transaction) rest() {
	tx.mu.Lock()
	tx.mu.working = false
	if tx.mu.idle != nil {
		close(tx.mu.idle)
		tx.mu.idle = nil
	}
	ended := tx.mu.ended
	tx.mu.Unlock()
	if ended {
		tx.end()
	}
}

// working returns a channel that is closed when no content is being taken any
// more, nil if none is.
func (tx *transaction) working() <-chan struct{} {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.mu.working && tx.mu.idle == nil {
		tx.mu.idle = make(chan struct{})
	}
	return tx.mu.idle
}

// open is the beginning of the content: the gates are looked at again, and the
// spool makes room.
func (tx *transaction) open(dotted bool) error {
	if err := tx.r.gate.check(); err != nil && !errors.Is(err, errDraining) {
		return err
	}
	q, err := tx.r.sched.Begin(tx.r.link.context(), tx.size)
	if err != nil {
		return err
	}
	l := tx.r.opts.Limits
	tx.q = q
	tx.content = &tx.taken
	tx.taken = content{
		dst: q, dotted: dotted, binary: tx.env.Body == "BINARYMIME", endings: tx.r.opts.InvalidLineEndings,
		maxSize: l.MessageSize, lineLength: l.LineLength, maxHops: l.Hops,
	}
	tx.r.link.awaitContent()
	return nil
}

// openChunks is open for BDAT, where a refusal holds for all chunks: what was not
// taken from the beginning must not be taken from the middle.
func (tx *transaction) openChunks() {
	if err := tx.open(false); err != nil {
		tx.content = &content{refusal: err, maxSize: tx.r.opts.Limits.MessageSize}
	}
}

// errExcess says that a refused message did not end within the bound.
var errExcess = errors.New("smtpserver: refused message did not end")

// conclude turns content into messages, and says what the client is told: one
// reply, or under LMTP one for each recipient. err says why the content is not
// complete.
func (tx *transaction) conclude(err error) (replies []*reply) {
	defer func() {
		if p := recover(); p != nil {
			tx.r.logPanic("content", p)
			if tx.stored {
				tx.revoke()
			}
			replies = []*reply{replyPanic}
		}
	}()
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return []*reply{replyIdle}
	case errors.Is(err, errExcess):
		r := *tx.r.explain(tx.content.refusal)
		r.close = true
		return []*reply{&r}
	default:
		return []*reply{replyLost}
	}
	switch {
	case tx.content.refusal != nil:
		return tx.toAll(tx.r.explain(tx.content.refusal))
	case tx.r.link.lost():
		return []*reply{replyLost}
	}
	entries, err := tx.entries()
	if err != nil {
		return tx.toAll(tx.r.explain(err))
	}
	ctx := tx.r.dog.watch(tx)
	defer tx.r.dog.unwatch()
	errs := tx.store(ctx, entries)
	if tx.stored && !tx.decision.CompareAndSwap(undecided, accepted) {
		tx.revoke()
		return []*reply{replyProcessing} // the watchdog has said it
	}
	return tx.outcome(entries, errs)
}

// overdue is called by the watchdog when ProcessingTimeout and the grace have
// passed: the client is told without waiting any longer.
func (tx *transaction) overdue() {
	if !tx.decision.CompareAndSwap(undecided, overdue) {
		return
	}
	replies := 1
	if tx.r.opts.LMTP {
		replies = len(tx.env.Recipients)
	}
	tx.r.link.cutOff(replyProcessing, replies)
	tx.r.logger.Error("smtp message took too long to store", "timeout", tx.r.opts.Limits.ProcessingTimeout, "grace", tx.r.grace)
}

// store makes the entries durable: all or none, but under LMTP without
// DeferredQueue. errs is nil if all are.
func (tx *transaction) store(ctx context.Context, entries []*spool.Entry) (errs []error) {
	opts := tx.r.opts
	if !opts.DeferredQueue {
		if d := opts.Limits.ProcessingTimeout; d > 0 { // callbacks may ask ctx for its deadline
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		errs = tx.q.Inject(ctx, opts.LMTP, entries...)
		for i, err := range errs {
			errs[i] = withCause(ctx, err)
		}
		tx.stored = errs == nil || opts.LMTP && slices.Contains(errs, nil)
		return errs
	}
	keep := tx.q.Commit
	if opts.DeferredSpool {
		keep = tx.q.Keep
	}
	if err := keep(ctx, entries...); err != nil {
		return []error{withCause(ctx, err)}
	}
	tx.stored = true
	return nil
}

// withCause returns why ctx ended instead of an error that says only that it did.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// revoke removes what was stored although the client was told to try again.
func (tx *transaction) revoke() {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tx.q.Revoke(ctx); err != nil {
		tx.r.logger.Error("smtp message was stored too late and could not be removed: it will be injected", "error", err)
	}
	tx.stored = false
}

// end is called behind the reply, and when the transaction is given up.
func (tx *transaction) end() {
	tx.mu.Lock()
	tx.mu.ended = true
	working := tx.mu.working
	tx.mu.Unlock()
	switch {
	case working: // rest does it
	case tx.stored:
		tx.q.HandOver()
		tx.stored = false
		tx.q.Abort() // callbacks may have left nothing that refers to the body
	case tx.q != nil:
		tx.q.Abort()
	}
}

// entries splits the transaction into messages that share the body and their metadata.
func (tx *transaction) entries() ([]*spool.Entry, error) {
	r := tx.r
	groups := r.opts.Batch(tx.env.Clone())
	if err := checkBatch(tx.env, groups); err != nil {
		return nil, err
	}
	meta, at := r.meta(), received()
	class := r.class(meta)
	entries := make([]*spool.Entry, len(groups))
	for i, rcpts := range groups {
		env := tx.env
		env.Recipients = rcpts
		e := &spool.Entry{ID: spool.NewID(), Class: class, Received: at, Envelope: env, Meta: meta}
		e.Header = r.trace(e)
		entries[i] = e
	}
	return entries, nil
}

// checkBatch makes sure that no recipient was lost, or got the message twice.
func checkBatch(env spool.Envelope, groups [][]spool.Recipient) error {
	left := make(map[string]int, len(env.Recipients))
	for _, r := range env.Recipients {
		left[r.Address]++
	}
	for _, g := range groups {
		if len(g) == 0 {
			return errors.New("smtpserver: Options.Batch returned an empty group: leave it out")
		}
		for _, r := range g {
			left[r.Address]--
		}
	}
	for addr, n := range left {
		if n != 0 {
			return fmt.Errorf("smtpserver: Options.Batch: recipient %q is in %d groups too few: put each in exactly one", addr, n)
		}
	}
	return nil
}
