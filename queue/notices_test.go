package queue

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// A mailbag keeps the notices that come to a policy.
type mailbag struct {
	mu      sync.Mutex
	notices []heldNotice
}

type heldNotice struct {
	env  spool.Envelope
	meta map[string]string
	text string
	at   time.Time
}

// policy keeps notices, and hands everything else to next.
func (b *mailbag) policy(next Handler) Handler {
	return func(ctx context.Context, m *Message) error {
		if m.Meta[MetaNotice] == "" {
			return next(ctx, m)
		}
		body, err := m.Open()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.notices = append(b.notices, heldNotice{m.Envelope.Clone(), m.Meta, string(text), time.Now()})
		return Drop("kept")
	}
}

func (b *mailbag) all() []heldNotice {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notices)
}

func noticeSetup(o NoticeOptions) setup {
	o.ReportingMTA = "relay.example"
	return setup{opts: Options{Notices: &o, Configure: func(string) Config { return Config{Backoff: Backoff{Jitter: -1}} }}}
}

// send accepts a message with this envelope.
func (w *world) send(env spool.Envelope, meta map[string]string, body string) spool.ID {
	w.t.Helper()
	t, err := w.sched.Begin(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer t.Abort()
	if _, err := io.WriteString(t, body); err != nil {
		w.t.Fatal(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Envelope: env, Meta: meta, Received: time.Now(), Class: class(meta)}
	if err := t.Commit(w.t.Context(), e); err != nil {
		w.t.Fatal(err)
	}
	t.HandOver()
	synctest.Wait()
	return e.ID
}

// TestNoticeOfOutcomes: who is told of what, by the table of RFC 3461, section 6.2.
func TestNoticeOfOutcomes(t *testing.T) {
	bounce := func(context.Context, *Message) error { return Reject(550, "5.1.1 no such user") }
	expire := func(context.Context, *Message) error { return Reject(451, "4.4.1 no route") }
	for _, tt := range []struct {
		name    string
		handler Handler
		sender  string
		notify  []string
		failed  int
		delayed int
	}{
		{"a bounce", bounce, "a@example.org", nil, 1, 0},
		{"an expiration", expire, "a@example.org", nil, 1, 1},
		{"a drop", func(context.Context, *Message) error { return Drop("spam") }, "a@example.org", nil, 0, 0},
		{"a success", func(context.Context, *Message) error { return nil }, "a@example.org", []string{"SUCCESS", "FAILURE"}, 0, 0},
		{"a hold", func(context.Context, *Message) error { return Hold("look") }, "a@example.org", nil, 0, 0},
		{"never", bounce, "a@example.org", []string{"NEVER"}, 0, 0},
		{"failures only", expire, "a@example.org", []string{"FAILURE"}, 1, 0},
		{"delays only", expire, "a@example.org", []string{"DELAY"}, 0, 1},
		{"successes only", bounce, "a@example.org", []string{"SUCCESS"}, 0, 0},
		{"from nobody", expire, "", []string{"FAILURE", "DELAY"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bag mailbag
				w := start(t, bag.policy(tt.handler), noticeSetup(NoticeOptions{}))
				id := w.send(spool.Envelope{Sender: tt.sender, Recipients: []spool.Recipient{{Address: "b@example.com", Notify: tt.notify}}}, map[string]string{"tenant": "acme"}, mail)
				time.Sleep(8 * 24 * time.Hour)
				count := map[string]int{}
				for _, n := range bag.all() {
					count[n.meta[MetaNotice]]++
					if n.env.Sender != "" || len(n.env.Recipients) != 1 || n.env.Recipients[0].Address != tt.sender {
						t.Errorf("the envelope of the notice is %+v", n.env)
					}
					if n.meta[MetaNoticeFor] != id.String() || n.meta["tenant"] != "acme" {
						t.Errorf("its metadata is %v", n.meta)
					}
					if !strings.Contains(n.text, "\r\nFinal-Recipient: rfc822; b@example.com\r\n") || !strings.Contains(n.text, "Reporting-MTA: dns; relay.example\r\n") {
						t.Errorf("it says\n%s", n.text)
					}
				}
				if count["failed"] != tt.failed || count["delayed"] != tt.delayed || len(bag.all()) != tt.failed+tt.delayed {
					t.Errorf("notices: %v, want %d failed and %d delayed", count, tt.failed, tt.delayed)
				}
				if got := strings.Count(w.types(), string(Delayed)); got != tt.delayed {
					t.Errorf("%d Delayed records, want %d", got, tt.delayed)
				}
			})
		})
	}
}

