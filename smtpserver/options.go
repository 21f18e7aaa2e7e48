package smtpserver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

// Options configure a [Listener]. The zero value, and a nil *Options, are ready
// to use. A zero number means the default, a negative one none. The Listener
// keeps a copy; maps, slices and the TLS configuration in it must not be changed
// while it is in use.
type Options struct {
	// Addr is where ListenAndServe listens: host:port, or the path of a Unix
	// socket, "unix:/run/mail.sock" or "/run/mail.sock". A path must not exist
	// yet, and abstract sockets, which have no mode, are refused. An address beyond loopback is refused unless RelayHosts, Auth or
	// client certificates say who is trusted.
	// Defaults to 127.0.0.1:2525.
	Addr string

	// Listener is what ListenAndServe serves instead of Addr. The Listener
	// closes it.
	// Defaults to nil: Addr decides.
	Listener net.Listener

	// DeferredQueue answers 250 once the message is stored, and leaves the inject
	// callback to the Scheduler. Without it the callbacks of a transaction run
	// before its reply, and their verdicts become the reply; while the Scheduler
	// does not run, content is answered 4xx then.
	// Defaults to false.
	DeferredQueue bool

	// DeferredSpool keeps accepted messages in memory until their inject callback
	// fails, rejects, drops or holds them or binds them for another queue, and
	// until the Scheduler stops: at most 1 MiB each, 64 MiB together, and as many as
	// there are handlers free. What is beyond that is stored, as without this
	// option. What is in memory when the process or the machine dies is lost
	// although it was answered 250; at most its Reception record is left of it.
	// Limits.QueuedMessages and QueuedBytes do not count it. It needs DeferredQueue.
	// Defaults to false.
	DeferredSpool bool

	// RelayHosts are the networks whose clients may send without authentication.
	// An empty, non-nil slice means nobody.
	// Defaults to loopback, 127.0.0.0/8 and ::1/128.
	RelayHosts []netip.Prefix

	// Hostname is what the Listener calls itself, in its greeting and in Received
	// fields (RFC 5321, section 4.1.1.1).
	// Defaults to the name of the host.
	Hostname string

	// Banner is the text of the greeting behind the code and the host name.
	// Defaults to "ESMTP service ready".
	Banner string

	// Batch splits the recipients of a transaction into messages. Every recipient
	// must be in exactly one group; otherwise the client is answered 451, and if
	// it panics 421, and nothing is stored. It is called concurrently, after
	// the content arrived, and must not block.
	// Defaults to queue.PerRecipient.
	Batch queue.BatchFunc

	// InvalidLineEndings says what becomes of content with lines that do not end
	// with CRLF, but for BODY=BINARYMIME, which may have any octets.
	// Defaults to Deny.
	InvalidLineEndings LineEndings

	// LMTP speaks LMTP instead of SMTP (RFC 2033): LHLO, and one reply for each
	// recipient after the content.
	// Defaults to false.
	LMTP bool

	// TLS configures STARTTLS and implicit TLS.
	// Defaults to no TLS.
	TLS TLS

	// Auth configures AUTH.
	// Defaults to no AUTH.
	Auth Auth

	// Hooks may refuse clients and commands.
	// Defaults to no hooks.
	Hooks Hooks

	// Limits bounds what clients may do.
	// Defaults to the defaults of its fields.
	Limits Limits

	// Trace says which trace fields are put in front of a message.
	// Defaults to Received and the supplemental field.
	Trace Trace

	// Proxy says whose word is believed about the client's address.
	// Defaults to nobody.
	Proxy Proxy

	// Overrides are options for some clients. All that match apply, in this
	// order: where two set the same, the later one wins.
	// Defaults to none.
	Overrides []Override

	// Logger takes what an operator should know, each line of a session with its
	// session_id; never credentials or content.
	// Defaults to slog.Default().
	Logger *slog.Logger
}

