package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

func TestRebinding(t *testing.T) {
	tests := []struct {
		name string
		edit func(m *Message)
		want string // the queue
	}{
		{"the domain of the recipient", func(*Message) {}, "example.com"},
		{"tenant and campaign", func(m *Message) { m.Meta["tenant"] = "t"; m.Meta["campaign"] = "c" }, "c:t@example.com"},
		{"routing domain", func(m *Message) { m.Meta["routing_domain"] = "MX.Example.net" }, "example.com!mx.example.net"},
		{"metadata queue", func(m *Message) { m.Meta["queue"] = "somewhere" }, "somewhere"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got Message
				w := start(t, func(_ context.Context, m *Message) error {
					if m.Attempt == 1 {
						return errors.New("once")
					}
					tt.edit(m)
					return nil
				}, setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error {
					got = Message{Queue: m.Queue, Attempt: m.Attempt, Received: m.Received, ID: m.ID}
					return nil
				}}})
				id := w.submit("b@Example.COM", nil, mail)
				received := w.only().Received
				time.Sleep(time.Hour)
				synctest.Wait()
				if got.Queue != tt.want || got.Attempt != 1 || !got.Received.Equal(received) || got.ID != id {
					t.Errorf("ran %s in %q, attempt %d, received %v; want %s in %q, attempt 1, received %v",
						got.ID, got.Queue, got.Attempt, got.Received, id, tt.want, received)
				}
				w.wantTypes("Reception TransientFailure Delivery Delivery")
				if r := w.records[2]; r.Queue != Deferred || r.DeliveryProtocol != "DeferredSmtpInjection" {
					t.Errorf("the success of the callback is recorded in %q by %q", r.Queue, r.DeliveryProtocol)
				}
			})
		})
	}
}

func TestSetDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran time.Duration
		begin := time.Now()
		w := start(t, func(_ context.Context, m *Message) error {
			m.SetDue(time.Now().Add(3 * time.Hour))
			return nil
		}, setup{handlers: map[string]Handler{"*": func(context.Context, *Message) error { ran = time.Since(begin); return nil }}})
		w.submit("b@example.com", nil, mail)
		if e := w.only(); e.Queue != "example.com" || e.Due.Sub(begin) != 3*time.Hour {
			t.Errorf("bound to %s, due in %v", e.Queue, e.Due.Sub(begin))
		}
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		if ran != 3*time.Hour {
			t.Errorf("ran after %v, want 3h", ran)
		}
	})
}

