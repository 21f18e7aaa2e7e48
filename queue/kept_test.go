package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A message that Keep accepted becomes what it becomes after Commit, and is
// stored only if anything of it remains.
func TestKeepVerdicts(t *testing.T) {
	done := func(context.Context, *Message) error { return nil }
	others := map[string]Handler{"*": func(context.Context, *Message) error { return Hold("arrived") }}
	tests := []struct {
		name     string
		inject   Handler
		handlers map[string]Handler
		stored   int // entries
	}{
		{name: "end of the road", inject: done},
		{name: "end of the road, new content", inject: func(_ context.Context, m *Message) error {
			return m.SetContent(strings.NewReader("Subject: new\r\n\r\n"))
		}},
		{name: "rebound", inject: done, handlers: others, stored: 1},
		{name: "rebound, new content", inject: func(_ context.Context, m *Message) error {
			return m.SetContent(strings.NewReader("Subject: new\r\n\r\n"))
		}, handlers: others, stored: 1},
		{name: "rebound, edited", inject: func(_ context.Context, m *Message) error {
			h, err := m.Header()
			if err == nil {
				h.Set("Subject", "new")
			}
			return err
		}, handlers: others, stored: 1},
		{name: "emits", inject: func(ctx context.Context, m *Message) error {
			_, err := m.Emit(ctx, m.Envelope, nil, strings.NewReader(mail))
			return err
		}, handlers: others, stored: 2},
		{name: "no such queue", inject: func(_ context.Context, m *Message) error { m.Meta["queue"] = "x"; return nil }, stored: 1},
		{name: "fails", inject: func(context.Context, *Message) error { return errors.New("down") }, stored: 1},
		{name: "later", inject: func(context.Context, *Message) error { return RetryAfter(time.Hour, nil) }, stored: 1},
		{name: "rejected", inject: func(context.Context, *Message) error { return Reject(550, "no") }, stored: 1},
		{name: "dropped", inject: func(context.Context, *Message) error { return Drop("spam") }, stored: 1},
		{name: "held", inject: func(context.Context, *Message) error { return Hold("look") }, stored: 1},
		{name: "split, harmless", inject: func(context.Context, *Message) error { return Split([]error{nil}) }},
		{name: "split", inject: func(context.Context, *Message) error { return Split([]error{Drop("spam")}) }, stored: 1},
		{name: "panics", inject: func(context.Context, *Message) error { panic("boom") }, stored: 1},
		{name: "exits", inject: func(context.Context, *Message) error { runtime.Goexit(); return nil }, stored: 1},
		{name: "deadline", inject: func(ctx context.Context, _ *Message) error { <-ctx.Done(); return nil }, stored: 1},
		{name: "overdue", inject: func(context.Context, *Message) error { time.Sleep(2 * defaultTimeout); return nil }, stored: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want string
			for _, keep := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w := startKept(t, tt.inject, setup{handlers: tt.handlers, opts: Options{
						Configure: func(string) Config { return Config{MaxAttempts: 1} }}})
					if keep {
						w.accept("b@example.com")
					} else {
						w.storeFor("b@example.com")
					}
					time.Sleep(3 * defaultTimeout)
					synctest.Wait()
					got := w.story()
					if !keep {
						want = got
						return
					}
					if got != want {
						t.Errorf("kept:\n%swant, as after Commit:\n%s", got, want)
					}
					if n := w.ledger.insertions(); n != tt.stored {
						t.Errorf("%d entries were stored, want %d", n, tt.stored)
					}
				})
			}
		})
	}
}

// story tells what was recorded and what is left.
func (w *keptWorld) story() string {
	var b strings.Builder
	for _, r := range w.records {
		if r.Type == Reception {
			r.Response.Content = "" // it names the ID
		}
		fmt.Fprintf(&b, "%s %s %d %v\n", r.Type, r.Queue, r.Attempts, r.Response)
	}
	for _, e := range w.entries() {
		fmt.Fprintf(&b, "%s %s %d %q %d\n", e.State, e.Queue, e.Attempts, e.LastError, e.Skip)
	}
	return b.String()
}