// TLS configures transport security (RFC 3207, RFC 8314).
type TLS struct {
	// Config is the server's configuration. With it STARTTLS is offered, and a
	// client whose certificate it verified is trusted (ClientAuth, which needs
	// ClientCAs: by the roots of the system everybody would be trusted).
	// Defaults to nil: no TLS.
	Config *tls.Config

	// Implicit starts TLS at once on every connection instead of offering STARTTLS.
	// Defaults to false.
	Implicit bool

	// Require answers MAIL and AUTH with 530 5.7.0 until TLS is established.
	// Defaults to false.
	Require bool
}

// Auth configures AUTH (RFC 4954) by PLAIN (RFC 4616) and LOGIN
// (draft-murchison-sasl-login). Both are offered, or none.
type Auth struct {
	// Password checks credentials; for LOGIN authzid is empty. nil accepts them: the client may send from
	// then on, and s.AuthnID is username, s.AuthzID is authzid or else username.
	// queue.Reject(535, "5.7.8 ...") refuses them with that reply; every other
	// error is answered 454 4.7.0 without detail, and the client may try again.
	// It blocks the connection that asks, is called concurrently for different
	// connections, and ctx ends as that of Hooks does.
	// Defaults to nil: AUTH is not offered.
	Password func(ctx context.Context, s *Session, authzid, username, password string) error

	// AllowPlaintext offers AUTH without TLS too, unless TLS.Require forbids it.
	// Defaults to false.
	AllowPlaintext bool

	// Require answers MAIL with 530 5.7.0 until the client is authenticated,
	// RelayHosts included.
	// Defaults to false.
	Require bool
}

// Hooks look at what a client does and may refuse it with [queue.Reject]: its
// code and text become the reply; every other error is answered 451 4.3.0
// without detail. A panic is answered 421 and ends the connection. Hooks block
// the connection that they are called for and are called concurrently for
// different ones; ctx ends when the Listener closes the connection, or after
// [Limits.ProcessingTimeout]: a client that leaves meanwhile is not noticed. What
// they set in s.Meta goes into each message
// that follows. They must not retain s, env or rcpt, nor call [Listener.Close] or
// [Listener.Shutdown], which wait for them; go l.Shutdown does. With DeferredQueue none
// runs after DATA.
type Hooks struct {
	// Connect runs before the greeting, under implicit TLS behind the handshake, and
	// again at each XCLIENT, with what that says and s.Meta as at the beginning.
	// Refusing ends the connection.
	// Defaults to accepting.
	Connect func(ctx context.Context, s *Session) error

	// Hello runs at EHLO, HELO and LHLO, with s.Hello set. What it puts into s.Meta
	// before STARTTLS is forgotten with the rest that was said in clear.
	// Defaults to accepting.
	Hello func(ctx context.Context, s *Session) error

	// Mail runs at MAIL; env has no recipients yet and may be changed.
	// Defaults to accepting.
	Mail func(ctx context.Context, s *Session, env *spool.Envelope) error

	// Rcpt runs at RCPT, after the relay check, and may change rcpt.
	// Defaults to accepting.
	Rcpt func(ctx context.Context, s *Session, rcpt *spool.Recipient) error
}

// A Session is what is known of one connection. It is handed to hooks, on the
// goroutine of the connection, and must not be used after the hook returned.
// Only Meta is meant to be changed.
type Session struct {
	ID               string               // unique; in records, metadata and log lines
	Remote, Local    netip.AddrPort       // also by PROXY or XCLIENT; invalid if not IP or not known
	Hello            string               // the argument of EHLO, HELO or LHLO, or HELO of XCLIENT
	AuthnID, AuthzID string               // empty until AUTH succeeded, or LOGIN of XCLIENT
	TLS              *tls.ConnectionState // nil without TLS
	Meta             map[string]string    // goes into each message's; never nil
}