// TestDelayNoticeOnce: with the first failure after the time, and never again: not
// after restarts, and not in the next queue.
func TestDelayNoticeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		var up atomic.Bool
		inject := bag.policy(func(context.Context, *Message) error {
			if !up.Load() {
				return errors.New("down")
			}
			return nil
		})
		c := noticeSetup(NoticeOptions{DelayAfter: time.Hour})
		c.handlers = map[string]Handler{"*": func(context.Context, *Message) error { return errors.New("down, too") }}
		w := start(t, inject, c)
		w.submit("b@example.com", nil, mail)
		begin := time.Now()
		time.Sleep(time.Hour - time.Second)
		if n := len(bag.all()); n != 0 {
			t.Fatalf("%d notices within the hour", n)
		}
		time.Sleep(time.Hour)
		if n := len(bag.all()); n != 1 {
			t.Fatalf("%d notices after two hours, want 1", n)
		}
		if late := bag.all()[0].at.Sub(begin); late != 63*time.Minute { // 1+2+4+8+16+32
			t.Errorf("the sender was told after %v", late)
		}
		if !strings.Contains(bag.all()[0].text, "\r\nAction: delayed\r\n") || !strings.Contains(bag.all()[0].text, "\r\nWill-Retry-Until: ") {
			t.Errorf("the notice says\n%s", bag.all()[0].text)
		}
		w.shutdown()
		c.sp = w.sp
		w = start(t, inject, c)
		time.Sleep(5 * time.Hour)
		up.Store(true)
		time.Sleep(3 * 24 * time.Hour)
		if n := len(bag.all()); n != 1 {
			t.Errorf("%d notices in all, want 1", n)
		}
		if e := w.entries(); len(e) != 1 || e[0].Queue == Deferred {
			t.Errorf("the message did not come into the next queue: %+v", e)
		}
	})
}

// TestNoticeOfSplit: one notice for all recipients that failed at the same time.
func TestNoticeOfSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		w := start(t, bag.policy(func(context.Context, *Message) error {
			return Split([]error{Reject(550, "5.1.1 no such user"), nil, Reject(552, "5.2.2 full"), Drop("quietly"), Reject(550, "5.7.1 no")})
		}), noticeSetup(NoticeOptions{}))
		w.send(spool.Envelope{Sender: "a@example.org", EnvID: "QQ314159", Recipients: []spool.Recipient{
			{Address: "1@example.com", ORcpt: "rfc822;one@example.com"}, {Address: "2@example.com"}, {Address: "3@example.com"}, {Address: "4@example.com"},
			{Address: "5@example.com", Notify: []string{"NEVER"}}}}, nil, mail)
		if n := len(bag.all()); n != 1 {
			t.Fatalf("%d notices, want 1", n)
		}
		text := bag.all()[0].text
		for _, want := range []string{
			"Original-Envelope-Id: QQ314159", "Original-Recipient: rfc822; one@example.com", "Final-Recipient: rfc822; 1@example.com",
			"Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1 no such user", "Final-Recipient: rfc822; 3@example.com", "Status: 5.2.2",
		} {
			if !strings.Contains(text, "\r\n"+want+"\r\n") {
				t.Errorf("the notice lacks %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "2@example.com") || strings.Contains(text, "4@example.com") || strings.Contains(text, "5@example.com") {
			t.Errorf("the notice tells too much:\n%s", text)
		}
	})
}

