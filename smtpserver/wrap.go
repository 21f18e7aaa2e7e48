package smtpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"

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
// server) and, of Limits, LineLength, Hops, MessageSize (by default the server's
// MaxMessageBytes, which also counts if it is less), Memory, Queued* and ProcessingTimeout.
// [WrapListener] uses others; what neither does must be unset. Whether LMTP is
// spoken is for the server to say.
//
// The backend works on every connection of a go-smtp server. On those of a
// [WrappedListener] it takes the content past go-smtp; on others, and under
// go-smtp's TLS, its reader stands in between. That is slower; the server's
// MaxLineLength counts for content too; a CR behind CRLF "." at the beginning of
// a line gets lost, and CR CRLF "." CRLF is not seen as the end. When content
// ends or stalls before it is complete the connection is closed, and nothing
// that follows is executed. Where go-smtp has such a connection from a listener
// that hides the socket, a command sent before the reply to BDAT LAST may be
// answered 421 and the connection closed, as is RSET behind RCPT if
// the server has a ReadTimeout.
//
// Without a WrappedListener timeouts, idle connections and their number stay the
// server's business, its Shutdown waits for clients that do nothing, and of
// refusals only those of MAIL, RCPT and content are recorded. So it is under
// go-smtp's TLS, but for the connections.
//
// What next returns from Mail and Rcpt is the reply, as with go-smtp alone, but
// that an SMTPError with a 2xx code accepts, and that behind a 421 nothing more
// is executed. A panic of next ends one connection. Conn.Session of go-smtp
// returns the session of this package, not that of next.
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
	b := &wrappedBackend{
		intake: &intake{sched: s, gate: newGate(s, &o), grace: defaultGrace}, next: next,
		opts: o, anySize: opts == nil || opts.Limits.MessageSize == 0,
	}
	b.mu.servers = make(map[*smtp.Server]*Options)
	return b, nil
}

type wrappedBackend struct {
	*intake
	next    smtp.Backend
	opts    Options // resolved, but for what the server says
	anySize bool    // Limits.MessageSize was not set

	mu struct {
		sync.Mutex
		servers map[*smtp.Server]*Options
	}
}

// options are those that hold on connections of srv.
func (b *wrappedBackend) options(srv *smtp.Server) *Options {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.mu.servers[srv]; ok {
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
	if max, own := srv.MaxMessageBytes, o.Limits.MessageSize; b.anySize || max > 0 && (own == 0 || max < own) {
		o.Limits.MessageSize = max // 0: none
	}
	b.mu.servers[srv] = &o
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
	c, t := ownConn(raw)
	if c == nil {
		w.link = newPlainLink(raw)
		return
	}
	w.link = c
	if t != nil {
		w.link = &tlsLink{conn: c, t: t}
	}
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

	answered atomic.Pointer[transaction] // whose content was read, or given up by us
}

// A wrappedAuth offers AUTH too.
type wrappedAuth struct {
	*wrapped
	auth smtp.AuthSession
}

func (w *wrappedAuth) AuthMechanisms() []string { return w.auth.AuthMechanisms() }

func (w *wrappedAuth) Auth(mech string) (sasl.Server, error) {
	if w.link.lost() {
		return nil, replyLost.smtp()
	}
	return w.auth.Auth(mech)
}

var (
	_ smtp.LMTPSession = (*wrapped)(nil)
	_ smtp.AuthSession = (*wrappedAuth)(nil)
)

// Mail begins a transaction if the host's session does.
func (w *wrapped) Mail(from string, opts *smtp.MailOptions) (err error) {
	defer func() { w.told(err, "MAIL FROM:<"+from+">") }()
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
	case !validText(from, true):
		return w.refuse(replySender)
	case max > 0 && size > max:
		return w.refuse(replyTooLarge)
	}
	if err := w.gate.check(); err != nil {
		return w.refuse(err)
	}
	if err := w.verdict(w.next.Mail(from, opts)); err != nil {
		return err
	}
	w.pub.Hello = oneLine(w.c.Hostname(), maxDomain)
	w.begin(env, size)
	return nil
}