// Limits bounds what a client may do. Zero means the default, a negative number none.
type Limits struct {
	// Connections is how many connections may be open at once; further ones are
	// answered 421, or with implicit TLS closed.
	// Defaults to 32,768.
	Connections int

	// ConnectionsPerAddr is how many one IP address may have open at once, behind a
	// proxy that of the client; further ones are answered 421.
	// Defaults to none.
	ConnectionsPerAddr int

	// Messages is how many transactions one connection may begin; the MAIL behind
	// them is answered 421 4.7.0 and ends it.
	// Defaults to 10,000.
	Messages int

	// Recipients is how many recipients one transaction may have; further ones are
	// answered 452 4.5.3.
	// Defaults to 1,024.
	Recipients int

	// LineLength is how many octets a line of the content may have, without its CRLF.
	// BODY=BINARYMIME has no lines.
	// Defaults to 998 (RFC 5321, section 4.5.3.1.6).
	LineLength int

	// Errors is how many commands may be answered 500 to 504 or 535; the next one
	// ends the connection with 421. 503 to RCPT, DATA and BDAT behind a MAIL or RCPT
	// that was refused does not count: clients that pipeline send those before they
	// know.
	// Defaults to 20.
	Errors int

	// Hops is how many Received fields the header of a message may have
	// (RFC 5321, section 6.3).
	// Defaults to 100.
	Hops int

	// MessageSize is how many octets the content may have, as it was before
	// dot-stuffing; a message of exactly that size is accepted.
	// Defaults to 20 MiB.
	MessageSize int64

	// Memory is how many bytes of memory the process may use: those that the
	// garbage collector found alive last, and stacks; beyond it, MAIL and DATA are
	// answered 452 4.3.1. It is looked at once a second. That there is less again
	// is known after the next collection; while none has come for 10 s and a client
	// asks, the Listener calls for one.
	// Defaults to three quarters of GOMEMLIMIT (runtime/debug.SetMemoryLimit), to
	// none if that is not set.
	Memory int64

	// QueuedMessages is how many messages may be in the spool, in all queues and
	// states; with that many, MAIL and DATA are answered 452 4.3.1. This limit and
	// the next two are checked once a second: what comes between two checks, and
	// what is on its way, is accepted.
	// Defaults to none.
	QueuedMessages int64

	// QueuedBytes is how many bytes they may have together, a body that several
	// share counted for each; with that many, MAIL and DATA are answered 452 4.3.1.
	// Defaults to none.
	QueuedBytes int64

	// QueuedAge is how long ago the oldest message in the deferred queue that is
	// not held may have been received; beyond it, MAIL and DATA are answered
	// 451 4.3.2.
	// Defaults to none.
	QueuedAge time.Duration

	// ClientTimeout bounds each wait for the client, also inside the content, and
	// each write to it. A command line must arrive within it as a whole, from its
	// first octet on. The answer is 421 4.4.2, and the connection ends.
	// Defaults to 60 s.
	ClientTimeout time.Duration

	// DataTimeout bounds the whole content, from DATA or the first BDAT.
	// Defaults to 30 m.
	DataTimeout time.Duration

	// ProcessingTimeout bounds the work from the end of the content to the reply,
	// which is 451 4.4.5 then. Once the spool has taken the messages up, its answer
	// is awaited for another 30 s.
	// Defaults to 5 m.
	ProcessingTimeout time.Duration

	// ShutdownTimeout bounds how long Shutdown waits for clients in a transaction.
	// Defaults to 30 s.
	ShutdownTimeout time.Duration
}

// Trace says which fields are put above a message.
type Trace struct {
	// OmitReceived leaves out the Received field (RFC 5321, section 4.4). Mail that
	// loops is then not noticed.
	// Defaults to false.
	OmitReceived bool

	// OmitSupplemental leaves out the supplemental field, which helps to match
	// bounces and complaints with what was sent.
	// Defaults to false.
	OmitSupplemental bool

	// HeaderName is the name of the supplemental field.
	// Defaults to X-KumoRef.
	HeaderName string

	// IncludeMetaNames are the metadata to put into the supplemental field.
	// Defaults to none.
	IncludeMetaNames []string
}

