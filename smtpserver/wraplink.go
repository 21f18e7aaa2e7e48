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
func (w *wrapped) read(src io.Reader) []*reply {
	pipe, chunked := src.(*io.PipeReader)
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
			defer w.link.fail()
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

// gone reports whether the client has ended the connection. It is called while
// go-smtp waits, so that nobody else reads. Under TLS an octet may be lost by
// asking, if the client has sent more; then the connection is spoiled.
func (w *wrapped) gone() (gone, spoiled bool) {
	t, ok := w.c.Conn().(*tls.Conn)
	if !ok {
		return w.link.lost() || atEnd(w.c.Conn()), false
	}
	under := t.NetConn()
	if c, ok := under.(*conn); ok {
		c.dry.Store(true)
		defer c.dry.Store(false)
		under = c.raw
	}
	if w.link.lost() || atEnd(under) {
		return true, false
	}
	t.SetReadDeadline(time.Unix(1, 0)) // the client may have ended TLS alone
	defer t.SetReadDeadline(time.Time{})
	n, err := t.Read(make([]byte, 1))
	return n == 0 && !errors.Is(err, os.ErrDeadlineExceeded), n > 0
}

// A plainLink is a connection that is not ours.
type plainLink struct {
	raw    net.Conn
	ctx    context.Context
	cancel context.CancelFunc
	dead   atomic.Bool
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
// be on its way, so that the next read fails, and not this write.
func (l *plainLink) fail() {
	l.dead.Store(true)
	l.raw.SetReadDeadline(time.Unix(1, 0))
}

func (l *plainLink) cutOff(r *reply, n int) {
	l.dead.Store(true)
	l.cancel()
	l.raw.Write(bytes.Repeat(r.line(), n))
	l.raw.Close()
}