// Rcpt adds a recipient that the host's session accepts.
func (w *wrapped) Rcpt(to string, opts *smtp.RcptOptions) (err error) {
	defer func() { w.told(err, "RCPT TO:<"+to+">") }()
	defer w.contain("RCPT", &err)
	rcpt := recipient(opts)
	rcpt.Address = to
	if path, ok := mailbox(to, true); ok {
		rcpt.Address = path
	}
	tx := w.current()
	switch {
	case w.link.lost():
		return w.refuse(replyLost)
	case tx == nil:
		return w.refuse(replyNoMail)
	case tx.content != nil:
		return w.refuse(replyChunking)
	case to == "" || !validText(to, true):
		return w.refuse(replyRecipient)
	case !validText(rcpt.ORcpt, true):
		return w.refuse(replyORcpt)
	}
	if err := w.verdict(w.next.Rcpt(to, opts)); err != nil {
		return err
	}
	tx.env.Recipients = append(tx.env.Recipients, rcpt)
	tx.rcptTo = append(tx.rcptTo, to)
	return nil
}

// verdict is what the host's session said of MAIL or RCPT. A 2xx in the place of
// an error is a yes: the client is told so, and relies on it. Behind a 421 the
// connection ends (RFC 5321, section 3.8).
func (w *wrapped) verdict(err error) error {
	own, _ := err.(*smtp.SMTPError)
	switch {
	case own == nil:
	case own.Code/100 == 2:
		return nil
	case own.Code == 421:
		w.link.fail()
	}
	return err
}

// Data takes content that comes by go-smtp's reader.
func (w *wrapped) Data(r io.Reader) error {
	err := w.refuse(w.read(r)[0])
	w.told(err, contentCommand)
	return err
}

// LMTPData is [wrapped.Data] with a reply for each recipient.
func (w *wrapped) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	replies := w.read(r)
	tx := w.current()
	if tx == nil || len(replies) != len(tx.rcptTo) || replies[0].close {
		err := w.refuse(replies[0])
		w.told(err, contentCommand)
		return err // to all, and to a BDAT that is not the last
	}
	for i, reply := range replies {
		status.SetStatus(tx.rcptTo[i], reply.smtp())
		w.told(reply.smtp(), contentCommand)
	}
	return nil
}

// contentCommand stands in records for DATA and BDAT, which cannot be told apart
// where go-smtp reads them.
const contentCommand = "DATA"

// told records what the client is answered, if that is a refusal and nobody sees
// it go by.
func (w *wrapped) told(err error, command string) {
	if c, ok := w.link.(*conn); ok && !c.opaque.Load() {
		return // a hostDialogue does
	}
	r := &reply{code: 451, enhanced: [3]int{4, 0, 0}} // go-smtp's for any other error
	if own, _ := err.(*smtp.SMTPError); own != nil {
		r = &reply{code: own.Code, enhanced: own.EnhancedCode, text: own.Message}
		if r.enhanced == smtp.EnhancedCodeNotSet || r.enhanced == smtp.NoEnhancedCode {
			r.enhanced = [3]int{r.code / 100, 0, 0}
		}
	} else if err != nil {
		r.text = err.Error()
	}
	if err != nil && r.code >= 400 {
		w.refusedHere(r, oneLine(command, maxReply))
	}
}

// refusedHere logs and records a refusal. The metadata for it is the host's.
func (w *wrapped) refusedHere(r *reply, command string) {
	w.guard("Meta", func() { w.refusedCommand(r, command) })
}

// Reset ends the transaction. It runs under the lock of go-smtp's connection,
// behind the reply to content too, so that it is the place to end a connection
// whose content broke off.
func (w *wrapped) Reset() {
	w.last = w.current()
	plain, _ := w.link.(*plainLink)
	if plain != nil && w.brokeOff() {
		w.spoil()
	}
	w.finish()
	w.guard("Reset", w.next.Reset)
	if plain != nil {
		plain.chunked.Store(false)
		if plain.lost() {
			plain.hangUp()
		}
	}
	if own, ok := w.link.(*tlsLink); ok && own.chunked.Swap(false) && own.lost() {
		own.fail()
	}
}

// Logout ends the session. go-smtp calls it while Data may be running, and a
// panic in it would end the process.
func (w *wrapped) Logout() (err error) {
	w.finish()
	w.guard("Logout", func() { err = w.next.Logout() })
	w.dog.stop()
	if plain, ok := w.link.(*plainLink); ok {
		plain.end()
	}
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
