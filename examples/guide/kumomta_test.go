package guide

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/deferred"
	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/smtpserver"
)

// listen is kumo.start_esmtp_listener with deferred_queue = true.
func listen() *deferred.Options {
	opts := &deferred.Options{
		DeferredQueue: true,
		RelayHosts:    []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
		Hostname:      "mail.example.org",
		Overrides: []smtpserver.Override{{ // peer = { ['10.1.0.0/16'] = { meta = { tenant = 'shop' } } }
			Remote: netip.MustParsePrefix("10.1.0.0/16"),
			Meta:   map[string]string{"tenant": "shop"},
		}},
	}
	opts.Limits.MessageSize = 50 << 20
	return opts
}

// injectKumo is what smtp_server_message_deferred_inject did.
func injectKumo(_ context.Context, m *deferred.Message) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	if h.Get("X-Spam") == "yes" {
		return deferred.Reject(550, "5.7.1 not from here") // kumo.reject
	}
	if c := h.Get("X-Campaign"); c != "" {
		m.Meta["campaign"] = c // msg:set_meta
		h.Del("X-Campaign")    // msg:remove_all_named_headers
	}
	return nil
}

// shape is get_queue_config and get_egress_path_config.
func shape(name string) queue.Config {
	if name == queue.Deferred {
		return queue.Config{}
	}
	return queue.Config{
		Backoff:     queue.Backoff{Base: 20 * time.Minute, Max: 4 * time.Hour}, // retry_interval, max_retry_interval
		MaxAge:      24 * time.Hour,                                            // max_age
		Concurrency: 10,                                                        // connection_limit
		Rate:        queue.Rate{N: 100, Per: time.Minute},                      // max_message_rate, "100/m" for ParseRate
	}
}

func TestKumoMTA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, injectKumo, shape, listen())
		for _, field := range []string{"X-Campaign: summer", "X-Spam: yes"} {
			if err := srv.Send("a@example.com", []string{"b@example.net"}, field+"\nSubject: x\n\nx\n"); err != nil {
				t.Fatal(err)
			}
		}
		srv.Advance(time.Minute)
		if r := srv.Records(queue.Delivery); len(r) != 2 || r[1].Queue != "summer:@example.net" {
			t.Errorf("delivered: %+v", r)
		}
		if r := srv.Records(queue.Bounce); len(r) != 1 || r[0].Response.Code != 550 {
			t.Errorf("bounced: %+v", r)
		}
	})
}
