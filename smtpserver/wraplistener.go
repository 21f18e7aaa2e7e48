package smtpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A WrappedListener is a net.Listener for the go-smtp server of a host, made by
// [WrapListener]. Its methods are safe for concurrent use.
type WrappedListener struct {
	net.Listener
	opts    Options
	tracker *tracker
}

// WrapListener returns a listener for a go-smtp server whose backend was wrapped
// by [Wrap]. On its connections content is read by this package and not by
// go-smtp, which is several times faster and strict about where content ends;
// each command line is passed to go-smtp alone; replies are collected; timeouts
// are those of opts, and those of the server do not count.
//
// Of opts, which may be nil and the same as for Wrap, it uses Proxy.From and
// Proxy.Require, Logger and, of Limits, Connections, ConnectionsPerAddr,
// ClientTimeout, DataTimeout and ShutdownTimeout.
//
// Other listeners may be put on top of it, which limit or count connections. Where its
// connections cannot be found through them, since they keep the error of a Write of
// nothing to themselves or have read before the greeting, content comes through go-smtp,
// its timeouts count, and Shutdown waits for the end of the connection.
//
// For implicit TLS put tls.NewListener on top of it, for STARTTLS leave TLS to
// the server: go-smtp must see a *tls.Conn to know of it. Content then comes
// through go-smtp's reader. Under implicit TLS whoever is over a limit, or has no
// PROXY header that it needs, is closed without a word.
//
// WrapListener starts nothing. The listener takes ln over.
func WrapListener(ln net.Listener, opts *Options) (*WrappedListener, error) {
	if ln == nil {
		return nil, errors.New("smtpserver: WrapListener: the listener is nil: make one by net.Listen")
	}
	o, err := resolveWrapped(opts)
	if err != nil {
		return nil, err
	}
	w := &WrappedListener{Listener: ln, opts: o, tracker: newTracker(o.Limits.Connections, o.Logger.Warn)}
	w.tracker.add(ln)
	return w, nil
}

// Accept waits for the next connection. It returns an error that is
// net.ErrClosed after Shutdown or Close.
func (w *WrappedListener) Accept() (net.Conn, error) {
	raw, err := w.tracker.accept(w.Listener)
	if err != nil {
		return nil, err
	}
	c := newConn(w.tracker, raw, &w.opts.Limits)
	d := &hostDialogue{c: c, opts: &w.opts, id: spool.NewID().String()}
	c.speaker = d
	open, over := w.tracker.track(c)
	ip := addrPort(raw.RemoteAddr()).Addr()
	d.mayBeProxied = contains(w.opts.Proxy.From, ip)
	switch {
	case !open:
		raw.Close()
		return nil, net.ErrClosed
	case over || !d.mayBeProxied && !w.tracker.count(c, ip, w.opts.Limits.ConnectionsPerAddr):
		d.refused = replyTooMany
	}
	return &hostConn{c, d}, nil
}

// A hostConn is a connection as the go-smtp server of a host has it. Its Read
// sees what comes before TLS, if the host puts that on top.
type hostConn struct {
	*conn
	d *hostDialogue
}

func (h *hostConn) Read(p []byte) (int, error) {
	if !h.started.Load() && !h.opaque.Load() && !h.d.admit() {
		h.fail()
		return 0, io.EOF
	}
	return h.conn.Read(p)
}

func (h *hostConn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, foundConn{h}
	}
	return h.conn.Write(p)
}

// Close closes the listener. Its connections go on.
func (w *WrappedListener) Close() error { return w.Listener.Close() }

// Shutdown ends the listener and its connections without interrupting
// transactions, which Shutdown of a go-smtp server does not do: it accepts no
// more, closes connections that are in no transaction, with 421 4.3.2 where TLS
// does not hide them from it, and the others when theirs has ended. When ctx is
// done or [Limits.ShutdownTimeout] has passed it closes all that are left, and
// returns the error of the context. It waits until all are closed. The Serve of
// the server returns an error that is net.ErrClosed; Close of the server may
// follow Shutdown.
func (w *WrappedListener) Shutdown(ctx context.Context) error {
	w.tracker.stop()
	if err := w.tracker.shutdown(ctx, w.opts.Limits.ShutdownTimeout, w.tracker.gone()); err != nil {
		return fmt.Errorf("smtpserver: Shutdown closed connections that were in a transaction: %w", err)
	}
	return nil
}

// A hostDialogue is what passes between a client and the go-smtp server of a
// host: all but the content.
type hostDialogue struct {
	c            *conn
	opts         *Options
	id           string
	mayBeProxied bool
	proxied      proxied
	refused      *reply   // instead of a greeting
	welcomed     bool     // the greeting was said
	s            *wrapped // since EHLO
	verb         string
	line         []byte
	sasl, silent bool
}

