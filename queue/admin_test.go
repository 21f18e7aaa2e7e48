package queue

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// An adminWorld has a queue "q" in which one handler runs at a time and one message
// waits in memory. Its handler does what the recipient says: "fail", "hold", "block"
// until letGo, "reject"; else it succeeds.
type adminWorld struct {
	*world
	admin *Admin
	gate  chan struct{}
	once  *sync.Once
	calls func() []string // queue and recipient, in the order in which handlers were called
}

func (w adminWorld) letGo() { w.once.Do(func() { close(w.gate) }) }

func startAdmin(t *testing.T, c setup) adminWorld {
	t.Helper()
	gate := make(chan struct{})
	var mu sync.Mutex
	var calls []string
	handler := func(ctx context.Context, m *Message) error {
		rcpt := m.Envelope.Recipients[0].Address
		mu.Lock()
		calls = append(calls, m.Queue+" "+rcpt)
		mu.Unlock()
		switch {
		case strings.HasPrefix(rcpt, "fail"):
			return errors.New("down")
		case strings.HasPrefix(rcpt, "hold"):
			return Hold("look")
		case strings.HasPrefix(rcpt, "reject"):
			return Reject(550, "no")
		case strings.HasPrefix(rcpt, "block"):
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	if c.opts.Configure == nil {
		c.opts.Configure = func(queue string) Config {
			config := Config{Backoff: Backoff{Base: time.Hour, Jitter: -1}, Timeout: -1, MaxAge: 6 * time.Hour}
			if queue == "q" {
				config.Concurrency, config.MaxReady = 1, 1
			}
			return config
		}
	}
	c.handlers = map[string]Handler{"*": handler}
	w := start(t, func(ctx context.Context, m *Message) error {
		if m.Meta["queue"] == "" {
			return handler(ctx, m)
		}
		return nil
	}, c)
	aw := adminWorld{w, w.sched.Admin(), gate, new(sync.Once), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(calls)
	}}
	t.Cleanup(aw.letGo)
	synctest.Wait()
	return aw
}

// put has a message come into the queue q.
func (w adminWorld) put(rcpt string) spool.ID {
	w.t.Helper()
	return w.submit(rcpt, map[string]string{"queue": "q"}, mail)
}

func (w adminWorld) entry(id spool.ID) *spool.Entry {
	w.t.Helper()
	for _, e := range w.entries() {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// recordsOf returns the types of the records of one message, and the last one.
func (w adminWorld) recordsOf(id spool.ID) (types []string, last Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.records {
		if r.ID == id {
			types, last = append(types, string(r.Type)), r
		}
	}
	return types, last
}

// places are where a message can be, each with what brings one there. Its recipient
// has "target" in it.
var places = map[string]func(t *testing.T) (adminWorld, spool.ID){
	"ready": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		w.put("block@x.example")
		return w, w.put("target@x.example")
	},
	"later": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		id := w.put("fail-target@x.example")
		w.shutdown()
		time.Sleep(2 * time.Hour)
		return startAdmin(t, setup{sp: w.sp.Reopen()}), id
	},
	"due": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		w.put("block@x.example")
		w.put("second@x.example")
		return w, w.put("target@x.example")
	},
	"scheduled": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		return w, w.put("fail-target@x.example")
	},
	"held": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		return w, w.put("hold-target@x.example")
	},
	"running": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		return w, w.put("block-target@x.example")
	},
	"elsewhere": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		id := w.put("fail-target@x.example")
		entries, _, err := w.sp.Attach().Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
		if err != nil || len(entries) != 1 {
			t.Fatalf("claimed %d, %v", len(entries), err)
		}
		return w, id
	},
	"final": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		w.put("block@x.example") // so that the records before are taken
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		w.letGo()
		id := w.submit("reject-target@x.example", nil, mail)
		t.Cleanup(func() {
			w.mu.Lock()
			w.refuse = 0
			w.mu.Unlock()
		})
		return w, id
	},
	"kept": func(t *testing.T) (adminWorld, spool.ID) {
		w := startAdmin(t, setup{})
		kw := keptWorld{world: w.world}
		tx, entries := kw.keep("target@x.example")
		s := w.sched
		s.mu.Lock() // no slot for it any more, when its turn comes
		q := s.queue(Deferred, s.inject)
		q.config.Concurrency = 0
		s.enqueue(q, entries[0], time.Time{}).body = tx.body
		s.mu.Unlock()
		return w, entries[0].ID
	},
}

