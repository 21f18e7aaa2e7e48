package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestNoticeReturns8bit: RET=FULL returns 8-bit content, and the envelope of the notice
// says what is in it.
func TestNoticeReturns8bit(t *testing.T) {
	for _, tt := range []struct{ text, body string }{{"Gr\xfc\xdfe.", "8BITMIME"}, {"Hello.", ""}} {
		synctest.Test(t, func(t *testing.T) {
			var bag mailbag
			w := start(t, bag.policy(func(context.Context, *Message) error { return Reject(550, "no") }), noticeSetup(NoticeOptions{}))
			w.send(spool.Envelope{Sender: "a@example.org", Ret: "FULL", Recipients: []spool.Recipient{{Address: "b@example.com"}}},
				nil, "Subject: x\r\n\r\n"+tt.text+"\r\n")
			synctest.Wait()
			all := bag.all()
			if len(all) != 1 || all[0].env.Body != tt.body || !strings.Contains(all[0].text, "Content-Type: message/rfc822\r\n") || !strings.Contains(all[0].text, tt.text) {
				t.Errorf("%d notices, want one with BODY=%s that returns %q: %+v", len(all), tt.body, tt.text, all)
			}
		})
	}
}
