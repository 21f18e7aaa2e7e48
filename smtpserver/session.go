package smtpserver

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/netip"

	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/spool"
)

// maxPath bounds an address: RFC 5321, sections 4.5.3.1.1 to 4.5.3.1.3.
const maxPath = 64 + 1 + maxDomain

// maxDomain bounds the name that a client gives itself: RFC 5321, section 4.5.3.1.2.
const maxDomain = 255

// maxParameter bounds ORCPT and ENVID, which are kept: RFC 3461 wants less.
const maxParameter = 1 << 10

// A session is one connection of a Listener, as go-smtp sees it. Its methods run
// on the goroutine of the connection.
type session struct {
	*reception
	l             *Listener
	c             *conn
	d             *dialogue
	local         bool              // connected by other means than IP
	foreign       bool              // the address was claimed for it
	claimed       xclient           // by XCLIENT
	connected     map[string]string // pub.Meta as it was greeted with
	authenticated bool              // by AUTH itself
	announced     int64             // SIZE of MAIL, if it is more than go-smtp can read
	messages      int               // transactions begun
}

func newSession(l *Listener, c *conn, d *dialogue) *session {
	raw := c.raw
	s := &session{l: l, c: c, d: d, local: isLocal(raw.LocalAddr())}
	s.reception = &reception{intake: l.intake, opts: &l.opts, link: c, via: [2]string{raw.LocalAddr().String(), raw.RemoteAddr().String()}}
	s.pub = &Session{
		ID:     spool.NewID().String(),
		Remote: addrPort(raw.RemoteAddr()),
		Local:  addrPort(raw.LocalAddr()),
	}
	s.settle(nil)
	return s
}

// settle makes the session what the addresses of the client and of ours ask for:
// at the beginning, and again when the client's is claimed to be another.
func (s *session) settle(meta map[string]string) {
	opts, own := s.l.opts.with(s.pub.Remote.Addr(), s.pub.Local.Addr())
	s.opts, s.c.limits = opts, &opts.Limits
	s.pub.Meta = map[string]string{}
	maps.Copy(s.pub.Meta, own)
	maps.Copy(s.pub.Meta, meta)
	s.logger = s.l.opts.Logger.With(slog.String("session_id", s.pub.ID), slog.String("peer", s.peer()))
}

// claim takes another address of the client for its own; see [reception.claim].
func (s *session) claim(remote, local netip.AddrPort) {
	s.local, s.foreign = false, true
	s.settle(s.reception.claim(remote, local))
}

// hook is [reception.hook], during which replies are not held back for long.
func (s *session) hook(name string, set bool, call func(ctx context.Context) error) error {
	if !set {
		return nil
	}
	defer s.c.flushSoon()()
	return s.reception.hook(name, set, call)
}

var (
	_ smtp.LMTPSession = (*session)(nil)
	_ smtp.AuthSession = (*session)(nil)
)

// refuse returns err as the reply that go-smtp writes, and that stays as it is.
func (s *session) refuse(err error) error {
	s.d.own = true
	return s.reception.refuse(err)
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
	if s.claimed.helo != "" {
		s.pub.Hello = s.claimed.helo
	}
	err := s.hook("Hello", s.opts.Hooks.Hello != nil, func(ctx context.Context) error {
		return s.opts.Hooks.Hello(ctx, s.pub)
	})
	if err != nil {
		s.pub.Hello = old
		return err
	}
	s.extended = verb != "HELO"
	if s.claimed.proto != "" {
		s.extended = s.claimed.proto != "SMTP"
	}
	return nil
}

// Mail begins a transaction.
func (s *session) Mail(from string, opts *smtp.MailOptions) (err error) {
	defer s.contain("MAIL", &err)
	if s.givenUp() {
		s.finish()
	}
	env, size := envelope(opts)
	size = max(size, s.announced)
	if err := s.mayBegin(&env, size); err != nil {
		return s.refuse(err)
	}
	sender, ok := mailbox(from, env.SMTPUTF8)
	switch {
	case !ok && !env.SMTPUTF8 && !isASCII(from):
		return s.refuse(replySenderUTF8)
	case !ok:
		return s.refuse(replySender)
	}
	env.Sender = sender
	err = s.hook("Mail", s.opts.Hooks.Mail != nil, func(ctx context.Context) error {
		return s.opts.Hooks.Mail(ctx, s.pub, &env)
	})
	if err != nil {
		return s.refuse(err)
	}
	s.messages++
	s.begin(env, size)
	return nil
}

// mayBegin says why no transaction can begin now.
func (s *session) mayBegin(env *spool.Envelope, size int64) error {
	l := s.opts.Limits
	switch {
	case s.c.broken.Load():
		return replyLost
	case s.pub.Hello == "":
		return replyHello
	case s.current() != nil:
		return replyNested
	case len(env.EnvID) > maxParameter:
		return replyEnvID
	case s.opts.TLS.Require && s.pub.TLS == nil:
		return replyNeedTLS
	case s.opts.Auth.Require && s.pub.AuthnID == "":
		return replyNeedAuth
	case env.RequireTLS && s.pub.TLS == nil:
		return replyRequireTLS
	case l.Messages > 0 && s.messages >= l.Messages:
		return replyMessages
	case l.MessageSize > 0 && size > l.MessageSize:
		return replyTooLarge
	}
	return s.gate.check()
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) (err error) {
	defer s.contain("RCPT", &err)
	tx := s.current()
	switch {
	case tx == nil || s.c.broken.Load():
		return s.refuse(replyNoMail)
	case tx.content != nil:
		return s.refuse(replyChunking)
	case !s.mayRelay():
		if len(s.AuthMechanisms()) > 0 {
			return s.refuse(replyNeedAuth)
		}
		return s.refuse(replyRelay)
	case s.opts.Limits.Recipients > 0 && len(tx.env.Recipients) >= s.opts.Limits.Recipients:
		return s.refuse(replyTooManyRecipients)
	}
	rcpt := recipient(opts)
	rcpt.ORcpt = unmark(rcpt.ORcpt)
	var ok bool
	rcpt.Address, ok = mailbox(to, tx.env.SMTPUTF8)
	switch {
	case !ok && !tx.env.SMTPUTF8 && !isASCII(to):
		return s.refuse(replyRecipientUTF8)
	case !ok || rcpt.Address == "":
		return s.refuse(replyRecipient)
	case len(rcpt.ORcpt) > maxParameter || !validText(rcpt.ORcpt, true):
		return s.refuse(replyORcpt)
	}
	err = s.hook("Rcpt", s.opts.Hooks.Rcpt != nil, func(ctx context.Context) error {
		return s.opts.Hooks.Rcpt(ctx, s.pub, &rcpt)
	})
	if err != nil {
		return s.refuse(err)
	}
	tx.env.Recipients = append(tx.env.Recipients, rcpt)
	return nil
}

// Data is not called: the conn keeps DATA and BDAT from go-smtp.
func (s *session) Data(io.Reader) error {
	s.link.fail()
	return replyPanic.smtp()
}

// LMTPData is not called either.
func (s *session) LMTPData(r io.Reader, _ smtp.StatusCollector) error { return s.Data(r) }

// Reset ends the transaction: go-smtp calls it at RSET and EHLO. It runs under the
// lock of go-smtp's connection.
func (s *session) Reset() { s.finish() }

// Logout ends the session. It must not panic: go-smtp would end the process.
func (s *session) Logout() error {
	s.finish()
	s.dog.stop()
	return nil
}

func firstWord(s string) string {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}