// TestNoticeOfOperator: Bounce tells, Drop does not.
func TestNoticeOfOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		w := start(t, bag.policy(func(context.Context, *Message) error { return errors.New("down") }), noticeSetup(NoticeOptions{DelayAfter: -1}))
		first := w.submit("1@example.com", nil, mail)
		second := w.submit("2@example.com", nil, mail)
		if _, err := w.sched.Admin().Bounce(t.Context(), Filter{IDs: []spool.ID{first}}, "the account is closed"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.sched.Admin().Drop(t.Context(), Filter{IDs: []spool.ID{second}}, "spam"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := bag.all(); len(n) != 1 || !strings.Contains(n[0].text, "the account is closed") || n[0].meta[MetaNoticeFor] != first.String() {
			t.Errorf("notices: %+v", n)
		}
		if e := w.entries(); len(e) != 0 {
			t.Errorf("%d entries are left", len(e))
		}
	})
}

// TestNoticeWithOutcome: the notice is in the unit of the outcome, whatever happens
// between them.
func TestNoticeWithOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		c := noticeSetup(NoticeOptions{})
		c.record = func(context.Context, Record) error { return errors.New("no records today") }
		bounce := bag.policy(func(context.Context, *Message) error { return Reject(550, "5.1.1 no such user") })
		w := start(t, bounce, c)
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Minute)
		w.sp.Crash()
		w.shutdown()
		c.record = nil
		c.sp = w.sp.Reopen()
		entries := 0
		for _, err := range c.sp.Scan(t.Context(), spool.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			entries++
		}
		if entries != 2 {
			t.Errorf("the crash left %d entries, want the outcome and its notice", entries)
		}
		w = start(t, bounce, c)
		time.Sleep(2 * time.Minute)
		if n := len(bag.all()); n != 1 {
			t.Errorf("%d notices, want 1", n)
		}
		if got := strings.Count(w.types(), string(Bounce)); got != 2 { // AdminBounce of the notice is one, too
			t.Errorf("records: %s", w.types())
		}
	})
}

// TestNoticeRecords: what is recorded of a notice begins with its Reception, however
// slow records are, be it of an attempt or of an operator.
func TestNoticeRecords(t *testing.T) {
	for _, operator := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var bag mailbag
			var mu sync.Mutex
			first := map[spool.ID]RecordType{}
			notices := 0
			c := noticeSetup(NoticeOptions{})
			c.record = func(_ context.Context, r Record) error {
				time.Sleep(50 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if _, known := first[r.ID]; !known {
					first[r.ID] = r.Type
				} else if r.Meta[MetaNotice] != "" {
					notices++ // its end
				}
				return nil
			}
			w := start(t, bag.policy(func(context.Context, *Message) error {
				if operator {
					return Hold("look")
				}
				return Reject(550, "5.1.1 no such user")
			}), c)
			for range 10 {
				w.submit("b@example.com", nil, mail)
			}
			if operator {
				time.Sleep(time.Minute)
				if _, err := w.sched.Admin().Bounce(t.Context(), Filter{All: true}, "closed"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
			mu.Lock()
			defer mu.Unlock()
			for id, is := range first {
				if is != Reception {
					t.Errorf("by an operator: %v: the first record of %s is a %s", operator, id, is)
				}
			}
			if notices != 10 || len(bag.all()) != 10 {
				t.Errorf("by an operator: %v: %d notices, %d with an end", operator, len(bag.all()), notices)
			}
		})
	}
}

