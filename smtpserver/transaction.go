package smtpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

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
	s      *session
	env    spool.Envelope
	rcptTo []string // the recipients as go-smtp knows them, in the order of env.Recipients
	size   int64    // announced at MAIL
	q      *queue.Transaction

	// stored says that messages wait for the hand-over. The goroutine that has
	// the content writes it before it answers, end reads it behind the reply.
	stored   bool
	decision atomic.Int32

	// With BDAT the content has a goroutine of its own. These are nil without.
	claimed chan struct{} // closed when it has this transaction
	done    chan struct{} // closed when it has let go of it
}

// prepareData is DATA before it is answered with 354: the gates are looked at
// again, and the spool makes room.
func (s *session) prepareData() error {
	tx := s.current()
	if tx == nil || len(tx.env.Recipients) == 0 || tx.wasClaimed() {
		return nil // go-smtp refuses it
	}
	if err := s.l.gate.check(); err != nil && !errors.Is(err, errDraining) {
		return toReply(err)
	}
	if err := tx.begin(); err != nil {
		return s.explain(err)
	}
	s.c.awaitContent()
	return nil
}

func (tx *transaction) begin() (err error) {
	if tx.q == nil {
		tx.q, err = tx.s.l.sched.Begin(tx.s.c.ctx, tx.size)
	}
	return err
}

// data takes the content of DATA, and replies with one error, or one per
// recipient to status if that is not nil.
func (s *session) data(status smtp.StatusCollector) (err error) {
	tx := s.current()
	if tx == nil || tx.q == nil {
		s.c.fail()
		return replyPanic.smtp()
	}
	defer s.contain("DATA", &err)
	body := tx.reader(true)
	err = tx.fill(body, s.c.r)
	if err != nil {
		s.c.fail()
		return tx.answer(contentError(err, body), status)
	}
	s.c.pending = []byte(".\r\n") // for go-smtp, which awaits the end of an empty message
	return tx.answer(tx.complete(body), status)
}

// contentError is the reply when the content did not arrive as a whole.
func contentError(err error, body *bodyReader) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return replyIdle
	case errors.Is(err, errDrained):
		return body.refusal
	}
	return replyLost
}

// chunked takes the content of BDAT (RFC 3030) on a goroutine of go-smtp's. It
// returns only when the last chunk has come, so that its result is read by the
// command that waits for it.
func (s *session) chunked(r *io.PipeReader, status smtp.StatusCollector) (err error) {
	tx := s.claim()
	if tx == nil {
		_, err := io.Copy(io.Discard, r)
		exitIfReset(err)
		return s.refuse(replyNoMail)
	}
	defer close(tx.done)
	defer s.contain("BDAT", &err)
	body := tx.reader(false)
	err = tx.fill(body, bufio.NewReaderSize(r, readBuffer))
	if err != nil {
		if tx.q != nil {
			tx.q.Abort()
		}
		exitIfReset(err)
		return tx.answer(replyLost, status)
	}
	return tx.answer(tx.complete(body), status)
}

// exitIfReset ends the goroutine if go-smtp has given the transfer up. Its
// result has no reader any more: go-smtp would send it to whatever transaction
// has taken its place by now.
func exitIfReset(err error) {
	if errors.Is(err, smtp.ErrDataReset) {
		runtime.Goexit()
	}
}

func (tx *transaction) expectChunks() {
	if tx.claimed == nil {
		tx.claimed, tx.done = make(chan struct{}), make(chan struct{})
	}
}

// claim takes the current transaction for the goroutine of its content.
func (s *session) claim() *transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.mu.tx
	if tx == nil || tx.claimed == nil || tx.wasClaimed() {
		return nil
	}
	close(tx.claimed)
	return tx
}

func (tx *transaction) wasClaimed() bool {
	if tx.claimed == nil {
		return false
	}
	select {
	case <-tx.claimed:
		return true
	default:
		return false
	}
}

func (tx *transaction) reader(dotted bool) *bodyReader {
	l := tx.s.l.opts.Limits
	return &bodyReader{dotted: dotted, maxSize: l.MessageSize, lineLength: l.LineLength, maxHops: l.Hops}
}

