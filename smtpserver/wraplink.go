package smtpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// This file is the way of content through go-smtp's reader: on connections that
// are not ours, and under go-smtp's TLS.

// read takes the content of a message, and says what the client is told.
func (w *wrapped) read(src io.Reader) (replies []*reply) {
	pipe, chunked := src.(*io.PipeReader)
	switch l := w.link.(type) {
	case *plainLink:
		l.chunked.Store(chunked)
	case *tlsLink:
		l.chunked.Store(chunked)
	}
	if chunked {
		// Without taking anything: while the writer waits, go-smtp is in the BDAT of
		// the transaction that is current.
		if _, err := pipe.Read(nil); err != nil {
			exitIfReset(err)
		}
	}
	tx := w.current()
	if tx == nil || w.link.lost() {
		_, err := io.Copy(io.Discard, src)
		exitIfReset(err)
		return []*reply{replyNoMail}
	}
	tx.work()
	defer tx.rest()
	tx.openChunks()
	defer func() {
		if replies != nil { // not if the goroutine exits
			w.answered.Store(tx)
		}
	}()
	err := copyContent(tx.content, src)
	if chunked {
		exitIfReset(err)
	}
	if err == nil && chunked { // go-smtp takes a chunk that was cut off for a complete one
		gone, spoiled := w.gone()
		if gone {
			err = io.ErrUnexpectedEOF
		}
		if spoiled {
			defer w.spoil()
		}
	}
	if err == nil {
		tx.content.finish(nil)
	} else {
		w.link.fail()
	}
	return tx.conclude(err)
}

// exitIfReset ends the goroutine if go-smtp has given the transfer up. Its
// result has no reader any more: go-smtp would send it to whatever transaction
// has taken its place by now.
func exitIfReset(err error) {
	if errors.Is(err, smtp.ErrDataReset) {
		runtime.Goexit()
	}
}

// copyContent reads all that src has. What go-smtp refuses by itself, and reads
// to its end, is no error but a refusal.
func copyContent(body *content, src io.Reader) error {
	buf := make([]byte, lineBuffer)
	for {
		n, err := src.Read(buf)
		body.take(buf[:n])
		var own *smtp.SMTPError
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case errors.Is(err, smtp.ErrTooLongLine): // nobody knows what follows
			if body.refusal == nil {
				body.refusal = replyLineLength
			}
			return errExcess
		case errors.As(err, &own):
			if body.refusal == nil {
				body.refusal = &reply{code: own.Code, enhanced: own.EnhancedCode, text: own.Message}
			}
			return nil
		case err != nil:
			return err
		case body.excess():
			return errExcess
		}
	}
}

// awaitContentEnd waits until the goroutine of a BDAT transaction that was
// reset has let go of it. That is soon: its reader has ended.
func (w *wrapped) awaitContentEnd() {
	if w.last == nil {
		return
	}
	if working := w.last.working(); working != nil {
		<-working
	}
	w.last = nil
}

var replySpoiled = &reply{code: 421, enhanced: [3]int{4, 3, 2}, text: "Commands behind BDAT got lost, open another connection", close: true}

// spoil ends the connection behind the reply to the current command.
func (w *wrapped) spoil() {
	if plain, ok := w.link.(*plainLink); ok {
		plain.last.Store(replySpoiled)
	}
	w.link.fail()
}

// brokeOff reports whether go-smtp is giving a BDAT up because a chunk did not
// arrive in time: it would execute the rest of it. That cannot be told from RSET
// where the connection is no socket.
func (w *wrapped) brokeOff() bool {
	tx := w.current()
	if tx == nil || len(tx.rcptTo) == 0 || w.answered.Load() == tx {
		return false // no BDAT can have begun, or its content is complete
	}
	end, known := peek(w.c.Conn())
	return end || !known && w.c.Server().ReadTimeout > 0
}

// gone reports whether the client has ended the connection. It is called while
// go-smtp waits, so that nobody else reads. Where the connection is no socket an
// octet may be lost by asking, if the client has sent more; then the connection
// is spoiled.
func (w *wrapped) gone() (gone, spoiled bool) {
	raw := w.c.Conn()
	var c *conn
	switch l := w.link.(type) {
	case *conn:
		c = l
	case *tlsLink:
		c = l.conn
	}
	socket := raw
	if c != nil {
		c.dry.Store(true)
		defer c.dry.Store(false)
		socket = c.raw
	}
	end, known := peek(socket)
	t, overTLS := raw.(*tls.Conn)
	switch {
	case w.link.lost() || end:
		return true, false
	case overTLS: // it may have ended TLS alone; the end is kept, and read at once
		return probe(t, 0)
	case known || c != nil: // a conn is lost when its end was read
		return false, false
	}
	return probe(raw, probeTime)
}

