package smtpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A MetaSession is a session of a wrapped backend that adds to the metadata of
// its messages, "tenant" and "authn_id" for one. Meta is called when the content
// of a message is complete, before it is stored, and for the record of a
// refusal; on the goroutine that its session is used from, so that it must not
// block. What it returns is copied.
type MetaSession interface{ Meta() map[string]string }

// Wrap returns a backend for a go-smtp server that already has one: next keeps
// the greeting, AUTH, MAIL and RCPT with all that it implements beside
// smtp.Session, and so it is next that says who may send what. Content is not
// passed to next: its Data and LMTPData are never called. It goes to s as with a
// [Listener], checked, with trace fields, and answered by the same rules.
//
// Of opts, which may be nil, it uses DeferredQueue, DeferredSpool, Batch,
// InvalidLineEndings, Trace, Logger, Hostname (by default the Domain of the
// server) and, of Limits, LineLength, Hops, MessageSize (or the server's
// MaxMessageBytes, if that is less), Memory, Queued* and ProcessingTimeout.
// [WrapListener] uses others; what neither does must be unset. Whether LMTP is
// spoken is for the server to say.
//
// The backend works on every connection of a go-smtp server. On those of a
// [WrappedListener] it takes the content past go-smtp; on others, and under
// STARTTLS, go-smtp's reader stands in between: it is slower, its
// MaxLineLength counts for content too, and a CR behind CRLF "." at the beginning
// of a line gets lost. When a connection ends inside of its content it is closed,
// whatever follows.
//
// The backend is safe for concurrent use. It does not stop s.
func Wrap(next smtp.Backend, s *queue.Scheduler, opts *Options) (smtp.Backend, error) {
	switch {
	case next == nil:
		return nil, errors.New("smtpserver: Wrap: the backend is nil: pass the one that your server has")
	case s == nil:
		return nil, errors.New("smtpserver: Wrap: the Scheduler is nil: make one by queue.NewScheduler")
	}
	o, err := resolveWrapped(opts)
	if err != nil {
		return nil, err
	}
	return &wrappedBackend{
		intake:  &intake{sched: s, gate: newGate(s, &o), grace: defaultGrace},
		next:    next,
		opts:    o,
		servers: make(map[*smtp.Server]*Options),
	}, nil
}

type wrappedBackend struct {
	*intake
	next smtp.Backend
	opts Options // resolved, but for what the server says

	mu      sync.Mutex
	servers map[*smtp.Server]*Options
}

// options are those that hold on connections of srv.
func (b *wrappedBackend) options(srv *smtp.Server) *Options {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.servers[srv]; ok {
		return o
	}
	o := b.opts
	o.LMTP = srv.LMTP
	if o.Hostname == "" {
		o.Hostname = srv.Domain
	}
	if resolveNames(&o) != nil { // the name of the server cannot stand in a Received field
		o.Hostname = "localhost"
	}
	if max := srv.MaxMessageBytes; max > 0 && (o.Limits.MessageSize == 0 || max < o.Limits.MessageSize) {
		o.Limits.MessageSize = max
	}
	b.servers[srv] = &o
	return &o
}

// NewSession is called by go-smtp at EHLO, and again behind STARTTLS.
func (b *wrappedBackend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	next, err := b.next.NewSession(c)
	if err != nil {
		return nil, err
	}
	raw := c.Conn()
	w := &wrapped{next: next, c: c}
	w.reception = &reception{
		intake: b.intake, opts: b.options(c.Server()), extended: true,
		via: [2]string{raw.LocalAddr().String(), raw.RemoteAddr().String()},
		pub: &Session{ID: spool.NewID().String(), Remote: addrPort(raw.RemoteAddr()), Local: addrPort(raw.LocalAddr()), Meta: map[string]string{}},
	}
	if m, ok := next.(MetaSession); ok {
		w.more = m.Meta
	}
	if state, ok := c.TLSConnectionState(); ok {
		w.pub.TLS = &state
	}
	w.attach(raw)
	w.logger = b.opts.Logger.With(slog.String("session_id", w.pub.ID), slog.String("peer", w.peer()))
	if auth, ok := next.(smtp.AuthSession); ok {
		return &wrappedAuth{w, auth}, nil
	}
	return w, nil
}