// A handler reads what was kept as it reads what is stored.
func TestKeepContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got string
		var size int64
		w := startKept(t, func(_ context.Context, m *Message) error {
			b, err := m.Open()
			if err != nil {
				return err
			}
			content, err := io.ReadAll(b)
			got, size = string(content), m.Size
			return err
		}, setup{})
		w.accept("b@example.com")
		if want := "X-Trace: 1\r\n" + mail; got != want || size != int64(len(want)) {
			t.Errorf("content %q of %d bytes, want %q", got, size, want)
		}
		if r := w.records[0]; r.Type != Reception || r.Size != size {
			t.Errorf("the first record is %s of %d bytes, want a Reception of %d", r.Type, r.Size, size)
		}
		w.wantTypes("Reception Delivery")
	})
}

// What is left of one body is stored together; what runs meanwhile goes on.
func TestKeepStoresTogether(t *testing.T) {
	tests := []struct {
		answer error // of the handler that runs meanwhile
		left   int
		types  string // the last records
	}{
		{nil, 1, "TransientFailure Delivery"},
		{errors.New("down too"), 2, "TransientFailure TransientFailure"},
		{Drop("spam"), 1, "TransientFailure AdminBounce"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			var content string
			w := startKept(t, func(_ context.Context, m *Message) error {
				switch m.Envelope.Recipients[0].Address {
				case "bad@example.com":
					time.Sleep(time.Second)
					return RetryAfter(time.Hour, errors.New("down"))
				case "slow@example.com":
					<-release
					b, err := m.Open() // the body was stored meanwhile
					if err != nil {
						return err
					}
					all, err := io.ReadAll(b)
					content = string(all)
					return errors.Join(tt.answer, err)
				}
				return nil
			}, setup{})
			w.accept("good@example.com", "slow@example.com", "bad@example.com")
			time.Sleep(2 * time.Second)
			if n := len(w.entries()); n != 2 || w.ledger.insertions() != 2 {
				t.Errorf("%d messages are stored after the first failure, want the failed and the running one", n)
			}
			if n, bytes := w.sched.kept.counts(); n != 0 || bytes != 0 {
				t.Errorf("%d bytes of %d messages are in memory, want none", bytes, n)
			}
			close(release)
			synctest.Wait()
			if want := "X-Trace: 1\r\n" + mail; content != want {
				t.Errorf("content %q, want %q", content, want)
			}
			if types := w.types(); !strings.HasSuffix(types, tt.types) || len(w.entries()) != tt.left {
				t.Errorf("records %s, %d messages left; want %s, %d", types, len(w.entries()), tt.types, tt.left)
			}
		})
	}
}

// What is beyond the bounds is stored before Keep returns.
func TestKeepBounds(t *testing.T) {
	tests := []struct {
		name   string
		size   int
		rcpts  int
		n      int // bodies
		stored int // entries
		opts   Options
	}{
		{name: "1 MiB", size: 1 << 20, rcpts: 1, n: 1},
		{name: "more than 1 MiB", size: 1<<20 + 1, rcpts: 1, n: 1, stored: 1},
		{name: "64 MiB in all", size: 1 << 20, rcpts: 1, n: 64, stored: 1},
		{name: "more than slots", size: 10, rcpts: 65, n: 1, stored: 65},
		{name: "slots are taken", size: 10, rcpts: 1, n: 70, stored: 6},
		{name: "no memory for entries", size: 10, rcpts: 1, n: 3, stored: 2, opts: Options{MemoryLimit: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				w := startKept(t, func(context.Context, *Message) error { <-release; return nil }, setup{opts: tt.opts})
				body := strings.Repeat("x", tt.size)
				rcpts := slices.Repeat([]string{"b@example.com"}, tt.rcpts)
				for range tt.n {
					tx, _, err := w.tryKeep(body, rcpts...)
					if err != nil {
						t.Fatal(err)
					}
					tx.HandOver()
					tx.Abort()
				}
				kept := int64(tt.n*tt.rcpts - tt.stored)
				if n := w.ledger.insertions(); n != tt.stored {
					t.Errorf("%d entries are stored, want %d", n, tt.stored)
				}
				st := w.sched.Stats()
				if st.Kept != kept || kept > 0 && st.KeptBytes < kept*int64(tt.size) || st.KeptBytes > 64<<20 {
					t.Errorf("Stats: %d bytes of %d messages kept, want %d messages", st.KeptBytes, st.Kept, kept)
				}
				close(release)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := strings.Count(w.types(), "Delivery"); n != tt.n*tt.rcpts {
					t.Errorf("%d messages were delivered, want %d", n, tt.n*tt.rcpts)
				}
			})
		})
	}
}

