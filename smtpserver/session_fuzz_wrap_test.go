package smtpserver

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-smtp"
)

// FuzzWrappedSession is [FuzzSession] for a host with a go-smtp server of its
// own. What go-smtp answers is its affair; the promises are the same.
func FuzzWrappedSession(f *testing.F) {
	for _, seed := range sessionSeeds {
		f.Add(seed.bits, []byte(seed.script))
	}
	f.Fuzz(func(t *testing.T, bits uint16, data []byte) {
		defer watchForHang()()
		conf := sessionConfOf(bits)
		conf.wrapped, conf.secure, conf.authRequired = true, false, false
		synctest.Test(t, func(t *testing.T) { runSession(t, conf, newWrappedHost(t, conf), data) })
	})
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
	ln, err := WrapListener(h.ln, opts)
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(be)
	srv.Domain, srv.LMTP, srv.MaxRecipients, srv.ErrorLog = "mx.example.com", conf.lmtp, conf.limits.Recipients, errorLog{discardLogger()}
	srv.EnableSMTPUTF8, srv.EnableDSN, srv.EnableBINARYMIME = true, true, true
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
