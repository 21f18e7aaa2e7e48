package queue

import (
	"context"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestFilter(t *testing.T) {
	now := time.Now()
	e := &spool.Entry{
		ID: spool.NewID(), Queue: "acme@example.com", Class: "acme", State: spool.Held,
		Received: now.Add(-time.Hour), Attempts: 3,
		Envelope: spool.Envelope{Sender: "News@Example.org", Recipients: []spool.Recipient{
			{Address: "bob@example.com"}, {Address: "Ann@MAIL.example.net"}}},
	}
	tests := []struct {
		name string
		f    Filter
		want bool
	}{
		{"zero", Filter{}, true},
		{"all", Filter{All: true}, true},
		{"queue", Filter{Queue: "acme@example.com"}, true},
		{"part of the queue", Filter{Queue: "acme"}, false},
		{"queue in another case", Filter{Queue: "ACME@example.com"}, false},
		{"class", Filter{Class: "acme"}, true},
		{"part of the class", Filter{Class: "ac"}, false},
		{"domain", Filter{Domain: "example.com"}, true},
		{"domain of the second, in another case", Filter{Domain: "mail.EXAMPLE.net"}, true},
		{"part of a domain", Filter{Domain: "example.net"}, false},
		{"sender", Filter{Sender: "news@example"}, true},
		{"another sender", Filter{Sender: "bob"}, false},
		{"null sender", Filter{Sender: "<>"}, false},
		{"recipient", Filter{Recipient: "ANN@"}, true},
		{"another recipient", Filter{Recipient: "news"}, false},
		{"domain of one, text of the other", Filter{Domain: "example.com", Recipient: "ann"}, true},
		{"old enough", Filter{MinAge: time.Hour}, true},
		{"too young", Filter{MinAge: time.Hour + 1}, false},
		{"attempts", Filter{MinAttempts: 3}, true},
		{"too few attempts", Filter{MinAttempts: 4}, false},
		{"state", Filter{States: []spool.State{spool.Queued, spool.Held}}, true},
		{"another state", Filter{States: []spool.State{spool.Queued}}, false},
		{"no state", Filter{States: []spool.State{}}, false},
		{"all of it", Filter{Queue: e.Queue, Class: "acme", Domain: "example.com", Sender: "news", Recipient: "bob", MinAge: 1, MinAttempts: 1}, true},
		{"all but one", Filter{Queue: e.Queue, Class: "acme", Domain: "example.com", Sender: "news", Recipient: "bob", MinAge: 1, MinAttempts: 9}, false},
		{"all and another", Filter{All: true, Class: "other"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.matches(e, now); got != tt.want {
				t.Errorf("matches: %v, want %v", got, tt.want)
			}
		})
	}

	bounce := e.Clone()
	bounce.Envelope.Sender = ""
	if f := (Filter{Sender: "<>"}); !f.matches(bounce, now) {
		t.Error("the null sender is not found by <>")
	}
	if f := (Filter{Sender: "x"}); f.matches(bounce, now) {
		t.Error("the null sender is found by a text")
	}
	bounce.Queue = Suspensions
	if f := (Filter{All: true}); f.matches(bounce, now) {
		t.Error("a suspension is taken for a message")
	}
}

// An action with nothing to select by is refused, and so is one without a reason.
func TestFilterEmpty(t *testing.T) {
	s, err := NewScheduler(spool.NewMemory(), func(context.Context, *Message) error { return nil }, &Options{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Handle("*", func(context.Context, *Message) error { return nil }); err != nil {
		t.Fatal(err)
	}
	for name, act := range actions(s.Admin()) {
		if _, err := act(t.Context(), Filter{}, "why"); err == nil {
			t.Errorf("%s: an empty filter is not refused", name)
		}
		for _, f := range []Filter{
			{All: true}, {IDs: []spool.ID{}}, {Queue: "q"}, {Class: "c"}, {Domain: "d"}, {Sender: "s"}, {Recipient: "r"},
			{MinAge: 1}, {MinAttempts: 1}, {States: []spool.State{spool.Held}},
		} {
			if r, err := act(t.Context(), f, "why"); err != nil || r.Done != 0 || r.Failed != 0 {
				t.Errorf("%s(%+v): %+v, %v", name, f, r, err)
			}
			if _, err := act(t.Context(), f, " "); err == nil {
				t.Errorf("%s(%+v): an empty reason is not refused", name, f)
			}
		}
	}
}

// actions are the methods of Admin that change messages, by name. Rebind moves
// everything to the queue "other".
func actions(a *Admin) map[string]func(context.Context, Filter, string) (Result, error) {
	return map[string]func(context.Context, Filter, string) (Result, error){
		"Retry": a.Retry, "Hold": a.Hold, "Release": a.Release, "Bounce": a.Bounce, "Drop": a.Drop,
		"Rebind": func(ctx context.Context, f Filter, reason string) (Result, error) {
			return a.Rebind(ctx, f, "other", reason, &RebindOptions{Unprocessed: true})
		},
	}
}
