package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// An intake is where the messages of many connections go.
type intake struct {
	sched *queue.Scheduler
	gate  *gate
	grace time.Duration // for a commit that was begun, beyond ProcessingTimeout
}

// defaultGrace is how long a commit that was begun is awaited after
// ProcessingTimeout.
const defaultGrace = 30 * time.Second

// A link is the connection of a reception.
type link interface {
	context() context.Context // ends with the connection
	fail()                    // execute no command and commit nothing any more
	lost() bool               // fail was called, or the client is gone
	setBusy(bool)             // in a transaction
	awaitContent()            // the content begins
	cutOff(r *reply, n int)   // n times r as the last word, from any goroutine
}

// A reception is what MAIL, RCPT and the content of messages do on one
// connection, whoever speaks the protocol. It has all that outlives a message;
// the rest is in its transaction.
type reception struct {
	*intake
	opts     *Options // that hold for this client
	link     link
	pub      *Session
	logger   *slog.Logger
	via      [2]string                // the ends of the connection where they are not IP: local, remote
	extended bool                     // said EHLO
	more     func() map[string]string // metadata of a host that has its own session; may be nil

	dog watchdog

	known struct { // what meta returned last
		key     metaKey
		set     map[string]string
		meta    map[string]string
		from    []byte // the beginning of a Received field
		dated   time.Time
		date    []byte // of dated, in a Received field
		network string // the class of a client that has no better
	}

	mu struct {
		sync.Mutex
		tx *transaction // nil: none
	}
}

// current returns the transaction that MAIL began, nil if there is none.
func (r *reception) current() *transaction {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.tx
}

func (r *reception) setCurrent(tx *transaction) (old *transaction) {
	r.mu.Lock()
	old, r.mu.tx = r.mu.tx, tx
	r.mu.Unlock()
	r.link.setBusy(tx != nil)
	return old
}

// begin begins a transaction.
func (r *reception) begin(env spool.Envelope, size int64) {
	env.Recipients = nil
	r.setCurrent(&transaction{r: r, env: env, size: size})
}

// finish ends the transaction, behind the reply to its content or when it is given up.
func (r *reception) finish() {
	defer func() {
		if p := recover(); p != nil {
			r.logPanic("end of transaction", p)
			r.link.fail()
		}
	}()
	if tx := r.setCurrent(nil); tx != nil {
		tx.end()
	}
}

// givenUp reports whether the transaction is one whose BDAT was refused: what
// follows but BDAT belongs to another.
func (r *reception) givenUp() bool {
	tx := r.current()
	return tx != nil && tx.content != nil && tx.content.refusal != nil
}

// contentReady says why content cannot come now.
func (r *reception) contentReady(verb string) (tx *transaction, refused *reply) {
	tx = r.current()
	switch {
	case tx == nil:
		return nil, replyNoMail
	case len(tx.env.Recipients) == 0:
		return nil, replyNoRecipients
	case verb == "DATA" && tx.content != nil:
		return nil, replyChunking
	case verb == "DATA" && tx.env.Body == string(smtp.BodyBinaryMIME):
		return nil, replyBinary
	}
	return tx, nil
}

// logPanic tells of a panic of a function of the host's, or of ours.
func (r *reception) logPanic(where string, p any) {
	r.logger.Error("smtp session panicked", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// contain turns a panic into a reply that ends the connection.
func (r *reception) contain(where string, err *error) {
	if p := recover(); p != nil {
		r.logPanic(where, p)
		r.link.fail()
		*err = replyPanic.smtp()
	}
}

// refuse returns err, which is not nil, as the reply that go-smtp writes.
func (r *reception) refuse(err error) error {
	answer := r.explain(err)
	if answer.close {
		r.link.fail()
	}
	return answer.smtp()
}

// explain turns an error into a reply, and logs what the client is not told.
// nil stays nil.
func (r *reception) explain(err error) *reply {
	if err == nil {
		return nil
	}
	answer := toReply(err)
	if _, own := err.(*reply); !own && (answer == replyTemporary || answer == replyStorage) {
		r.logger.Error("smtp transaction failed", "error", err)
	}
	return answer
}

// hook runs one of the host's functions, if it is set.
func (r *reception) hook(name string, set bool, call func(ctx context.Context) error) (err error) {
	if !set {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			r.logPanic("Hooks."+name, p)
			err = replyPanic
		}
	}()
	ctx, cancel := r.processing()
	defer cancel()
	if err = call(ctx); err == nil {
		return nil
	}
	r.logger.Info("smtp hook refused", "hook", name, "error", err)
	var verdict *queue.RejectError
	if !errors.As(err, &verdict) {
		return replyTemporary // whatever err wraps: only a verdict may be permanent
	}
	return verdictReply(verdict)
}

// processing returns a context that ends with the connection or after ProcessingTimeout.
func (r *reception) processing() (context.Context, context.CancelFunc) {
	if d := r.opts.Limits.ProcessingTimeout; d > 0 {
		return context.WithTimeout(r.link.context(), d)
	}
	return context.WithCancel(r.link.context())
}

// envelope returns what MAIL said, but for its address.
func envelope(opts *smtp.MailOptions) (env spool.Envelope, size int64) {
	if opts == nil {
		return env, 0
	}
	env.SMTPUTF8, env.RequireTLS = opts.UTF8, opts.RequireTLS
	env.Body, env.Ret, env.EnvID = string(opts.Body), string(opts.Return), opts.EnvelopeID
	return env, opts.Size
}

// recipient returns what RCPT said, but for its address.
func recipient(opts *smtp.RcptOptions) (rcpt spool.Recipient) {
	if opts == nil {
		return rcpt
	}
	for _, n := range opts.Notify {
		rcpt.Notify = append(rcpt.Notify, string(n))
	}
	if opts.OriginalRecipient != "" {
		rcpt.ORcpt = string(opts.OriginalRecipientType) + ";" + opts.OriginalRecipient
	}
	return rcpt
}