// A scheduler that does not run keeps nothing.
func TestKeepWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { return nil }, setup{})
		if err := w.shutdown(); err != nil {
			t.Fatal(err)
		}
		tx, _ := w.keep("b@example.com")
		tx.HandOver()
		tx.Abort()
		w.only()
	})
}

func TestKeepRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { return nil }, setup{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		id := spool.NewID()
		twice := &spool.Entry{ID: id, Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "b@example.com"}}}}
		for name, c := range map[string]struct {
			ctx     context.Context
			entries []*spool.Entry
		}{
			"no entry":        {t.Context(), nil},
			"no recipient":    {t.Context(), []*spool.Entry{{ID: id}}},
			"one ID twice":    {t.Context(), []*spool.Entry{twice, twice.Clone()}},
			"ended context":   {ctx, []*spool.Entry{twice}},
			"the spool fails": {t.Context(), []*spool.Entry{twice}},
		} {
			tx, err := w.sched.Begin(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			w.sp.SetFull(name == "the spool fails")
			if err := tx.Keep(c.ctx, c.entries...); err == nil {
				t.Errorf("%s: Keep accepted it", name)
			}
			w.sp.SetFull(false)
			tx.Abort()
		}
		tx, entries := w.keep("b@example.com")
		if err := tx.Keep(t.Context(), entries...); err == nil {
			t.Error("a second Keep was accepted")
		}
		if _, err := tx.Write([]byte("x")); err == nil {
			t.Error("Write after Keep was accepted")
		}
		if b, err := tx.Open(); err != nil || b.Size() != int64(len(mail)) {
			t.Errorf("Open after Keep: %v", err)
		}
		tx.HandOver()
	})
}

// Messages that find no slot at the hand-over are stored.
func TestKeepOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { time.Sleep(time.Minute); return nil },
			setup{opts: Options{Configure: func(string) Config { return Config{Concurrency: 2} }}})
		first, _ := w.keep("a@example.com", "b@example.com")
		second, entries := w.keep("c@example.com", "d@example.com")
		third, _ := w.keep("e@example.com")
		third.HandOver() // takes one of two slots
		second.HandOver()
		synctest.Wait()
		if n := w.ledger.insertions(); n != 2 {
			t.Errorf("%d messages were stored, want those of the body that did not get its slots", n)
		}
		if st := w.sched.Stats(); st.Kept != 3 || st.Running != 2 || st.Scheduled > 2 {
			t.Errorf("Stats: %d kept, %d running, %d scheduled, want 3, 2 and at most 2", st.Kept, st.Running, st.Scheduled)
		}
		first.HandOver()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := strings.Count(w.types(), "Delivery"); n != 5 || len(w.entries()) != 0 {
			t.Errorf("%d deliveries, %d entries left; want 5 and none (of %d)", n, len(w.entries()), len(entries))
		}
	})
}

// A message that its spool does not take stays in memory, closes the gates, and
// is not run again before it is stored.
func TestKeepSpoolFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *keptWorld
		calls := 0
		w = startKept(t, func(_ context.Context, m *Message) error {
			if calls++; calls == 1 {
				w.sp.SetFull(true)
				return RetryAfter(time.Second, errors.New("down"))
			}
			return nil
		}, setup{})
		w.accept("b@example.com")
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 1 || w.ledger.insertions() != 0 {
			t.Errorf("%d calls, %d messages stored; want 1 and none", calls, w.ledger.insertions())
		}
		if st := w.sched.Stats(); st.Kept != 1 {
			t.Errorf("%d messages in memory, want 1", st.Kept)
		}
		if err := w.sched.kept.failure(); !errors.Is(err, spool.ErrFull) {
			t.Errorf("failure: %v, want ErrFull", err)
		}
		w.sp.SetFull(false)
		if err := w.sched.Ready(); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Ready: %v, want ErrFull until the message is stored", err)
		}
		if _, err := w.sched.Begin(t.Context(), 0); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Begin: %v, want ErrFull until the message is stored", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := w.sched.Ready(); err != nil {
			t.Errorf("Ready: %v, want nil", err)
		}
		w.wantTypes("Reception TransientFailure Delivery")
	})
}

