package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// The JSON of Stats is stable, readable, and says what waits how long.
func TestStatsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(_ context.Context, m *Message) error {
			switch m.Meta["tenant"] {
			case "acme":
				return RetryAfter(time.Hour, nil)
			case "slow":
				time.Sleep(90 * time.Second)
				return Hold("look")
			}
			time.Sleep(250 * time.Millisecond)
			return nil
		}, setup{
			opts:     Options{Configure: func(string) Config { return Config{Concurrency: 1} }},
			handlers: map[string]Handler{"*": func(context.Context, *Message) error { time.Sleep(3 * time.Second); return Reject(550, "no") }},
		})
		w.submit("a@example.com", map[string]string{"tenant": "acme"}, mail)
		w.submit("b@example.com", map[string]string{"tenant": "slow"}, mail)
		w.submit("c@example.com", nil, mail)
		w.submit("d@example.com", nil, mail)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.submit("e@example.com", map[string]string{"tenant": "slow"}, mail)
		w.submit("f@example.com", nil, mail)
		time.Sleep(30 * time.Second)
		synctest.Wait()

		got, err := json.MarshalIndent(w.sched.Stats(), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "stats.json")
		if *update {
			if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(want)) != string(got) {
			t.Errorf("the JSON is\n%s\nwant that of %s", got, golden)
		}
		time.Sleep(5 * time.Minute) // no handler may outlast the test
	})
}

