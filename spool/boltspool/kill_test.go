package boltspool_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestKill kills a mail host at random moments, while clients deliver and
// handlers run, and starts it again on the same spool. Between two lives it
// compares the spool with what the host told and with what the clients know.
func TestKill(t *testing.T) {
	const base = 200 * time.Millisecond
	rounds := 3
	if *boltspool.Long {
		rounds = 30
	}
	k := newKillTest(t, base)
	for round := range rounds {
		k.round(round)
	}
	k.finish()
	t.Logf("%d rounds, %d messages acknowledged, %d attempts, %d of them cut short",
		rounds, k.bag.count(), k.starts, k.cut)
	if k.bag.count() == 0 || k.starts == 0 {
		t.Error("the test saw no message")
	}
}

// A killTest is a spool, the hosts that worked on it one after the other, and
// what must be true of it.
type killTest struct {
	t    *testing.T
	dir  string
	base time.Duration
	bag  *mailbag

	entries     map[spool.ID]*spool.Entry // in the spool, between two hosts
	ended       map[spool.ID]bool         // known to have left it
	starts, cut int                       // attempts, and those that a kill ended
}

func newKillTest(t *testing.T, base time.Duration) *killTest {
	return &killTest{
		t: t, dir: filepath.Join(t.TempDir(), "spool"), base: base, bag: newMailbag(),
		entries: map[spool.ID]*spool.Entry{}, ended: map[spool.ID]bool{},
	}
}

// round is one life of the host. Every fifth ends while the host still opens
// the spool, or not long after.
func (k *killTest) round(n int) {
	k.t.Helper()
	h := startHost(k.t, k.dir, k.base)
	if n%5 == 4 {
		<-time.After(rand.N(60 * time.Millisecond))
		k.check(h.kill())
		return
	}
	stop := k.clients(h.listening())
	for goal := k.bag.count() + rand.IntN(150); k.bag.count() < goal; {
		select {
		case <-k.bag.ack:
		case <-time.After(hostTimeout):
			h.kill()
			k.t.Fatalf("the host does not accept messages; it said:\n%s", &h.stderr)
		}
	}
	<-time.After(rand.N(300 * time.Millisecond)) // the random moment
	events := h.kill()
	stop()
	k.check(events)
	if k.t.Failed() {
		k.t.Fatalf("in round %d; the host said:\n%s", n, &h.stderr)
	}
}

// clients deliver until the host is killed. stop joins them.
func (k *killTest) clients(addr string) (stop func()) {
	kinds := []string{"ok", "ok", "slow", "fail", "relay", "reject"}
	ctx, cancel := context.WithCancel(k.t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := k.bag.deliver(ctx, addr, kinds); err != nil {
				k.t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// finish gives the host the time that it needs, and nothing may be left.
func (k *killTest) finish() {
	k.t.Helper()
	left := map[spool.ID]bool{}
	for id := range k.entries {
		left[id] = true
	}
	h := startHost(k.t, k.dir, k.base)
	for len(left) > 0 {
		ev := h.until("the end of all messages", func(hostEvent) bool { return true })
		if ev.Kind == string(queue.Bounce) || ev.Kind == string(queue.Delivery) && ev.Queue == outQueue {
			delete(left, ev.ID)
		}
	}
	k.check(h.stop())
	for id, e := range k.entries {
		k.t.Errorf("%s is still in queue %s after %d attempts: %s", id, e.Queue, e.Attempts, e.LastError)
	}
	k.bag.mu.Lock()
	defer k.bag.mu.Unlock()
	for id := range k.bag.mu.acked {
		if !k.ended[id] {
			k.t.Errorf("%s was acknowledged and never seen again", id)
		}
	}
}

// scan opens the spool, which counts interruptions, and lists what is in it.
func (k *killTest) scan() map[spool.ID]*spool.Entry {
	k.t.Helper()
	s, err := boltspool.Open(k.dir, &boltspool.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		k.t.Fatal(err)
	}
	defer s.Close()
	if err := boltspool.CheckIndex(s); err != nil {
		k.t.Errorf("the index is inconsistent: %v", err)
	}
	entries := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(k.t.Context(), spool.Query{}) {
		if err != nil {
			k.t.Error(err)
			continue
		}
		entries[e.ID] = e
	}
	return entries
}