// What overflows into a full spool is stored later, by one task for all of it,
// and what its callback ends before that is not stored at all.
func TestKeepOverflowIntoFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := startKept(t, func(context.Context, *Message) error { time.Sleep(time.Minute); return nil },
			setup{opts: Options{Configure: func(string) Config { return Config{Concurrency: 2} }}})
		var all []*Transaction
		for range 20 {
			tx, _ := w.keep("a@example.com", "b@example.com")
			all = append(all, tx)
		}
		w.sp.SetFull(true)
		for _, tx := range all {
			tx.HandOver()
		}
		before := runtime.NumGoroutine()
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before+3 { // of the loop's claims, and not of 38 messages
			t.Errorf("%d goroutines, %d before", n, before)
		}
		time.Sleep(2 * time.Minute)
		if n := w.ledger.insertions(); n != 0 {
			t.Errorf("%d messages were stored in a full spool", n)
		}
		if n := strings.Count(w.types(), "Delivery"); n != 2 {
			t.Errorf("%d messages ended, want the two that had a slot", n)
		}
		w.sp.SetFull(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(w.types(), "Delivery"); n != 40 || w.ledger.insertions() != 38 {
			t.Errorf("%d messages ended, %d were stored; want 40 and 38", n, w.ledger.insertions())
		}
	})
}

// An unknown outcome is cleared up with the same unit, whatever ends meanwhile.
func TestKeepAmbiguous(t *testing.T) {
	for _, does := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			w := startKept(t, func(_ context.Context, m *Message) error {
				if m.Envelope.Recipients[0].Address == "bad@example.com" && m.Attempt == 1 {
					return errors.New("down")
				}
				<-release
				return nil
			}, setup{})
			answers := 0
			w.ledger.script(func() (bool, error) {
				switch answers++; answers {
				case 1:
					return does, spool.ErrAmbiguous
				case 2:
					return false, spool.ErrBusy
				case 3:
					close(release) // the other one is over while nobody knows whether it is stored
					return false, spool.ErrFull
				}
				return true, nil
			})
			w.accept("good@example.com", "bad@example.com")
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := strings.Count(w.types(), "Delivery"); n != 2 || len(w.entries()) != 0 || w.ledger.insertions() != 2 {
				t.Errorf("%v: %d deliveries, %d of %d entries left; want 2 and none of 2", does, n, len(w.entries()), w.ledger.insertions())
			}
			if answers != 4 {
				t.Errorf("%v: storing was tried %d times, want 4", does, answers)
			}
		})
	}
}

func TestKeepRevoke(t *testing.T) {
	fail := func(t *testing.T) Handler {
		return func(context.Context, *Message) error { t.Error("a revoked message was injected"); return nil }
	}
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := startKept(t, fail(t), setup{})
			tx, _ := w.keep("a@example.com", "b@example.com")
			if err := tx.Revoke(t.Context()); err != nil {
				t.Fatal(err)
			}
			tx.Abort()
			time.Sleep(time.Hour)
			w.wantEmpty()
			w.wantTypes("")
			if n := w.ledger.insertions(); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
		})
	})
	t.Run("stored by a stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := startKept(t, fail(t), setup{})
			tx, _ := w.keep("a@example.com", "b@example.com")
			if err := w.shutdown(); err != nil {
				t.Fatal(err)
			}
			if n := len(w.entries()); n != 2 {
				t.Fatalf("%d messages are stored by the stop, want 2", n)
			}
			if err := tx.Revoke(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(w.entries()); n != 0 {
				t.Errorf("%d messages are left", n)
			}
		})
	})
	t.Run("lost by a stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := startKept(t, fail(t), setup{})
			tx, _ := w.keep("a@example.com")
			w.sp.SetFull(true)
			if err := w.shutdown(); !errors.Is(err, ErrNotSaved) {
				t.Fatalf("Run: %v, want ErrNotSaved", err)
			}
			if err := tx.Revoke(t.Context()); err != nil {
				t.Errorf("Revoke: %v", err)
			}
			w.wantTypes("")
		})
	})
}
