package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// maxPath bounds an address: RFC 5321, sections 4.5.3.1.1 to 4.5.3.1.3.
const maxPath = 64 + 1 + maxDomain

// maxDomain bounds the name that a client gives itself: RFC 5321, section 4.5.3.1.2.
const maxDomain = 255

// A session is one connection's, for go-smtp: all state of a message is in its
// transaction. Methods run on the goroutine of the connection, but for Data
// with BDAT and LMTPData.
type session struct {
	l        *Listener
	c        *conn
	pub      *Session
	logger   *slog.Logger
	local    bool // connected by other means than IP
	extended bool // said EHLO
	messages int  // transactions begun
	ending   *transaction

	mu struct {
		sync.Mutex
		tx *transaction // nil: none
	}
}

func newSession(c *conn) *session {
	s := &session{l: c.l, c: c, local: isLocal(c.raw.RemoteAddr())}
	s.pub = &Session{
		ID:     spool.NewID().String(),
		Remote: addrPort(c.raw.RemoteAddr()),
		Local:  addrPort(c.raw.LocalAddr()),
		Meta:   map[string]string{},
	}
	s.logger = c.l.opts.Logger.With(slog.String("session_id", s.pub.ID), slog.String("peer", s.peer()))
	return s
}

var (
	_ smtp.LMTPSession = (*session)(nil)
	_ smtp.AuthSession = (*session)(nil)
)

// current returns the transaction that MAIL began, nil if there is none.
func (s *session) current() *transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.tx
}

func (s *session) setCurrent(tx *transaction) (old *transaction) {
	s.mu.Lock()
	old, s.mu.tx = s.mu.tx, tx
	s.mu.Unlock()
	s.c.setBusy(tx != nil)
	return old
}

// contain turns a panic into a reply that ends the connection.
func (s *session) contain(where string, err *error) {
	if p := recover(); p != nil {
		s.logPanic(where, p)
		s.c.fail()
		*err = replyPanic.smtp()
	}
}