// probeTime is how long the end of a connection may take to show that was read
// before. probe asks twice, lest the time pass before the read begins.
const probeTime = 10 * time.Millisecond

// probe reads an octet to find out whether raw has ended.
func probe(raw net.Conn, patience time.Duration) (gone, spoiled bool) {
	defer raw.SetReadDeadline(time.Time{})
	for range 2 {
		if err := raw.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return true, false
		}
		n, err := raw.Read(make([]byte, 1))
		switch {
		case n > 0:
			return false, true
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return true, false
		}
	}
	return false, false
}

// A foundConn is what a hostConn answers to a Write of nothing. So it is asked for through
// what a host has put on top of it: one that counts or limits connections hides it, and
// passes this on. To others it is nothing.
type foundConn struct{ *hostConn }

func (foundConn) Error() string { return "smtpserver: a write of nothing" }

// ownConn returns the conn below what go-smtp reads, and go-smtp's TLS on top of it; nil
// if there is none, or something between them changes what passes.
func ownConn(raw net.Conn) (*conn, *tls.Conn) {
	t, overTLS := raw.(*tls.Conn)
	if overTLS {
		raw = t.NetConn()
	}
	switch h := raw.(type) {
	case *hostConn:
		return h.conn, t
	case *net.TCPConn, *net.UnixConn:
		return nil, nil
	}
	_, err := raw.Write(nil)
	found, ok := errors.AsType[foundConn](err)
	switch {
	case !ok:
		return nil, nil
	case found.opaque.Load() != overTLS: // TLS that is hidden, or a header that was read before the greeting
		found.passOn()
		return nil, nil
	}
	return found.conn, t
}

// A tlsLink is a conn with go-smtp's TLS on top.
type tlsLink struct {
	*conn
	t             *tls.Conn
	dead, chunked atomic.Bool // as in a plainLink
}

func (l *tlsLink) lost() bool { return l.dead.Load() || l.conn.lost() }

func (l *tlsLink) fail() {
	l.dead.Store(true)
	if !l.chunked.Load() {
		l.conn.fail()
	}
}

// cutOff goes by TLS.
func (l *tlsLink) cutOff(r *reply, n int) {
	l.t.Write(bytes.Repeat(r.line(), n))
	l.abort()
}

// A plainLink is a connection that is not ours.
type plainLink struct {
	raw    net.Conn
	ctx    context.Context
	cancel context.CancelFunc
	dead   atomic.Bool
	last   atomic.Pointer[reply] // said when it is hung up

	// chunked says that go-smtp reads while we fail: it must see our reply, which
	// it reports, and not a failed read, which it makes a permanent error of. Reset
	// follows, and hangs up.
	chunked atomic.Bool
}

func newPlainLink(raw net.Conn) *plainLink {
	l := &plainLink{raw: raw}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *plainLink) context() context.Context { return l.ctx }
func (l *plainLink) lost() bool               { return l.dead.Load() }
func (l *plainLink) setBusy(bool)             {}
func (l *plainLink) awaitContent()            {}

// fail keeps what comes behind a failure from being executed. A reply may still
// be on its way, so that the next read fails, and not this write; go-smtp may
// set another deadline, and then it is the session that refuses.
func (l *plainLink) fail() {
	l.dead.Store(true)
	if !l.chunked.Load() {
		l.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// end is the end of the session, though not always of the connection.
func (l *plainLink) end() {
	l.dead.Store(true)
	l.cancel()
}

// hangUp closes the connection, once the client had time to read the last reply:
// what is closed with unread input takes that along. Nobody else may be reading.
func (l *plainLink) hangUp() {
	l.end()
	l.raw.SetWriteDeadline(time.Now().Add(lingerTime))
	if r := l.last.Load(); r != nil {
		l.raw.Write(r.line())
	}
	under := l.raw
	if t, ok := l.raw.(*tls.Conn); ok {
		t.CloseWrite()
		under = t.NetConn()
	}
	if half, ok := under.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		under.SetReadDeadline(time.Now().Add(lingerTime))
		io.CopyN(io.Discard, under, lingerBytes)
	}
	l.raw.Close()
}

func (l *plainLink) cutOff(r *reply, n int) {
	l.end()
	l.raw.SetWriteDeadline(time.Now().Add(lingerTime))
	l.raw.Write(bytes.Repeat(r.line(), n))
	l.raw.Close()
}