// Each action does what it says with a message, wherever it is.
func TestActionsEverywhere(t *testing.T) {
	expect := map[string]map[string]string{
		"Retry": {"ready": "skipped", "due": "skipped", "kept": "skipped", "later": "done", "scheduled": "done", "held": "skipped"},
		"Hold":  {"ready": "done", "due": "done", "kept": "done", "later": "done", "scheduled": "done", "held": "skipped"},
		"Release": {"ready": "skipped", "due": "skipped", "kept": "skipped", "later": "skipped", "scheduled": "skipped", "held": "done",
			"running": "skipped", "elsewhere": "skipped"},
		"Bounce": {"ready": "done", "due": "done", "kept": "done", "later": "done", "scheduled": "done", "held": "done"},
		"Drop":   {"ready": "done", "due": "done", "kept": "done", "later": "done", "scheduled": "done", "held": "done"},
		"Rebind": {"ready": "done", "due": "done", "kept": "done", "later": "done", "scheduled": "done", "held": "skipped"},
	}
	for place, bring := range places {
		for action, wants := range expect {
			for _, by := range []string{"ID", "recipient"} {
				t.Run(place+"/"+action+"/"+by, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w, id := bring(t)
						want := wants[place]
						switch {
						case want != "":
						case place == "running" || place == "elsewhere":
							want = place
						case place == "final":
							want = "skipped"
						}
						testAction(t, w, id, action, by, want)
					})
				})
			}
		}
	}
}

func testAction(t *testing.T, w adminWorld, id spool.ID, action, by, want string) {
	before := w.entry(id)
	f := Filter{Recipient: "TARGET@x"}
	if by == "ID" {
		f = Filter{IDs: []spool.ID{id}}
	}
	r, err := actions(w.admin)[action](t.Context(), f, "because")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{"done": r.Done, "running": r.RunningHere, "elsewhere": r.OwnedElsewhere, "skipped": r.Skipped, "failed": r.Failed}
	for what, n := range got {
		expected := int64(0)
		if what == want {
			expected = 1
		}
		if what == "skipped" && by != "ID" && n == 0 {
			continue // it is not selected, and what is not named is not counted then
		}
		if n != expected {
			t.Errorf("%s %d, want %d: %+v", what, n, expected, r)
		}
	}
	synctest.Wait()
	if want == "done" {
		wantDone(t, w, id, action, before)
		return
	}
	if after := w.entry(id); before != nil && (after == nil || after.State != before.State || after.Queue != before.Queue || !after.Due.Equal(before.Due)) {
		t.Errorf("it was not to be touched, and is %+v", after)
	}
}

func wantDone(t *testing.T, w adminWorld, id spool.ID, action string, before *spool.Entry) {
	types, last := w.recordsOf(id)
	e := w.entry(id)
	queue := Deferred
	if before != nil {
		queue = before.Queue
	}
	wantRecord := func(at RecordType, content string) {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.records {
			if r.ID == id && r.Type == at && r.Response.Content == content && r.Queue == queue {
				return
			}
		}
		t.Errorf("no %s of queue %s with %q; the last of %s is %+v", at, queue, content, types, last)
	}
	switch action {
	case "Retry":
		wantRecord(AdminRebind, "retried by an operator: because")
		if last.Type != TransientFailure || e == nil || e.Attempts != before.Attempts+1 {
			t.Errorf("the handler was not called: %s, %+v", types, e)
		}
	case "Hold":
		wantRecord(TransientFailure, "hold: because")
		if e == nil || e.State != spool.Held || before != nil && e.Attempts != before.Attempts {
			t.Errorf("left %+v, want it held", e)
		}
	case "Release":
		wantRecord(AdminRebind, "released by an operator: because")
		if last.Type != TransientFailure || !strings.HasPrefix(last.Response.Content, "hold: look") {
			t.Errorf("the handler was not called: %s", types)
		}
	case "Bounce", "Drop":
		what := map[string]string{"Bounce": "bounced", "Drop": "dropped"}[action]
		wantRecord(AdminBounce, what+" by an operator: because")
		if e != nil || last.Type != AdminBounce {
			t.Errorf("left %+v after %s, want it gone", e, types)
		}
	case "Rebind":
		wantRecord(AdminRebind, "rebound to other by an operator: because")
		if last.Queue != "other" || last.Attempts > 1 {
			t.Errorf("the handler of the other queue was not called at once: %s, %+v", types, last)
		}
	}
	w.letGo()
	if _, err := w.admin.Release(t.Context(), Filter{All: true}, "go"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Hour)
	synctest.Wait()
	ends := 0
	types, _ = w.recordsOf(id)
	for i, at := range types {
		if RecordType(at) == AdminBounce || RecordType(at) == Expiration || RecordType(at) == Delivery && i == len(types)-1 {
			ends++
		}
	}
	if ends > 1 || ends == 0 && !(e != nil && strings.Contains(e.Envelope.Recipients[0].Address, "hold")) {
		t.Errorf("it came to %d ends: %s", ends, types)
	}
}

// A blindSpool cannot be looked at while err is set.
type blindSpool struct {
	*spool.Memory
	mu  sync.Mutex
	err error
}

func (b *blindSpool) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *blindSpool) Queues(ctx context.Context) iter.Seq2[spool.QueueInfo, error] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.err; err != nil {
		return func(yield func(spool.QueueInfo, error) bool) { yield(spool.QueueInfo{}, err) }
	}
	return b.Memory.Queues(ctx)
}
