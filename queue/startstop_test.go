package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Schedulers are started and stopped beside one another, on one store and each on its
// own, with mail, suspensions, actions and handlers under way. Nothing is lost or
// owned afterwards, and no goroutine is left.
func TestStartStop(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) { testStartStop(t, shared) })
	}
}

func testStartStop(t *testing.T, shared bool) {
	rounds := 12
	if *long {
		rounds = 200
	}
	before := runtime.NumGoroutine()
	store := spool.NewMemory()
	stores := []*spool.Memory{store}
	var l startStop
	var wg sync.WaitGroup
	for i := range 10 {
		if !shared && i > 0 {
			stores = append(stores, spool.NewMemory())
		}
		own := stores[len(stores)-1]
		wg.Go(func() {
			for round := range rounds {
				l.life(t, own.Attach(), fmt.Sprintf("%d.%d", i, round), i%2 == 0)
			}
		})
	}
	wg.Wait()
	for _, sp := range stores {
		l.left(t, sp)
	}
	l.judge(t)
	wantGoroutines(t, before)
}

// wantGoroutines waits for those that end by themselves, as timers' do.
func wantGoroutines(t *testing.T, want int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > want {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), want, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// A startStop counts what was accepted and what has ended.
type startStop struct {
	mu       sync.Mutex
	accepted map[spool.ID]bool
	ended    map[spool.ID]int // by what handlers returned last
	running  map[spool.ID]bool
}

// life is a scheduler from its start to its stop.
func (l *startStop) life(t *testing.T, sp *spool.Memory, name string, keep bool) {
	opts := &Options{Logger: slog.New(slog.DiscardHandler), Record: l.record, StopTimeout: time.Minute}
	s, err := NewScheduler(sp, l.handle(t), opts)
	if err == nil {
		err = s.Handle("*", l.handle(t))
	}
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var others sync.WaitGroup
	others.Go(func() { l.suspend(t, s, name) })
	others.Go(func() { _, _ = s.Admin().Retry(ctx, Filter{All: true}, "now") })
	for i := range 20 {
		l.accept(t, s, keep && i%2 == 0)
		if i == 10 {
			others.Go(cancel)
		}
	}
	others.Wait()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	l.accept(t, s, keep) // beside the scheduler it is stored
	if err := sp.Close(); err != nil {
		t.Error(err)
	}
}

func (l *startStop) suspend(t *testing.T, s *Scheduler, name string) {
	a := s.Admin()
	err := a.Suspend(context.Background(), "q"+name, SuspendOptions{Reason: "because"})
	if err == nil {
		err = a.Resume(context.Background(), "q"+name)
	}
	if err != nil {
		t.Errorf("suspending q%s: %v", name, err)
	}
	if err := a.Suspend(context.Background(), "both", SuspendOptions{Reason: "because"}); err != nil && !errors.Is(err, spool.ErrBusy) {
		t.Errorf("suspending what others do, too: %v", err)
	}
}

func (l *startStop) accept(t *testing.T, s *Scheduler, keep bool) {
	tx, err := s.Begin(context.Background(), 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer tx.Abort()
	if _, err := io.WriteString(tx, mail); err != nil {
		t.Error(err)
	}
	e := &spool.Entry{ID: spool.NewID(), Envelope: spool.Envelope{Recipients: []spool.Recipient{{Address: "a@example.com"}, {Address: "b@example.com"}}}}
	store := tx.Commit
	if keep {
		store = tx.Keep
	}
	if err := store(context.Background(), e); err != nil {
		t.Error(err)
		return
	}
	l.mu.Lock()
	if l.accepted == nil {
		l.accepted, l.ended, l.running = map[spool.ID]bool{}, map[spool.ID]int{}, map[spool.ID]bool{}
	}
	l.accepted[e.ID] = true
	l.mu.Unlock()
	tx.HandOver()
}

// handle is the handler of every queue. The last byte of an ID says what it does.
func (l *startStop) handle(t *testing.T) Handler {
	return func(ctx context.Context, m *Message) error {
		l.mu.Lock()
		if l.running[m.ID] {
			t.Errorf("%s: two handlers at once", m.ID)
		}
		l.running[m.ID] = true
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.running, m.ID)
		}()
		switch m.ID[len(m.ID)-1] % 8 {
		case 0:
			return errors.New("down")
		case 1:
			return Hold("look")
		case 2:
			return Reject(550, "no")
		case 3:
			m.Meta["queue"] = "both"
		case 4:
			if len(m.Envelope.Recipients) > 1 {
				return Split([]error{nil, errors.New("down")})
			}
		case 5:
			runtime.Gosched()
		}
		return nil
	}
}

// record counts the ends of messages.
func (l *startStop) record(_ context.Context, r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Type == Delivery && r.Queue != Deferred || r.Type == Bounce {
		l.ended[r.ID] += len(r.Recipients)
	}
	return nil
}

// left takes what is stored into account, of which nothing may be owned or about to end.
func (l *startStop) left(t *testing.T, sp *spool.Memory) {
	var ids []spool.ID
	for e, err := range sp.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
		if e.Queue == Suspensions {
			continue
		}
		if e.State == spool.Final {
			t.Errorf("%s has ended, and the record of it was not taken", e.ID)
		}
		l.ended[e.ID] += len(e.Envelope.Recipients)
	}
	other := sp.Attach()
	defer other.Close()
	entries, _, err := other.Claim(t.Context(), spool.ClaimRequest{IDs: append(ids, spool.ID{})})
	if err != nil || len(entries) != len(ids) {
		t.Errorf("%d of %d are not owned by anybody, %v", len(entries), len(ids), err)
	}
}

// judge makes sure that all recipients are accounted for. A Split gives some of them
// other IDs, but none more than there were.
func (l *startStop) judge(t *testing.T) {
	total := 0
	for _, n := range l.ended {
		total += n
	}
	if total != 2*len(l.accepted) {
		t.Errorf("%d recipients were accepted, and %d are accounted for", 2*len(l.accepted), total)
	}
	var missing []string
	for _, id := range slices.Collect(maps.Keys(l.accepted)) {
		if l.ended[id] == 0 {
			missing = append(missing, id.String())
		}
	}
	if len(missing) > 0 {
		t.Errorf("nothing is known of %s", strings.Join(missing, ", "))
	}
}