// TestNoticeOfDamage: content that cannot be read, or a hook that panics, costs the
// notice some of itself, and never the outcome.
func TestNoticeOfDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bag mailbag
		c := noticeSetup(NoticeOptions{Edit: func(r *dsn.Report) bool {
			if r.Recipients[0].Address == "panic@example.com" {
				panic("oh")
			}
			r.Text = "Sorry."
			return r.Recipients[0].Address != "no@example.com"
		}})
		w := start(t, bag.policy(func(_ context.Context, m *Message) error {
			if m.Envelope.Recipients[0].Address == "damaged@example.com" {
				c.sp.Damage(m.entry.Body, "body")
			}
			return Reject(550, "5.1.1 no such user")
		}), func() setup { c.sp = spool.NewMemory(); return c }())
		for _, to := range []string{"damaged@example.com", "panic@example.com", "no@example.com", "fine@example.com"} {
			w.submit(to, nil, mail)
		}
		var of []string
		for _, n := range bag.all() {
			of = append(of, map[bool]string{true: "with", false: "without"}[strings.Contains(n.text, "rfc822-headers")])
			if !strings.Contains(n.text, "\r\n\r\nSorry.\r\n") {
				t.Errorf("the text was not changed:\n%s", n.text)
			}
		}
		if got := strings.Join(of, " "); got != "without with" {
			t.Errorf("notices %s the header, want one without and one with", got)
		}
		if got := strings.Count(w.types(), " "+string(Bounce)); got != 4 {
			t.Errorf("%d bounces, want 4: %s", got, w.types())
		}
	})
}

// TestReport: what a handler needs for a notice of its own.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got string
		w := start(t, func(context.Context, *Message) error { return nil }, setup{handlers: map[string]Handler{
			"example.com": func(ctx context.Context, m *Message) error {
				r, err := m.Report(dsn.Relayed)
				if err != nil || len(r.Recipients) == 0 {
					return err
				}
				r.ReportingMTA = "relay.example"
				var b strings.Builder
				if err := r.Write(&b); err != nil {
					return err
				}
				_, err = m.Emit(ctx, r.NoticeEnvelope(), nil, strings.NewReader(b.String()))
				return err
			},
			"example.org": func(_ context.Context, m *Message) error {
				body, err := m.Open()
				if err != nil {
					return err
				}
				text, err := io.ReadAll(body)
				got = string(text)
				return err
			},
		}})
		w.send(spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com", Notify: []string{"SUCCESS"}}}}, nil, mail)
		if !strings.Contains(got, "\r\nAction: relayed\r\n") || !strings.Contains(got, "\r\nStatus: 2.0.0\r\n") {
			t.Errorf("the sender got\n%s\nrecords %s", got, w.types())
		}
	})
}

// TestNoticeNames: a blank name in a host's configuration is none.
func TestNoticeNames(t *testing.T) {
	for _, name := range []string{"", " ", "\t\n"} {
		o, err := (&NoticeOptions{ReportingMTA: name}).withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(o.ReportingMTA) == "" {
			t.Errorf("with %q: reports by %q", name, o.ReportingMTA)
		}
	}
}

// TestNoticeTexts: replies are quoted, and what a host's errors say is not.
func TestNoticeTexts(t *testing.T) {
	const secret = "password=hunter2"
	for _, tt := range []struct {
		name   string
		err    error
		quoted bool
	}{
		{"an error", errors.New(secret), false},
		{"an error to be tried again", RetryAfter(time.Hour, errors.New(secret)), false},
		{"a reply", Reject(451, "4.4.1 "+secret), true},
		{"a reply to be tried again", RetryAfter(time.Hour, Reject(451, "4.4.1 "+secret)), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bag mailbag
				w := start(t, bag.policy(func(context.Context, *Message) error { return tt.err }), noticeSetup(NoticeOptions{}))
				w.send(spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: "b@example.com"}}}, map[string]string{"traceparent": "00-1"}, mail)
				time.Sleep(8 * 24 * time.Hour)
				all := bag.all()
				if len(all) != 2 {
					t.Fatalf("%d notices, want that of the delay and the last", len(all))
				}
				for _, n := range all {
					if strings.Contains(n.text, secret) != tt.quoted || strings.Contains(n.text, "\nDiagnostic-Code:") != tt.quoted {
						t.Errorf("quoted: want %v, in\n%s", tt.quoted, n.text)
					}
					if n.meta["traceparent"] != "00-1" {
						t.Errorf("metadata %v", n.meta)
					}
				}
			})
		})
	}
}
