package dsn

import (
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestWanted(t *testing.T) {
	for _, tt := range []struct {
		sender, notify string
		want           string // actions
	}{
		{"a@example.org", "", "failed delayed"},
		{"a@example.org", "NEVER", ""},
		{"a@example.org", "FAILURE", "failed"},
		{"a@example.org", "DELAY", "delayed"},
		{"a@example.org", "SUCCESS", "delivered relayed expanded"},
		{"a@example.org", "success,Failure", "failed delivered relayed expanded"},
		{"", "FAILURE,DELAY,SUCCESS", ""},
	} {
		rcpt := spool.Recipient{}
		if tt.notify != "" {
			rcpt.Notify = strings.Split(tt.notify, ",")
		}
		var got []string
		for _, action := range []Action{Failed, Delayed, Delivered, Relayed, Expanded} {
			if Wanted(spool.Envelope{Sender: tt.sender}, rcpt, action) {
				got = append(got, string(action))
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("sender %q, NOTIFY=%s: %q, want %q", tt.sender, tt.notify, got, tt.want)
		}
	}
}

func TestNoticeEnvelope(t *testing.T) {
	r := report(func(r *Report) { r.Envelope.RequireTLS = true })
	if e := r.NoticeEnvelope(); e.Sender != "" || e.Recipients[0].Address != "a@example.org" || e.SMTPUTF8 || !e.RequireTLS {
		t.Errorf("%+v", e)
	}
	r.Envelope.Sender = "ä@example.org"
	if e := r.NoticeEnvelope(); !e.SMTPUTF8 || e.Body != "8BITMIME" {
		t.Errorf("%+v", e)
	}
}

// TestNoticeEnvelopeBody: a notice that returns 8-bit content says so, by whatever the
// Report knows.
func TestNoticeEnvelopeBody(t *testing.T) {
	for _, tt := range []struct {
		name, content, ret string
		before, after      string
	}{
		{"8-bit", "Subject: x\r\n\r\nh\xe9\r\n", "FULL", "8BITMIME", "8BITMIME"},
		{"8-bit, header asked", "Subject: x\r\n\r\nh\xe9\r\n", "HDRS", "", ""},
		{"7-bit", content, "FULL", "8BITMIME", ""},
		{"none", "", "FULL", "8BITMIME", ""},
	} {
		r := report(func(r *Report) { r.Envelope.Ret, r.Content = tt.ret, strings.NewReader(tt.content) })
		before := r.NoticeEnvelope().Body
		write(t, r)
		if after := r.NoticeEnvelope().Body; before != tt.before || after != tt.after {
			t.Errorf("%s: %q, and after Write %q, want %q and %q", tt.name, before, after, tt.before, tt.after)
		}
		r.Content = nil
		if write(t, r); r.NoticeEnvelope().Body != "" {
			t.Errorf("%s: %q without content", tt.name, r.NoticeEnvelope().Body)
		}
	}
}