// admit is what comes before the greeting, or before TLS, where nothing can be
// answered.
func (d *hostDialogue) admit() bool {
	return (!d.mayBeProxied || d.readProxied()) && d.refused == nil
}

// greet passes the greeting, behind what comes before it.
func (d *hostDialogue) greet(line []byte) {
	admitted := d.admit()
	if !admitted && d.refused == nil {
		d.c.fail()
		return
	}
	if !admitted {
		d.answer(d.refused)
		return
	}
	d.welcomed = true
	d.c.say(line)
}

// readProxied reads the PROXY header, and reports whether the connection goes on.
func (d *hostDialogue) readProxied() bool {
	lower, h, err := d.c.readProxied(d.opts.Proxy.Require)
	switch {
	case err != nil:
		d.opts.Logger.Warn("smtp PROXY header refused", slog.String("session_id", d.id), slog.Any("error", err))
		return false
	case !h.found && d.opts.Proxy.Require:
		d.opts.Logger.Warn("smtp connection without a PROXY header refused", slog.String("session_id", d.id))
		return false
	}
	d.c.setLower(lower)
	d.proxied = h
	ip := addrPort(d.c.raw.RemoteAddr()).Addr()
	if h.found && !h.local {
		ip = h.source.Addr()
	}
	if !d.c.tracker.count(d.c, ip, d.c.limits.ConnectionsPerAddr) {
		d.refused = replyTooMany
	}
	return true
}

// command keeps content from go-smtp.
func (d *hostDialogue) command(line []byte) (rest []byte) {
	defer d.contain()
	if d.sasl {
		d.sasl = false
		return line
	}
	text := bytes.TrimRight(line, "\r\n")
	d.line = append(d.line[:0], text...)
	word, arg, _ := bytes.Cut(text, []byte{' '})
	arg = bytes.TrimSpace(arg)
	d.verb = verb(word)
	switch {
	case d.c.idleDrain():
		d.answer(replyDraining)
		return nil
	case d.verb == "STARTTLS" && len(d.c.in.window()) > 0:
		d.answer(replyTLSPipelined)
		return nil
	case d.s == nil && d.verb == "BDAT": // go-smtp would read the chunk line by line
		d.answer(replyChunkEarly)
		return nil
	case d.s == nil:
		return line
	case d.verb == "MAIL" && d.s.givenUp():
		return append(d.reset(true), line...) // go-smtp would keep the recipients
	case d.verb == "DATA" && len(arg) == 0:
		return d.reset(d.c.data(d.s.reception, d.answer))
	case d.verb == "BDAT":
		return d.reset(d.c.bdat(d.s.reception, string(arg), d.answer))
	}
	return line
}

// contain turns a panic into the end of the connection: go-smtp contains only
// those of its own commands.
func (d *hostDialogue) contain() {
	p := recover()
	if p == nil {
		return
	}
	if d.s == nil {
		d.opts.Logger.Error("smtp session panicked", slog.String("session_id", d.id), slog.Any("panic", p))
	} else {
		d.s.logPanic("command", p)
		if tx := d.s.current(); tx != nil {
			tx.rest() // else nobody would discard its content
		}
	}
	d.answer(replyPanic)
}

// reset is what go-smtp is to see of a command that was carried out here.
func (d *hostDialogue) reset(ended bool) []byte {
	if !ended {
		return nil
	}
	d.silent = true
	return bytes.Clone(resetLine)
}

func (d *hostDialogue) answer(r *reply) {
	line := r.line()
	d.c.say(line)
	d.replied(r.code, line)
	if r.close {
		d.c.lastWord(d.welcomed)
	}
}

// reply passes a line of go-smtp's.
func (d *hostDialogue) reply(line []byte) {
	code, final := replyCode(line)
	if d.silent {
		d.silent = !final
		return
	}
	d.c.say(line)
	if final {
		d.replied(code, line)
	}
}

func (d *hostDialogue) replied(code int, line []byte) {
	switch {
	case code == 334 && d.verb == "AUTH":
		d.sasl = true
	case code == 220 && d.verb == "STARTTLS":
		d.c.flush()
		d.c.opaque.Store(true)
	case code == 250 && d.s == nil && (d.verb == "EHLO" || d.verb == "HELO" || d.verb == "LHLO"):
		// The session is none of Wrap's, or cannot be found through what is on top of this
		// connection: content will pass, and must not be taken for commands.
		d.c.passOn()
	case code >= 400 && d.s != nil:
		d.s.refusedHere(parseReply(code, line), commandForRecord(d.verb, d.line))
	}
	if code == 421 { // RFC 5321, section 3.8; go-smtp would go on
		d.c.lastWord(d.welcomed)
	}
}

func (d *hostDialogue) end(r *reply) {
	d.line = d.line[:0]
	if r != nil {
		d.answer(r)
	}
}
