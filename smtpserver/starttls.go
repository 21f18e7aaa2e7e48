package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"time"
)

// errSilent ends a connection without a word: there is nobody to hear it.
var errSilent = errors.New("smtpserver: connection given up")

var (
	replyTLSUnavailable = &reply{code: 502, enhanced: [3]int{5, 5, 1}, text: "STARTTLS is not available"}
	replyTLSActive      = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "TLS is active already"}
	replyTLSArgument    = &reply{code: 501, enhanced: [3]int{5, 5, 4}, text: "STARTTLS has no arguments"}
	replyTLSTooLate     = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "STARTTLS must come before AUTH and MAIL"}
	replyTLSPipelined   = &reply{code: 503, enhanced: [3]int{5, 5, 1}, text: "Nothing may be pipelined behind STARTTLS", close: true}
	replyTLSReady       = &reply{code: 220, enhanced: [3]int{2, 0, 0}, text: "Ready to start TLS"}
)

// startTLS carries STARTTLS out below go-smtp (RFC 3207), so that content and
// commands pass the conn in clear under TLS too. What was said before does
// not count any more.
func (d *dialogue) startTLS(arg string) {
	switch t := d.s.opts.TLS; {
	case t.Config == nil || t.Implicit:
		d.answer(replyTLSUnavailable)
	case d.s.pub.TLS != nil:
		d.answer(replyTLSActive)
	case arg != "":
		d.answer(replyTLSArgument)
	case d.s.current() != nil || d.s.pub.AuthnID != "":
		d.answer(replyTLSTooLate)
	case len(d.c.in.window()) > 0:
		// Commands injected in clear would be executed inside TLS (CVE-2011-0411).
		d.answer(replyTLSPipelined)
	default:
		d.answer(replyTLSReady)
		if err := d.handshake(); err != nil {
			d.c.fail()
			return
		}
		d.s.pub.Hello = ""
		d.s.pub.Meta = maps.Clone(d.s.connected) // without what hooks made of commands in clear
	}
}

// handshake puts TLS on the socket.
func (d *dialogue) handshake() (err error) {
	c := d.c
	if err := c.flush(); err != nil {
		return errSilent
	}
	defer func() {
		if p := recover(); p != nil { // of a function in the tls.Config
			d.s.logPanic("TLS handshake", p)
			err = errSilent
		}
	}()
	t := tls.Server(c.lower, d.s.opts.TLS.Config)
	ctx, limit := c.ctx, c.limits.ClientTimeout
	if err := c.armOnce(limit); err != nil {
		return errSilent // it would be said in clear
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
		c.raw.SetWriteDeadline(time.Now().Add(limit))
		defer c.disarm()
	}
	if err := t.HandshakeContext(ctx); err != nil {
		d.s.logger.LogAttrs(c.ctx, slog.LevelInfo, "smtp TLS handshake failed", slog.Any("error", err))
		return errSilent
	}
	c.setLower(t)
	state := t.ConnectionState()
	d.s.pub.TLS = &state
	return nil
}