func (s *session) logPanic(where string, p any) {
	s.logger.Error("smtp session panicked", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// refuse returns err, which is not nil, as the reply that go-smtp writes.
func (s *session) refuse(err error) error {
	r := s.explain(err).(*reply)
	if r.close {
		s.c.fail()
	}
	return r.smtp()
}

// explain turns an error into a *reply, and logs what the client is not told.
// nil stays nil.
func (s *session) explain(err error) error {
	if err == nil {
		return nil
	}
	r := toReply(err)
	if _, own := err.(*reply); !own && (r == replyTemporary || r == replyStorage) {
		s.logger.Error("smtp transaction failed", "error", err)
	}
	return r
}

// hook runs one of the host's functions, if it is set.
func (s *session) hook(name string, set bool, call func(ctx context.Context) error) (err error) {
	if !set {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			s.logPanic("Hooks."+name, p)
			err = replyPanic
		}
	}()
	ctx, cancel := s.processing()
	defer cancel()
	if err = call(ctx); err == nil {
		return nil
	}
	s.logger.Info("smtp hook refused", "hook", name, "error", err)
	var verdict *queue.RejectError
	if !errors.As(err, &verdict) {
		return replyTemporary // whatever err wraps: only a verdict may be permanent
	}
	return verdictReply(verdict)
}

// processing returns a context that ends with the connection or after ProcessingTimeout.
func (s *session) processing() (context.Context, context.CancelFunc) {
	if d := s.l.opts.Limits.ProcessingTimeout; d > 0 {
		return context.WithTimeout(s.c.ctx, d)
	}
	return context.WithCancel(s.c.ctx)
}

// hello is EHLO, HELO or LHLO, before go-smtp answers it.
func (s *session) hello(verb, arg string) error {
	if s.l.opts.LMTP != (verb == "LHLO") || arg == "" {
		return nil // go-smtp refuses it
	}
	if len(firstWord(arg)) > maxDomain {
		return replyHelloLong // go-smtp would send it back
	}
	old := s.pub.Hello
	s.pub.Hello = oneLine(firstWord(arg), maxDomain)
	err := s.hook("Hello", s.l.opts.Hooks.Hello != nil, func(ctx context.Context) error {
		return s.l.opts.Hooks.Hello(ctx, s.pub)
	})
	if err != nil {
		s.pub.Hello = old
		return err
	}
	s.extended = verb != "HELO"
	return nil
}

// Mail begins a transaction.
func (s *session) Mail(from string, opts *smtp.MailOptions) (err error) {
	defer s.contain("MAIL", &err)
	s.awaitContentEnd()
	if err := s.mayBegin(from); err != nil {
		return s.refuse(err)
	}
	env := spool.Envelope{Sender: from}
	if opts != nil {
		env.SMTPUTF8, env.RequireTLS = opts.UTF8, opts.RequireTLS
		env.Body, env.Ret, env.EnvID = string(opts.Body), string(opts.Return), opts.EnvelopeID
	}
	err = s.hook("Mail", s.l.opts.Hooks.Mail != nil, func(ctx context.Context) error {
		return s.l.opts.Hooks.Mail(ctx, s.pub, &env)
	})
	if err != nil {
		return s.refuse(err)
	}
	env.Recipients = nil
	tx := &transaction{s: s, env: env}
	if opts != nil {
		tx.size = opts.Size
	}
	s.messages++
	s.setCurrent(tx)
	return nil
}

// mayBegin says why no transaction can begin now.
func (s *session) mayBegin(from string) error {
	switch max := s.l.opts.Limits.Messages; {
	case s.c.broken.Load():
		return replyLost
	case s.pub.Hello == "":
		return replyHello
	case s.current() != nil:
		return replyNested
	case s.l.opts.TLS.Require && s.pub.TLS == nil:
		return replyNeedTLS
	case s.l.opts.Auth.Require && s.pub.AuthnID == "":
		return replyNeedAuth
	case max > 0 && s.messages >= max:
		return replyMessages
	case len(from) > maxPath:
		return replySender
	}
	if err := s.l.gate.check(); err != nil {
		return toReply(err)
	}
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) (err error) {
	defer s.contain("RCPT", &err)
	tx := s.current()
	switch {
	case tx == nil || s.c.broken.Load():
		return s.refuse(replyNoMail)
	case !s.mayRelay():
		if len(s.AuthMechanisms()) > 0 {
			return s.refuse(replyNeedAuth)
		}
		return s.refuse(replyRelay)
	case len(to) > maxPath:
		return s.refuse(replyRecipient)
	}
	rcpt := recipient(to, opts)
	err = s.hook("Rcpt", s.l.opts.Hooks.Rcpt != nil, func(ctx context.Context) error {
		return s.l.opts.Hooks.Rcpt(ctx, s.pub, &rcpt)
	})
	if err != nil {
		return s.refuse(err)
	}
	tx.env.Recipients = append(tx.env.Recipients, rcpt)
	tx.rcptTo = append(tx.rcptTo, to)
	return nil
}

func recipient(to string, opts *smtp.RcptOptions) spool.Recipient {
	rcpt := spool.Recipient{Address: to}
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

// Data takes the content under SMTP. With DATA it comes from the conn and r is
// left empty; with BDAT it comes through r, on a goroutine of go-smtp's.
func (s *session) Data(r io.Reader) error {
	if pipe, ok := r.(*io.PipeReader); ok {
		return s.chunked(pipe, nil)
	}
	return s.data(nil)
}

// LMTPData is [session.Data] with a reply for each recipient.
func (s *session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	if pipe, ok := r.(*io.PipeReader); ok {
		return s.chunked(pipe, status)
	}
	return s.data(status)
}

// Reset ends the transaction: go-smtp calls it behind the reply to the content,
// and at RSET and EHLO. It runs under the lock of go-smtp's connection.
func (s *session) Reset() {
	defer func() {
		if p := recover(); p != nil {
			s.logPanic("end of transaction", p)
			s.c.fail()
		}
	}()
	if tx := s.setCurrent(nil); tx != nil {
		s.ending = tx
		tx.end()
	}
}

// Logout ends the session. It must not panic: go-smtp would end the process.
func (s *session) Logout() error {
	s.Reset()
	return nil
}

// expectChunks prepares the transaction for the goroutine that go-smtp starts at
// the first BDAT.
func (s *session) expectChunks() {
	if tx := s.current(); tx != nil {
		tx.expectChunks()
	}
}

// awaitClaim waits until that goroutine has taken its transaction.
func (s *session) awaitClaim() {
	if tx := s.current(); tx != nil && tx.claimed != nil {
		<-tx.claimed
	}
}

// awaitContentEnd waits until the goroutine of a BDAT transaction that was
// reset has let go of it. That is soon: its reader has ended.
func (s *session) awaitContentEnd() {
	if tx := s.ending; tx != nil && tx.wasClaimed() {
		<-tx.done
	}
	s.ending = nil
}

func firstWord(s string) string {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}