// attach finds the link of the session: a conn of a WrappedListener, with or
// without go-smtp's TLS on top, or another connection.
func (w *wrapped) attach(raw net.Conn) {
	under := raw
	if t, ok := raw.(*tls.Conn); ok {
		under = t.NetConn()
	}
	c, ok := under.(*conn)
	if !ok {
		w.link = newPlainLink(raw)
		return
	}
	w.link = c
	host := c.speaker.(*hostDialogue)
	host.s = w
	w.pub.ID = host.id
	if host.proxied.found && !host.proxied.local {
		maps.Copy(w.pub.Meta, w.claim(host.proxied.source, host.proxied.dest))
	}
	if t, ok := c.raw.(*tls.Conn); ok {
		state := t.ConnectionState()
		w.pub.TLS = &state
	}
}

// A wrapped session leaves everything to the host's but the content.
type wrapped struct {
	*reception
	next smtp.Session
	c    *smtp.Conn
	last *transaction // the one before, if its content is still on its way
}

// A wrappedAuth offers AUTH too.
type wrappedAuth struct {
	*wrapped
	auth smtp.AuthSession
}

func (w *wrappedAuth) AuthMechanisms() []string { return w.auth.AuthMechanisms() }

func (w *wrappedAuth) Auth(mech string) (sasl.Server, error) { return w.auth.Auth(mech) }

var (
	_ smtp.LMTPSession = (*wrapped)(nil)
	_ smtp.AuthSession = (*wrappedAuth)(nil)
)

// Mail begins a transaction if the host's session does.
func (w *wrapped) Mail(from string, opts *smtp.MailOptions) (err error) {
	defer w.contain("MAIL", &err)
	w.awaitContentEnd()
	if tx := w.current(); tx != nil {
		if tx.content == nil || tx.content.refusal == nil {
			return w.refuse(replyNested)
		}
		w.Reset() // its BDAT was refused: the client has given it up
	}
	env, size := envelope(opts)
	env.Sender = from
	if path, ok := mailbox(from, true); ok {
		env.Sender = path
	}
	switch max := w.opts.Limits.MessageSize; {
	case w.link.lost():
		return w.refuse(replyLost)
	case max > 0 && size > max:
		return w.refuse(replyTooLarge)
	}
	if err := w.gate.check(); err != nil {
		return w.refuse(err)
	}
	if err := w.next.Mail(from, opts); err != nil {
		return err
	}
	w.pub.Hello = oneLine(w.c.Hostname(), maxDomain)
	w.begin(env, size)
	return nil
}

// Rcpt adds a recipient that the host's session accepts.
func (w *wrapped) Rcpt(to string, opts *smtp.RcptOptions) (err error) {
	defer w.contain("RCPT", &err)
	tx := w.current()
	switch {
	case tx == nil || w.link.lost():
		return w.refuse(replyNoMail)
	case tx.content != nil:
		return w.refuse(replyChunking)
	}
	if err := w.next.Rcpt(to, opts); err != nil {
		return err
	}
	rcpt := recipient(opts)
	rcpt.Address = to
	if path, ok := mailbox(to, true); ok {
		rcpt.Address = path
	}
	tx.env.Recipients = append(tx.env.Recipients, rcpt)
	tx.rcptTo = append(tx.rcptTo, to)
	return nil
}

// Data takes content that comes by go-smtp's reader.
func (w *wrapped) Data(r io.Reader) error {
	replies := w.read(r)
	return w.refuse(replies[0])
}

// LMTPData is [wrapped.Data] with a reply for each recipient.
func (w *wrapped) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	replies := w.read(r)
	tx := w.current()
	if tx != nil && len(replies) == len(tx.rcptTo) {
		for i, reply := range replies {
			status.SetStatus(tx.rcptTo[i], reply.smtp())
		}
		return nil
	}
	return w.refuse(replies[0])
}

// Reset ends the transaction. It runs under the lock of go-smtp's connection.
func (w *wrapped) Reset() {
	w.last = w.current()
	w.finish()
	w.guard("Reset", w.next.Reset)
}

// Logout ends the session. go-smtp calls it while Data may be running, and a
// panic in it would end the process.
func (w *wrapped) Logout() (err error) {
	w.finish()
	w.guard("Logout", func() { err = w.next.Logout() })
	return err
}

// guard runs a method of the host's session where a panic would end the process.
func (w *wrapped) guard(name string, call func()) {
	defer func() {
		if p := recover(); p != nil {
			w.logPanic(name, p)
			w.link.fail()
		}
	}()
	call()
}