// fill moves the content from src to the spool. What the spool says becomes the
// refusal of body.
func (tx *transaction) fill(body *bodyReader, src *bufio.Reader) error {
	if err := tx.begin(); err != nil {
		body.refuse(err)
	}
	w := tx.s.l.writers.Get().(*bufio.Writer)
	defer func() {
		w.Reset(nil)
		tx.s.l.writers.Put(w)
	}()
	w.Reset(tx.q)
	body.dst = w
	if err := body.read(src); err != nil {
		return err
	}
	if body.refusal == nil {
		if err := w.Flush(); err != nil {
			body.refuse(err)
		}
	}
	return nil
}

// complete turns a complete content into messages. The result is an outcome.
func (tx *transaction) complete(body *bodyReader) error {
	switch {
	case body.refusal != nil:
		return body.refusal
	case tx.s.c.broken.Load():
		return replyLost
	}
	entries, err := tx.entries()
	if err != nil {
		return err
	}
	ctx, stop := tx.watch()
	defer stop()
	errs := tx.store(ctx, entries)
	if tx.stored && !tx.decision.CompareAndSwap(undecided, accepted) {
		tx.revoke()
		return replyProcessing
	}
	return outcome(entries, errs)
}

// watch starts the clock of ProcessingTimeout. When it and the grace have
// passed, the client is told without waiting any longer.
func (tx *transaction) watch() (context.Context, func()) {
	s := tx.s
	ctx, cancel := s.processing()
	d := s.l.opts.Limits.ProcessingTimeout
	if d <= 0 {
		return ctx, cancel
	}
	replies := 1
	if s.l.opts.LMTP {
		replies = len(tx.rcptTo)
	}
	timer := time.AfterFunc(d+s.l.grace, func() {
		if tx.decision.CompareAndSwap(undecided, overdue) {
			s.logger.Error("smtp message took too long to store", "timeout", d, "grace", s.l.grace)
			s.c.cutOff(replyProcessing, replies)
		}
	})
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// store makes the entries durable: all or none, but under LMTP without
// DeferredQueue. errs is nil if all are.
func (tx *transaction) store(ctx context.Context, entries []*spool.Entry) (errs []error) {
	opts := &tx.s.l.opts
	if !opts.DeferredQueue {
		errs = tx.q.Inject(ctx, opts.LMTP, entries...)
		tx.stored = errs == nil || opts.LMTP && slices.Contains(errs, nil)
		for i, err := range errs {
			errs[i] = tx.s.explain(err)
		}
		return errs
	}
	if err := tx.q.Commit(ctx, entries...); err != nil {
		return []error{tx.s.explain(err)}
	}
	tx.stored = true
	return nil
}

// revoke removes what was stored although the client was told to try again.
func (tx *transaction) revoke() {
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tx.q.Revoke(ctx); err != nil {
		tx.s.logger.Error("smtp message was stored too late and could not be removed: it will be injected", "error", err)
	}
	tx.stored = false
}

// end is called behind the reply, and when the transaction is given up.
func (tx *transaction) end() {
	switch {
	case tx.wasClaimed() && !tx.finished():
		// The goroutine of the content aborts it: its reader has ended.
	case tx.stored:
		tx.q.HandOver()
		tx.stored = false
		tx.q.Abort() // callbacks may have left nothing that refers to the body
	case tx.q != nil:
		tx.q.Abort()
	}
}

func (tx *transaction) finished() bool {
	select {
	case <-tx.done:
		return true
	default:
		return false
	}
}

// entries splits the transaction into messages that share the body and their metadata.
func (tx *transaction) entries() ([]*spool.Entry, error) {
	s := tx.s
	groups := s.l.opts.Batch(tx.env.Clone())
	if err := checkBatch(tx.env, groups); err != nil {
		return nil, err
	}
	meta, at := s.meta(), received()
	class := s.class(meta)
	entries := make([]*spool.Entry, len(groups))
	for i, rcpts := range groups {
		env := tx.env
		env.Recipients = rcpts
		e := &spool.Entry{ID: spool.NewID(), Class: class, Received: at, Envelope: env, Meta: meta}
		e.Header = s.trace(e)
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