// JSON names a bounded number of queues, and says why counts are missing.
func TestStatsJSONBounds(t *testing.T) {
	st := Stats{Time: time.Unix(1000, 0), OldestWaiting: time.Unix(2000, 0), Err: errors.New("a\nb")}
	for i := range 1000 {
		st.Queues = append(st.Queues, QueueStats{Name: fmt.Sprintf("q%03d", i), Scheduled: int64(i * 7 % 1000)})
	}
	data, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Oldest *float64 `json:"oldest_waiting_seconds"`
		Error  string   `json:"error"`
		More   int      `json:"more_queues"`
		Queues []struct {
			Name      string   `json:"name"`
			Scheduled int64    `json:"scheduled"`
			Oldest    *float64 `json:"oldest_waiting_seconds"`
		} `json:"queues"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Error != "a b" || got.Oldest == nil || *got.Oldest != 0 || got.More != 1000-maxQueuesJSON || len(got.Queues) != maxQueuesJSON {
		t.Errorf("error %q, oldest %v, %d queues and %d more", got.Error, got.Oldest, len(got.Queues), got.More)
	}
	for i, q := range got.Queues {
		if q.Scheduled < 1000-maxQueuesJSON || i > 0 && q.Name <= got.Queues[i-1].Name || q.Oldest != nil {
			t.Errorf("queue %d is %+v", i, q)
		}
	}
}

// The longest waiting classes of a queue are named, in order; the others counted.
func TestStatsClasses(t *testing.T) {
	begin := time.Unix(1000, 0)
	var q QueueStats
	for i := range 40 {
		at := begin.Add(time.Duration(i*17%40) * time.Second)
		q.count(spool.QueueInfo{Class: fmt.Sprintf("c%02d", i), Entries: int64(i + 1), Oldest: at})
		q.count(spool.QueueInfo{Class: fmt.Sprintf("h%02d", i), State: spool.Held, Entries: 1, Oldest: begin.Add(-time.Hour)})
	}
	q.count(spool.QueueInfo{Class: "empty"})
	if len(q.Classes) != maxClasses || q.MoreClasses != 40-maxClasses || !q.OldestWaiting.Equal(begin) {
		t.Errorf("%d classes and %d more, oldest %v", len(q.Classes), q.MoreClasses, q.OldestWaiting)
	}
	for i, c := range q.Classes {
		var n int64
		fmt.Sscanf(c.Class, "c%d", &n)
		if !c.OldestWaiting.Equal(begin.Add(time.Duration(i)*time.Second)) || c.Waiting != n+1 {
			t.Errorf("class %d is %+v", i, c)
		}
	}
}

// What the wait until the inject callback is, and what is none.
func TestUntilInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		sp := spool.NewMemory()
		inject := func(context.Context, *Message) error {
			if calls++; calls == 1 {
				return errors.New("down") // a retry is no further wait
			}
			time.Sleep(time.Minute)
			return nil
		}
		relay := func(context.Context, *Message) error { return nil }
		one := setup{sp: sp, handlers: map[string]Handler{"*": relay}, opts: Options{Configure: func(string) Config { return Config{Concurrency: 1} }}}
		w := start(t, inject, one)
		w.submit("a@example.com", nil, mail)
		w.submit("b@example.com", nil, mail)
		w.submit("c@example.com", nil, mail)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		st := w.sched.Stats()
		if got := st.UntilInject; got.Count != 3 || got.Sum != 60 {
			t.Errorf("%d waits of %v s, want 3 of 0, 0 and 60 s", got.Count, got.Sum)
		}
		if st.InjectTime.Count != 4 || st.InjectTime.Sum != 180 || st.HandlerTime.Count != 3 {
			t.Errorf("%d inject callbacks took %v s, %d handlers ran; want 4, 180 and 3", st.InjectTime.Count, st.InjectTime.Sum, st.HandlerTime.Count)
		}

		// What was accepted before a restart has waited since.
		w.shutdown()
		w.submitStopped("d@example.com")
		sp.Close()
		time.Sleep(time.Hour)
		one.sp = sp.Reopen()
		w = start(t, inject, one)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := w.sched.Stats().UntilInject; got.Count != 1 || got.Sum != 3600 || got.Quantile(1) < time.Hour || got.Quantile(1) > 75*time.Minute {
			t.Errorf("%d waits of %v s, at most %v; want one of an hour", got.Count, got.Sum, got.Quantile(1))
		}
	})
}

// Only the first attempt of all ends the wait.
func TestFirstAttempt(t *testing.T) {
	for name, e := range map[string]spool.Entry{
		"":            {Queue: Deferred},
		"elsewhere":   {Queue: "example.com"},
		"failed":      {Queue: Deferred, Attempts: 1},
		"released":    {Queue: Deferred, LastError: "hold: look"},
		"interrupted": {Queue: Deferred, Interrupted: 1},
	} {
		var c times
		c.waited(&e)
		if got, want := c.untilInject.snapshot().Count == 1, name == ""; got != want {
			t.Errorf("%s: counted %v, want %v", name, got, want)
		}
	}
}

// submitStopped accepts a message while the scheduler does not run.
func (w *world) submitStopped(rcpt string) {
	w.t.Helper()
	if _, err := w.sched.Submit(context.Background(), spool.Envelope{Recipients: []spool.Recipient{{Address: rcpt}}}, nil, strings.NewReader(mail)); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// Handlers that panic, exit, or come too late are timed as all others are.
func TestHandlerTimes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler Handler
		want    float64
	}{
		{"panics", func(context.Context, *Message) error { time.Sleep(time.Second); panic("x") }, 1},
		{"exits", func(context.Context, *Message) error { time.Sleep(2 * time.Second); runtime.Goexit(); return nil }, 2},
		{"overdue", func(context.Context, *Message) error { time.Sleep(time.Hour); return nil }, 3600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done := false
				w := start(t, func(ctx context.Context, m *Message) error {
					if done {
						return Drop("done")
					}
					done = true
					return tt.handler(ctx, m)
				})
				w.submit("a@example.com", nil, mail)
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if got := w.sched.Stats().InjectTime; got.Count != 2 || got.Sum != tt.want {
					t.Errorf("%d calls took %v s, want 2, %v", got.Count, got.Sum, tt.want)
				}
			})
		})
	}
}

// Rates are those of records that were taken in the last minute.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil })
		for range 120 {
			w.submit("a@example.com", nil, mail)
			time.Sleep(500 * time.Millisecond)
		}
		st := w.sched.Stats()
		if got := st.Rates[Delivery]; got < 1.95 || got > 2 || st.Outcomes[Delivery] != 120 || len(st.Rates) != 2 {
			t.Errorf("rates %v, outcomes %v; want about two a second", st.Rates, st.Outcomes)
		}
		time.Sleep(2 * time.Minute)
		st = w.sched.Stats()
		if st.Rates[Delivery] != 0 || st.Outcomes[Delivery] != 120 {
			t.Errorf("rates %v, outcomes %v; want none in the last minute", st.Rates, st.Outcomes)
		}
	})
}

// Stats may be asked for by many while everything runs.
func TestStatsWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return Split([]error{errors.New("down")}) })
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 200 {
				if _, err := json.Marshal(w.sched.Stats()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
			}
		}()
		for i := range 100 {
			w.submit(fmt.Sprintf("a@d%d.example", i), nil, mail)
			time.Sleep(time.Second)
		}
		<-done
		if st := w.sched.Stats(); st.Retries[RetryOther] < 100 || !slices.IsSortedFunc(st.Queues, func(a, b QueueStats) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("retries %v", st.Retries)
		}
	})
}

// TestStatsRebound: a message whose callback and whose handler succeed is delivered once;
// without handlers the callback's success is the delivery.
func TestStatsRebound(t *testing.T) {
	ok := func(context.Context, *Message) error { return nil }
	for _, tt := range []struct {
		handlers map[string]Handler
		outcomes int64
		rebound  int64
	}{{nil, 3, 0}, {map[string]Handler{"*": ok}, 6, 3}} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, ok, setup{handlers: tt.handlers})
			for _, to := range []string{"a@example.com", "b@example.com", "c@example.net"} {
				w.submit(to, nil, mail)
			}
			synctest.Wait()
			if st := w.sched.Stats(); st.Outcomes[Delivery] != tt.outcomes || st.Rebound != tt.rebound || st.Rates[Delivery] == 0 {
				t.Errorf("with %d handlers: %d deliveries of which %d were rebound, want %d and %d", len(tt.handlers), st.Outcomes[Delivery], st.Rebound, tt.outcomes, tt.rebound)
			}
		})
	}
}
