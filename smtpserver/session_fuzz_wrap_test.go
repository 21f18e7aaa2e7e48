package smtpserver

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
)

// FuzzWrappedSession is [FuzzSession] for a host with a go-smtp server of its
// own. What go-smtp answers is its affair; the promises are the same.
func FuzzWrappedSession(f *testing.F) {
	for _, seed := range sessionSeeds {
		f.Add(seed.bits, []byte(seed.script))
		f.Add(seed.bits|0x4000, []byte(seed.script))
	}
	f.Fuzz(func(t *testing.T, bits uint16, data []byte) {
		defer watchForHang()()
		conf := sessionConfOf(bits)
		conf.wrapped, conf.secure, conf.authRequired = true, false, false
		conf.plain = bits&0x4000 != 0
		if conf.plain && readOtherwise(data, conf) {
			return
		}
		synctest.Test(t, func(t *testing.T) { runSession(t, conf, newWrappedHost(t, conf), data) })
	})
}

// stockReader is what go-smtp's reader of DATA takes for something else: a CR
// behind CRLF "." gets lost, and behind CR CRLF the end of data is not seen.
var stockReader = regexp.MustCompile(`\r\r\n|\n\.\r([^\n]|$)`)

// readOtherwise reports whether what becomes of a session depends on who reads it.
func readOtherwise(data []byte, conf sessionConf) bool {
	var all strings.Builder
	for _, s := range steps(data, conf.chop) {
		if s.then == 'P' || s.then == 's' {
			return true // it goes on when it cannot write, and when a line or content does not come
		}
		all.Write(s.write)
	}
	return stockReader.MatchString(all.String())
}

// newWrappedHost is newSessionHost behind a go-smtp server that accepts every
// sender and recipient.
func newWrappedHost(t *testing.T, conf sessionConf) *sessionHost {
	t.Helper()
	h := newPolicyHost(t)
	opts := h.options(conf)
	next := smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &stockSession{}, nil })
	be, err := Wrap(next, h.sched, opts)
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(be)
	srv.Domain, srv.LMTP, srv.MaxRecipients, srv.ErrorLog = "mx.example.com", conf.lmtp, conf.limits.Recipients, errorLog{discardLogger()}
	srv.EnableSMTPUTF8, srv.EnableDSN, srv.EnableBINARYMIME = true, true, true
	if conf.plain {
		srv.MaxLineLength, srv.ReadTimeout, srv.WriteTimeout = 0, time.Minute, time.Minute
		h.servePlain(srv)
		return h
	}
	ln, err := WrapListener(h.ln, opts)
	if err != nil {
		t.Fatal(err)
	}
	h.serve = func(net.Listener) error {
		if err := srv.Serve(ln); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return ErrServerClosed
	}
	h.shutdown = ln.Shutdown
	h.close = func() error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := ln.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return srv.Close()
	}
	return h
}

// servePlain serves connections that are no WrappedListener's.
func (h *sessionHost) servePlain(srv *smtp.Server) {
	h.serve = func(ln net.Listener) error {
		if err := srv.Serve(ln); err != nil {
			return err
		}
		return ErrServerClosed
	}
	h.shutdown = srv.Shutdown
	h.close = func() error {
		if err := srv.Close(); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			return err
		}
		return nil
	}
}
