package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestRejectionFlood: refused commands take half of the record buffer and no
// more, so that they do not keep mail out, and have it again when records are
// taken.
func TestRejectionFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil }, setup{opts: Options{RecordBuffer: 9}})
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		for range 100 {
			w.sched.RecordRejection(Record{})
		}
		if st := w.sched.Stats(); st.Records != 4 || st.Dropped != 96 {
			t.Errorf("%d records wait and %d were dropped, want 4 and 96", st.Records, st.Dropped)
		}
		if err := w.sched.Ready(); err != nil {
			t.Errorf("Ready after a flood of refused commands: %v, want nil", err)
		}
		w.submit("b@example.com", nil, mail)

		w.mu.Lock()
		w.refuse = 0
		w.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		for range 3 {
			w.sched.RecordRejection(Record{})
			synctest.Wait()
		}
		if got := strings.Count(w.types(), "Rejection"); got != 7 {
			t.Errorf("%d Rejection records were taken, want 4 of the flood and 3 behind it: %s", got, w.types())
		}
		if st := w.sched.Stats(); st.Dropped != 96 || st.Records != 0 {
			t.Errorf("at the end %d records wait and %d were dropped, want 0 and 96", st.Records, st.Dropped)
		}
	})
}

// TestRejectionFullBuffer: while the buffer is full of other records, those of
// refused commands are dropped.
func TestRejectionFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(context.Context, *Message) error { return nil }, setup{opts: Options{RecordBuffer: 4}})
		w.mu.Lock()
		w.refuse = 1 << 30
		w.mu.Unlock()
		for w.sched.Ready() == nil {
			w.submit("b@example.com", nil, mail)
		}
		full := w.sched.Stats()
		w.sched.RecordRejection(Record{})
		if st := w.sched.Stats(); st.Records != full.Records || st.Dropped != 1 {
			t.Errorf("%d records wait and %d were dropped, want %d and 1", st.Records, st.Dropped, full.Records)
		}
		w.mu.Lock()
		w.refuse = 0
		w.mu.Unlock()
	})
}

// TestRejectionLane: no message waits for the record of a refused command.
func TestRejectionLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		delivered := make(chan spool.ID, 100)
		sched, err := NewScheduler(spool.NewMemory(), func(context.Context, *Message) error { return nil }, &Options{
			Logger: testLogger(t),
			Record: func(_ context.Context, r Record) error {
				switch r.Type {
				case Rejection:
					<-release
				case Delivery:
					delivered <- r.ID
				}
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sched.Run(ctx) }()
		sched.RecordRejection(Record{})
		env := spool.Envelope{Sender: "a@example.com"}
		for range 50 {
			env.Recipients = append(env.Recipients, spool.Recipient{Address: "b@example.com"})
		}
		if _, err := sched.Submit(ctx, env, nil, strings.NewReader(mail)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(delivered) != 50 {
			t.Errorf("%d of 50 messages were recorded while a Rejection record waits", len(delivered))
		}
		close(release)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
