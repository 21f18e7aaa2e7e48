package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestRecordHeaders: all records of a message carry the fields that were asked for, in
// whatever way it came and ended, and Rejections none.
func TestRecordHeaders(t *testing.T) {
	const content = "X-Tenant: acme\r\nX-Other: one\r\nx-other: two\r\nSubject: folded\r\n line\r\nTo: b@example.com\r\n\r\nSubject: text\r\n"
	for _, tt := range []struct {
		name  string
		call  Handler
		keep  bool
		types string
	}{
		{"delivered", func(context.Context, *Message) error { return nil }, false, "Reception Delivery"},
		{"from memory", func(context.Context, *Message) error { return nil }, true, "Reception Delivery"},
		{"rebound", func(_ context.Context, m *Message) error {
			m.Meta["queue"] = "next"
			return nil
		}, false, "Reception Delivery Delivery"},
		{"bounced", func(context.Context, *Message) error { return Reject(550, "no") }, true, "Reception Bounce"},
		{"held", func(context.Context, *Message) error { return Hold("look") }, false, "Reception TransientFailure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := setup{opts: Options{RecordHeaders: []string{"subject", "X-*", "Missing"}}}
				if tt.name == "rebound" {
					c.handlers = map[string]Handler{"next": func(context.Context, *Message) error { return nil }}
				}
				w := start(t, tt.call, c)
				tr, err := w.sched.Begin(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tr.Write([]byte(content)); err != nil {
					t.Fatal(err)
				}
				e := &spool.Entry{ID: spool.NewID(), Header: []byte("X-Trace: 1\r\n"), Envelope: spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}}}, Received: time.Now()}
				if tt.keep {
					err = tr.Keep(t.Context(), e)
				} else {
					err = tr.Commit(t.Context(), e)
				}
				if err != nil {
					t.Fatal(err)
				}
				tr.HandOver()
				synctest.Wait()
				if got := w.types(); got != tt.types {
					t.Errorf("records %s, want %s", got, tt.types)
				}
				for _, r := range w.records {
					var got []string
					for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
						got = append(got, fmt.Sprintf("%s=%s", name, r.Headers[name]))
					}
					if want := "Subject=folded line X-Other=one X-Tenant=acme X-Trace=1"; strings.Join(got, " ") != want {
						t.Errorf("%s has %q, want %q", r.Type, got, want)
					}
				}
			})
		})
	}
}

func TestSelectsName(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"Subject", "SUBJECT", true}, {"Subject", "Subjects", false}, {"Subjects", "Subject", false},
		{"X-*", "x-a", true}, {"X-*", "X-", true}, {"X-*", "X", false}, {"*", "anything", true}, {"", "x", false},
	} {
		if got := selectsName([]string{tt.pattern}, tt.name); got != tt.want {
			t.Errorf("%q selects %q: %v", tt.pattern, tt.name, got)
		}
	}
}