func TestEmit(t *testing.T) {
	emit := func(queue string) Handler {
		return func(ctx context.Context, m *Message) error {
			_, err := m.Emit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "copy@example.net"}}},
				map[string]string{"queue": queue}, strings.NewReader("Subject: copy\r\n\r\n"))
			if err == nil && m.Attempt == 1 {
				err = errors.New("not yet")
			}
			return err
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		w := start(t, emit("copies"), setup{handlers: map[string]Handler{"*": func(_ context.Context, m *Message) error {
			b, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(b)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, m.Queue+" "+string(content[:13]))
			return err
		}}})
		w.submit("b@example.com", nil, mail)
		if n := len(w.entries()); n != 1 {
			t.Fatalf("%d entries after a failed attempt that emitted, want 1", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(got) != 2 {
			t.Errorf("ran %q, want the message and its copy once", got)
		}
		if n := len(w.entries()); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
	for _, target := range []string{"nowhere", Deferred} { // Emit says so, and the rest goes on
		synctest.Test(t, func(t *testing.T) {
			w := start(t, func(ctx context.Context, m *Message) error {
				if _, err := m.Emit(ctx, m.Envelope, map[string]string{"queue": target}, strings.NewReader(mail)); err == nil {
					t.Errorf("a message was emitted into %s", target)
				}
				return nil
			}, setup{handlers: map[string]Handler{"example.com": func(context.Context, *Message) error { return nil }}})
			w.submit("b@example.com", nil, mail)
			time.Sleep(time.Minute)
			if n := len(w.entries()); n != 0 || strings.Contains(w.types(), string(TransientFailure)) {
				t.Errorf("%d entries are left, records %s", n, w.types())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := start(t, emit("copies"), setup{handlers: map[string]Handler{"example.com": func(context.Context, *Message) error { return nil }}})
		w.submit("b@example.com", nil, mail)
		time.Sleep(time.Hour)
		synctest.Wait()
		if e := w.only(); !strings.Contains(e.LastError, `no handler for queue "copies"`) {
			t.Errorf("last error %q, want one that names the queue without handler", e.LastError)
		}
	})
}

// Entries of a queue without a handler stay untouched, are counted, and do not
// keep others from running; and then success does not end a message either.
func TestQueueWithoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := spool.NewMemory()
		first := start(t, func(context.Context, *Message) error { return nil }, setup{sp: sp,
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { return errors.New("down") }}})
		for i := range 300 {
			first.submit("b@example.com", map[string]string{"queue": fmt.Sprintf("q%d", i%3)}, mail)
		}
		first.shutdown()
		sp.Close()
		sp = sp.Reopen()
		time.Sleep(time.Hour)

		w := start(t, func(context.Context, *Message) error { return nil }, setup{sp: sp}) // no handler at all
		w.submit("c@example.com", nil, mail)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		st := w.sched.Stats()
		if st.Unrouted != 300 {
			t.Errorf("Stats: %d unrouted, want 300", st.Unrouted)
		}
		for _, e := range w.entries() {
			if e.Queue != Deferred && e.Attempts != 1 {
				t.Fatalf("%s in %s has %d attempts, want 1 as before", e.ID, e.Queue, e.Attempts)
			}
		}
		if types := w.types(); !strings.HasPrefix(types, "Reception TransientFailure") || strings.Contains(types, "Delivery") {
			t.Errorf("records %s: the callback's success must not end a message while other queues hold mail", types)
		}
	})
}

// A blocked queue does not delay another one, though both hold more than
// MaxReady and memory is short.
func TestBlockedQueueDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		hang := make(chan struct{})
		var fast atomic.Int64
		w := start(t, func(context.Context, *Message) error { return nil }, setup{
			opts: Options{
				MemoryLimit: 100 << 10, // of about 150 entries
				Configure:   func(string) Config { return Config{Concurrency: 2, MaxReady: 2000} },
			},
			handlers: map[string]Handler{
				"slow": func(ctx context.Context, _ *Message) error { <-hang; return nil },
				"fast": func(context.Context, *Message) error { fast.Add(1); return nil },
			},
		})
		for range n {
			w.submit("b@example.com", map[string]string{"queue": "slow"}, mail)
		}
		for range n {
			w.submit("b@example.com", map[string]string{"queue": "fast"}, mail)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if fast.Load() != n {
			t.Errorf("%d of %d messages of the other queue were run", fast.Load(), n)
		}
		w.sched.mu.Lock()
		bytes := w.sched.mu.bytes
		w.sched.mu.Unlock()
		if bytes > 400<<10 {
			t.Errorf("%d bytes of entries in memory, want about the limit", bytes)
		}
		close(hang)
		time.Sleep(time.Minute)
		synctest.Wait()
		if left := len(w.entries()); left != 0 {
			t.Errorf("%d entries are left", left)
		}
		w.sched.mu.Lock()
		defer w.sched.mu.Unlock()
		if w.sched.mu.bytes != 0 || len(w.sched.mu.queues) != 0 {
			t.Errorf("%d bytes and %d queues in memory at rest, want none", w.sched.mu.bytes, len(w.sched.mu.queues))
		}
	})
}

func TestConcurrencyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most, calls := 0, 0, 0
		w := start(t, func(context.Context, *Message) error {
			running++
			calls++
			most = max(most, running)
			time.Sleep(time.Second)
			running--
			return nil
		}, setup{opts: Options{Configure: func(string) Config { return Config{Concurrency: 1, MaxReady: 4} }}})
		for range 50 {
			w.submit("b@example.com", nil, mail)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 1 || calls != 50 {
			t.Errorf("%d at once, %d calls; want 1 and 50", most, calls)
		}
	})
}

func TestRecordsFullClosesTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil }, setup{opts: Options{RecordBuffer: 4}})
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		for range 2 {
			w.submit("b@example.com", nil, mail)
		}
		if err := w.sched.Ready(); !errors.Is(err, ErrRecordsFull) {
			t.Errorf("Ready: %v, want %v", err, ErrRecordsFull)
		}
		w.sched.RecordRejection(Record{})
		if st := w.sched.Stats(); st.Dropped != 1 {
			t.Errorf("%d rejections dropped, want 1", st.Dropped)
		}
		w.mu.Lock()
		w.refuse = 0
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := w.sched.Ready(); err != nil {
			t.Errorf("Ready: %v, want nil as soon as records are taken", err)
		}
		if got := strings.Count(w.types(), "Delivery"); got != 2 {
			t.Errorf("%d Delivery records, want 2: %s", got, w.types())
		}
	})
}

// All records of a message come in order.
func TestRecordsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return errors.New("down") },
			setup{opts: Options{Configure: func(string) Config { return Config{MaxAttempts: 2} }}})
		for range 100 {
			if _, err := w.sched.Submit(t.Context(), spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}, nil, strings.NewReader(mail)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		byID := map[spool.ID]string{}
		for _, r := range w.records {
			byID[r.ID] += string(r.Type) + " "
		}
		for id, types := range byID {
			if types != "Reception TransientFailure TransientFailure Expiration " {
				t.Errorf("%s: %s", id, types)
			}
		}
		if len(byID) != 100 {
			t.Errorf("records of %d messages, want 100", len(byID))
		}
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		begin := time.Now()
		w := start(t, func(_ context.Context, m *Message) error {
			switch m.Meta["tenant"] {
			case "hold":
				return Hold("wait")
			case "fail":
				return errors.New("down")
			}
			<-hang
			return nil
		}, setup{opts: Options{Configure: func(string) Config { return Config{Concurrency: 2} }}})
		w.submit("b@example.com", map[string]string{"tenant": "hold"}, mail)
		w.submit("b@example.com", map[string]string{"tenant": "fail"}, mail)
		for range 5 {
			w.submit("b@example.com", nil, mail)
		}
		st := w.sched.Stats()
		if st.Err != nil || st.Running != 2 || st.Held != 1 || st.Ready != 3 || st.Scheduled != 1 {
			t.Errorf("%d running, %d held, %d ready, %d scheduled (%v); want 2, 1, 3, 1", st.Running, st.Held, st.Ready, st.Scheduled, st.Err)
		}
		if !st.OldestWaiting.Equal(begin) || st.Outcomes[Reception] != 7 || st.Outcomes[TransientFailure] != 2 {
			t.Errorf("oldest %v, outcomes %v", st.OldestWaiting, st.Outcomes)
		}
		if len(st.Queues) != 1 || st.Queues[0].Name != Deferred || !st.Queues[0].Handler {
			t.Errorf("queues %+v", st.Queues)
		}
		close(hang)
	})
}

func TestClockWatch(t *testing.T) {
	var c clockWatch
	begin := time.Now()
	c.start(begin)
	if c.observe(time.Hour, time.Hour) != 0 || c.observe(time.Hour+50*time.Second, time.Hour) != 0 {
		t.Error("clocks that agree to within a minute are taken for a jump")
	}
	if drift := c.observe(25*time.Hour, 2*time.Hour); drift != 23*time.Hour {
		t.Errorf("a jump of 23 hours was seen as one of %v", drift)
	}
	if c.observe(26*time.Hour, 3*time.Hour) != 0 {
		t.Error("one jump was noticed twice")
	}
	if !c.paused(begin.Add(2*time.Hour + 59*time.Minute)) {
		t.Error("expiring is not paused within the hour after the jump")
	}
	if c.paused(begin.Add(3 * time.Hour)) {
		t.Error("expiring is still paused an hour after the jump")
	}
	if drift := c.observe(4*time.Hour, 4*time.Hour); drift != -23*time.Hour {
		t.Errorf("the jump back was seen as one of %v", drift)
	}
}
