package boltspool_test

import (
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool"
)

// TestKill kills a mail host at random moments, while clients deliver and
// handlers run, and starts it again on the same spool; some die while they open
// it. Between two lives it compares the spool with what the hosts told and with
// what the clients know. Segments are as small as can be, so that they fill up
// and empty themselves all the time.
func TestKill(t *testing.T) {
	rounds := 4
	if *boltspool.Long {
		rounds = boltspool.Tries(240)
	}
	k := newKillTest(t, 200*time.Millisecond)
	for round := range rounds {
		k.round(round)
		if t.Failed() {
			t.FailNow()
		}
	}
	k.finish()
	t.Logf("%d hosts killed, %d of them while they opened the spool; %d messages acknowledged, %d attempts, %d of them cut short",
		k.killed, k.opening, k.bag.count(), k.starts, k.cut)
	if k.bag.count() == 0 || k.starts == 0 {
		t.Error("the test saw no message")
	}
	if *boltspool.Long && (k.cut == 0 || k.opening == 0) {
		t.Error("no host was killed at a moment that matters")
	}
}

// A killTest is a spool, the hosts that worked on it one after the other, and
// what must be true of it.
type killTest struct {
	t *testing.T
	hostConfig
	bag *mailbag

	entries         map[spool.ID]*spool.Entry // in the spool, between two hosts
	ended           map[spool.ID]bool         // known to have left it
	notices         map[spool.ID]spool.ID     // and the messages that they are about
	closed          bool                      // hosts close the spool when they end
	starts, cut     int                       // attempts, and those that a kill ended
	killed, opening int                       // hosts, and those of them that had not opened the spool
}

func newKillTest(t *testing.T, base time.Duration) *killTest {
	return newKillTestIn(t, filepath.Join(t.TempDir(), "spool"), base)
}

func newKillTestIn(t *testing.T, dir string, base time.Duration) *killTest {
	return &killTest{
		t: t, hostConfig: hostConfig{Dir: dir, Base: base, SegmentSize: 2 << 20}, bag: newMailbag(),
		entries: map[spool.ID]*spool.Entry{}, ended: map[spool.ID]bool{}, notices: map[spool.ID]spool.ID{},
	}
}

func (k *killTest) start() *hostProcess {
	k.t.Helper()
	return startHost(k.t, k.hostConfig)
}

// kill kills a host and returns all that it told.
func (k *killTest) kill(h *hostProcess) []hostEvent {
	k.t.Helper()
	events := h.kill()
	k.killed++
	if !slices.ContainsFunc(events, func(ev hostEvent) bool { return ev.Kind == "opened" }) {
		k.opening++
	}
	return events
}

// round is one life of the host. Every fifth ends while the host opens the
// spool, or not long after. After every third, others die of opening what the
// host has left, before anything else sees it.
func (k *killTest) round(n int) {
	k.t.Helper()
	h := k.start()
	var events []hostEvent
	if n%5 == 3 {
		h.untilKind("opening")
		<-time.After(rand.N(25 * time.Millisecond))
		events = k.kill(h)
	} else {
		stop := k.bag.clients(k.t, h.listening(), "ok", "ok", "ok", "slow", "fail", "late", "relay", "reject")
		k.bag.load(h, rand.IntN(120))
		<-time.After(rand.N(150 * time.Millisecond)) // the random moment
		events = k.kill(h)
		stop()
	}
	if n%3 == 2 {
		for range 1 + rand.IntN(3) {
			k.killOpening()
		}
	}
	k.check(events)
	if k.t.Failed() {
		k.t.Fatalf("in round %d; the host said:\n%s", n, &h.stderr)
	}
}

// killOpening kills a host while it opens the spool, which must leave all as if
// it had not been there.
func (k *killTest) killOpening() {
	k.t.Helper()
	cfg := k.hostConfig
	cfg.OpenOnly = true
	h := startHost(k.t, cfg)
	h.untilKind("opening")
	<-time.After(rand.N(8 * time.Millisecond))
	k.kill(h)
}

// finish gives the host the time that it needs, and nothing may be left.
func (k *killTest) finish() {
	k.t.Helper()
	gone := map[spool.ID]bool{}
	for id := range k.entries {
		gone[id] = false
	}
	h := k.start()
	k.drain(h, gone)
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

// drain waits until everything in gone is delivered or bounced, and the notices
// about it too.
func (k *killTest) drain(h *hostProcess, gone map[spool.ID]bool) {
	k.t.Helper()
	left := 0
	for _, done := range gone {
		if !done {
			left++
		}
	}
	for left > 0 {
		ev := h.until("the end of all messages", func(ev hostEvent) bool {
			return ev.Kind == "notice" || ev.Kind == string(queue.Bounce) || ev.Kind == string(queue.Delivery) && ev.Queue == outQueue
		})
		done, waited := gone[ev.ID]
		gone[ev.ID] = ev.Kind != "notice"
		switch {
		case ev.Kind == "notice":
			left++
		case waited && !done:
			left--
		}
	}
}

// scan opens the spool, which counts interruptions, and lists what is in it.
func (k *killTest) scan() map[spool.ID]*spool.Entry {
	k.t.Helper()
	s, err := boltspool.Open(k.Dir, &boltspool.Options{Logger: slog.New(slog.DiscardHandler), SegmentSize: k.SegmentSize})
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
