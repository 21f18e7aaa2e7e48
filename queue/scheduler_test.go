package queue

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A world is a scheduler on a memory spool in a synctest bubble.
type world struct {
	t     *testing.T
	sp    *spool.Memory
	sched *Scheduler
	stop  context.CancelFunc
	done  chan error

	mu      sync.Mutex
	records []Record
	refuse  int // how many records are refused first
}

type setup struct {
	opts     Options
	handlers map[string]Handler
	sp       *spool.Memory
	wrap     func(*spool.Memory) spool.Spool
	record   func(context.Context, Record) error
	random   func() float64
}

// start makes and runs a scheduler. It is stopped at the end of the test, and
// the bubble then checks that no goroutine is left.
func start(t *testing.T, inject Handler, with ...setup) *world {
	t.Helper()
	var c setup
	if len(with) > 0 {
		c = with[0]
	}
	if c.sp == nil {
		c.sp = spool.NewMemory()
	}
	w := &world{t: t, sp: c.sp, done: make(chan error, 1)}
	c.opts.Record = w.record
	if c.record != nil {
		c.opts.Record = c.record
	}
	c.opts.Logger = testLogger(t)
	var sp spool.Spool = w.sp
	if c.wrap != nil {
		sp = c.wrap(w.sp)
	}
	var err error
	if w.sched, err = NewScheduler(sp, inject, &c.opts); err != nil {
		t.Fatal(err)
	}
	if c.random != nil {
		w.sched.random = c.random
	}
	for pattern, h := range c.handlers {
		if err := w.sched.Handle(pattern, h); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() { w.done <- w.sched.Run(ctx) }()
	t.Cleanup(func() { w.shutdown() })
	return w
}

func (w *world) record(_ context.Context, r Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse > 0 {
		w.refuse--
		return errors.New("no room for records")
	}
	w.records = append(w.records, r)
	return nil
}

// shutdown stops the scheduler and returns what Run returned.
func (w *world) shutdown() error {
	w.stop()
	err, ok := <-w.done
	if ok {
		close(w.done)
	}
	return err
}

// submit accepts a message and waits until everything is at rest.
func (w *world) submit(rcpt string, meta map[string]string, body string) spool.ID {
	w.t.Helper()
	ids, err := w.sched.Submit(context.Background(), spool.Envelope{
		Sender: "sender@example.org", Recipients: []spool.Recipient{{Address: rcpt}},
	}, meta, strings.NewReader(body))
	if err != nil {
		w.t.Fatalf("Submit: %v", err)
	}
	synctest.Wait()
	return ids[0]
}

// types lists the types of the records so far.
func (w *world) types() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var types []string
	for _, r := range w.records {
		types = append(types, string(r.Type))
	}
	return strings.Join(types, " ")
}

func (w *world) last() Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records[len(w.records)-1]
}

