package guide

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
	"github.com/deferredqueue/deferredqueue/spool"
)

// receive says who may hand in what.
func receive() *deferred.Options {
	opts := &deferred.Options{
		DeferredQueue:      true,
		RelayHosts:         []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		InvalidLineEndings: smtpserver.Fix,
		Hooks:              smtpserver.Hooks{Mail: knownSender},
	}
	opts.Limits.QueuedMessages = 1_000_000 // beyond it, 4xx until there is room again
	opts.Limits.QueuedAge = 6 * time.Hour
	return opts
}

// knownSender is asked at MAIL, before anything is accepted.
func knownSender(_ context.Context, s *smtpserver.Session, env *spool.Envelope) error {
	if !strings.HasSuffix(env.Sender, "@example.com") {
		return queue.Reject(550, "5.7.1 %s is none of ours", env.Sender)
	}
	s.Meta["tenant"] = "example" // goes into the messages of this connection
	return nil
}

func TestReception(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, func(context.Context, *deferred.Message) error { return nil }, nil, receive())
		err := srv.Send("x@example.org", []string{"ada@example.net"}, "Subject: x\n\nx\n")
		if err == nil || !strings.Contains(err.Error(), "none of ours") {
			t.Errorf("a stranger: %v", err)
		}
		if err := srv.Send("app@example.com", []string{"ada@example.net"}, "Subject: x\n\nx\n"); err != nil {
			t.Fatal(err)
		}
		srv.Advance(time.Second)
		if n := len(srv.Records(queue.Rejection)); n != 1 {
			t.Errorf("%d rejections, want 1", n)
		}
		if r := srv.Records(queue.Delivery); len(r) != 2 || r[1].Queue != "example@example.net" {
			t.Errorf("deliveries: %+v", r)
		}
	})
}