// A Proxy says whose word is believed about the address of a client. An address
// that is claimed this way decides over relaying, overrides, limits and
// metadata as if the client had connected from it, but one on loopback, or that
// no client can have, is refused. The addresses of the connection itself are kept in the metadata
// orig_received_from and orig_received_via. If nothing is known of the client,
// received_from and the address in records are "unknown", and it may not relay by
// its address.
type Proxy struct {
	// From are the networks whose PROXY header is believed, in version 1 or 2 of
	// HAProxy's PROXY protocol. Others' is an unknown command, also over a Unix
	// socket: a proxy must not come by one, as all its clients would be trusted. A connection of
	// theirs that says nothing for 2 s is taken to have none, and is the proxy's
	// own; Require it of a proxy that may relay itself. A header that has begun must
	// be complete within ClientTimeout, without Require within those 2 s. Behind one
	// that names no TCP address nothing is known of the client; behind LOCAL the
	// connection is the proxy's own. The header comes before implicit TLS. A
	// connection whose header is malformed or claims loopback is closed without a
	// word.
	// Defaults to nobody.
	From []netip.Prefix

	// XClient are the networks whose XCLIENT command is offered and believed, as
	// Postfix defines it; with PROXY, as the header says. It begins a new session,
	// with a greeting, for the client that it names, which may use XCLIENT itself
	// only if its address is in these networks too. Its LOGIN counts as
	// authentication. A certificate on the connection does not: it is that of who
	// speaks for the client.
	// Defaults to nobody.
	XClient []netip.Prefix

	// Require closes connections from the networks in From that do not begin with
	// a PROXY header.
	// Defaults to false.
	Require bool
}

// An Override is a set of options for some clients, or for some of the addresses
// that they connect to. Fields that are zero leave the option as it is.
type Override struct {
	// Remote are the clients that it is for, by their address or by what PROXY or
	// XCLIENT says.
	// Defaults to all.
	Remote netip.Prefix

	// Local are the addresses of ours that it is for.
	// Defaults to all.
	Local netip.Prefix

	// Meta is put into the metadata of their messages; hooks may change it.
	// Defaults to nothing.
	Meta map[string]string

	// Hostname is Options.Hostname for them. Under TLS the certificate is still
	// that of Options.TLS.
	// Defaults to unchanged.
	Hostname string

	// Banner is Options.Banner for them.
	// Defaults to unchanged.
	Banner string

	// RelayHosts is Options.RelayHosts for them; an empty, non-nil slice means
	// nobody.
	// Defaults to unchanged.
	RelayHosts []netip.Prefix

	// DeferredQueue is Options.DeferredQueue for them.
	// Defaults to unchanged.
	DeferredQueue *bool

	// DeferredSpool is Options.DeferredSpool for them. It has no effect where
	// DeferredQueue does not hold.
	// Defaults to unchanged.
	DeferredSpool *bool

	// Batch is Options.Batch for them.
	// Defaults to unchanged.
	Batch queue.BatchFunc

	// InvalidLineEndings is Options.InvalidLineEndings for them.
	// Defaults to unchanged.
	InvalidLineEndings LineEndings

	// RequireTLS is TLS.Require for them.
	// Defaults to unchanged.
	RequireTLS *bool

	// RequireAuth is Auth.Require for them.
	// Defaults to unchanged.
	RequireAuth *bool

	// Trace is Options.Trace for them, as a whole.
	// Defaults to unchanged.
	Trace *Trace

	// Limits are those of Options.Limits that are about one connection:
	// ConnectionsPerAddr, Messages, Recipients, LineLength, Errors, Hops,
	// MessageSize, ClientTimeout, DataTimeout and ProcessingTimeout. A
	// negative number means none.
	// Defaults to unchanged, field by field.
	Limits Limits
}