// entries lists what is in the spool.
func (w *world) entries() []*spool.Entry {
	w.t.Helper()
	var all []*spool.Entry
	for e, err := range w.sp.Scan(context.Background(), spool.Query{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (w *world) wantTypes(want string) {
	w.t.Helper()
	if got := w.types(); got != want {
		w.t.Errorf("records: %s, want %s", got, want)
	}
}

const mail = "From: <a@example.org>\r\nSubject: test\r\n\r\nhello\r\n"

func TestVerdicts(t *testing.T) {
	done := func(context.Context, *Message) error { return nil }
	tests := []struct {
		name     string
		verdict  error
		handlers map[string]Handler
		records  string
		state    string // of what is left in the spool
		queue    string
		attempts int
	}{
		{name: "nil without handlers", records: "Reception Delivery"},
		{name: "nil with a handler", handlers: map[string]Handler{"*": done}, records: "Reception Delivery Delivery"},
		{name: "nil without a matching handler", handlers: map[string]Handler{"other": done},
			records: "Reception TransientFailure", state: "queued", queue: Deferred, attempts: 1},
		{name: "reject", verdict: Reject(550, "5.7.1 no"), records: "Reception Bounce"},
		{name: "reject for now", verdict: Reject(451, "later"), records: "Reception TransientFailure", state: "queued", queue: Deferred, attempts: 1},
		{name: "unknown", verdict: errors.New("x"), records: "Reception TransientFailure", state: "queued", queue: Deferred, attempts: 1},
		{name: "hold", verdict: Hold("look at it"), records: "Reception TransientFailure", state: "held", queue: Deferred},
		{name: "drop", verdict: Drop("spam"), records: "Reception AdminBounce"},
		{name: "retry", verdict: RetryAfter(time.Hour, errors.New("x")), records: "Reception TransientFailure", state: "queued", queue: Deferred, attempts: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t, func(context.Context, *Message) error { return tt.verdict }, setup{handlers: tt.handlers})
				w.submit("b@example.com", nil, mail)
				w.wantTypes(tt.records)
				all := w.entries()
				if tt.state == "" {
					if len(all) != 0 {
						t.Fatalf("%d entries are left, want none", len(all))
					}
					return
				}
				if len(all) != 1 {
					t.Fatalf("%d entries are left, want one", len(all))
				}
				e := all[0]
				if e.State.String() != tt.state || e.Queue != tt.queue || e.Attempts != tt.attempts {
					t.Errorf("left %s in %s after %d attempts, want %s in %s after %d", e.State, e.Queue, e.Attempts, tt.state, tt.queue, tt.attempts)
				}
			})
		})
	}
}

// The last attempt falls at the end of life, not at the last doubling before it.
func TestLifeOfRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		begin := time.Now()
		w := start(t, func(context.Context, *Message) error {
			at = append(at, time.Since(begin))
			return errors.New("down")
		}, setup{opts: Options{Configure: func(string) Config { return Config{Backoff: Backoff{Jitter: -1}} }}})
		w.submit("b@example.com", nil, mail)
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		if len(at) != 15 {
			t.Errorf("%d attempts in seven days, want 15: %v", len(at), at)
		}
		for i, want := range []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute} {
			if at[i] != want {
				t.Errorf("attempt %d at %v, want %v", i+1, at[i], want)
			}
		}
		if last := at[len(at)-1]; last != 7*24*time.Hour {
			t.Errorf("the last attempt was at %v, want at the end of life, 168h", last)
		}
		if r := w.last(); r.Type != Expiration || r.Queue != Deferred {
			t.Errorf("the last record is %s of queue %s, want an Expiration of the deferred queue", r.Type, r.Queue)
		}
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

func TestTransactionalHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		inject := func(_ context.Context, m *Message) error {
			b, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(b)
			if err != nil {
				return err
			}
			seen = append(seen, string(content)+m.Meta["tenant"]+m.Envelope.Sender)
			h, err := m.Header()
			if err != nil {
				return err
			}
			h.Prepend("X-Signed", "once")
			h.Set("Subject", "changed")
			m.Meta["tenant"] = "t"
			m.Envelope.Sender = "other@example.org"
			if m.Attempt < 3 {
				return errors.New("not yet")
			}
			return nil
		}
		var delivered string
		relay := func(_ context.Context, m *Message) error {
			b, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(b)
			if err != nil {
				return err
			}
			delivered = m.Queue + "|" + m.Envelope.Sender + "|" + string(content)
			return nil
		}
		w := start(t, inject, setup{handlers: map[string]Handler{"*": relay}})
		w.submit("b@Example.COM", nil, mail)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(seen) != 3 {
			t.Fatalf("%d attempts, want 3", len(seen))
		}
		for i, s := range seen {
			if s != mail+"sender@example.org" {
				t.Errorf("attempt %d saw a trace of the one before: %q", i+1, s)
			}
		}
		want := "t@example.com|other@example.org|X-Signed: once\r\n" + strings.Replace(mail, "test", "changed", 1)
		if delivered != want {
			t.Errorf("delivered %q, want %q", delivered, want)
		}
		w.wantTypes("Reception TransientFailure TransientFailure Delivery Delivery")
	})
}
