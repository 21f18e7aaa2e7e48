package queue

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var long = flag.Bool("long", false, "run the long forms of tests")

// Whatever callbacks answer and a spool does, every message that was accepted
// by Keep has exactly one end, or Run said that it was not saved, or the process
// died while it was in memory.
func TestKeepModel(t *testing.T) {
	runs := 12
	if *long {
		runs = 500
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newKeepModel(t, uint64(seed)).run() })
		})
	}
}

// A keepModel does at random what hosts, clients and disks do, and remembers
// what was promised.
type keepModel struct {
	t       *testing.T
	rng     *rand.Rand // of the test's goroutine
	crashes bool       // processes die, and spools fail
	routes  bool       // there are other queues
	w       *keptWorld
	all     []*keptWorld   // of every process
	open    []*Transaction // accepted, not yet handed over

	accepted map[spool.ID]bool
	inMemory map[spool.ID]bool // when a process died
	revoked  map[spool.ID]bool
	notSaved int // messages, by what Run said

	mu      sync.Mutex
	answers *rand.Rand // of the handlers
	calm    bool       // every handler succeeds
	process int
	running map[string]bool
}

func newKeepModel(t *testing.T, seed uint64) *keepModel {
	m := &keepModel{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), answers: rand.New(rand.NewPCG(seed, 2)),
		crashes: seed%3 == 0, routes: seed%2 == 0,
		accepted: map[spool.ID]bool{}, inMemory: map[spool.ID]bool{}, revoked: map[spool.ID]bool{},
		running: map[string]bool{},
	}
	m.start(spool.NewMemory())
	return m
}

func (m *keepModel) start(sp *spool.Memory) {
	m.mu.Lock()
	m.process++
	m.mu.Unlock()
	c := setup{sp: sp, opts: Options{Configure: func(string) Config {
		return Config{Concurrency: 4, Timeout: time.Minute, MaxAttempts: 6}
	}}}
	if m.routes {
		c.handlers = map[string]Handler{"*": m.handler(m.process)}
	}
	w := startKept(m.t, m.handler(m.process), c)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.w, m.all = w, append(m.all, w)
}

func (m *keepModel) run() {
	for range 60 {
		m.step()
	}
	m.w.sp.SetFull(false)
	m.w.ledger.script(nil)
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	m.handOverAll()
	time.Sleep(8 * 24 * time.Hour)
	m.restart()
	time.Sleep(8 * 24 * time.Hour)
	m.stop()
	m.judge()
}

func (m *keepModel) step() {
	switch n := m.rng.IntN(100); {
	case n < 55:
		m.accept()
	case n < 75:
		time.Sleep(time.Duration(m.rng.IntN(3000)) * time.Millisecond << m.rng.IntN(7))
	case n < 83:
		m.w.sp.SetFull(m.rng.IntN(3) == 0)
	case n < 88:
		m.disturb()
	case n < 93:
		m.handOverAll()
	case n < 97:
		m.w.sp.SetFull(m.rng.IntN(3) == 0)
		m.restart()
	case !m.crashes:
	case n == 97:
		// Not FailSyncKept: it may remove a message and say that it failed.
		[]func(){m.w.sp.FailSync, m.w.sp.LoseSession}[m.rng.IntN(2)]()
	default:
		m.crash()
	}
	synctest.Wait()
}

// accept has a message taken in, of one to three recipients.
func (m *keepModel) accept() {
	rcpts := []string{"a@example.com", "b@example.com", "c@example.com"}[:1+m.rng.IntN(3)]
	tx, entries, err := m.w.tryKeep(mail, rcpts...)
	if err != nil {
		return
	}
	if m.rng.IntN(10) == 0 && tx.Revoke(m.t.Context()) == nil {
		for _, e := range entries {
			m.revoked[e.ID] = true
		}
		return
	}
	for _, e := range entries {
		m.accepted[e.ID] = true
	}
	m.open = append(m.open, tx)
	if m.rng.IntN(4) > 0 {
		m.handOverAll()
	}
}

func (m *keepModel) handOverAll() {
	for _, tx := range m.open {
		tx.HandOver()
		tx.Abort()
	}
	m.open = nil
}

// disturb makes the spool answer oddly to the next messages that it is to store.
func (m *keepModel) disturb() {
	var mu sync.Mutex
	rng, left := rand.New(rand.NewPCG(m.rng.Uint64(), 3)), m.rng.IntN(6)
	m.w.ledger.script(func() (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left < 0 {
			return true, nil
		}
		return rng.IntN(2) == 0, []error{spool.ErrAmbiguous, spool.ErrAmbiguous, nil}[rng.IntN(3)]
	})
}

// stop stops the host, whether the spool works or not.
func (m *keepModel) stop() {
	healthy := !m.crashes && m.w.sp.Health() == nil
	err := m.w.shutdown()
	if err == nil {
		return
	}
	if healthy {
		m.t.Errorf("Run: %v", err)
	}
	if errors.Is(err, ErrNotSaved) {
		var n int
		_, count, _ := strings.Cut(err.Error(), ErrNotSaved.Error())
		if _, err := fmt.Sscanf(count, ": %d of them", &n); err != nil || n == 0 {
			m.t.Errorf("%q says not how many", count)
		}
		m.notSaved += n
	}
}

func (m *keepModel) restart() {
	m.stop()
	if m.rng.IntN(2) == 0 {
		m.handOverAll() // after the stop: they are in the spool
	}
	m.open = nil
	sp := m.w.sp.Reopen()
	sp.SetFull(false)
	m.start(sp)
}

// crash is the death of the process.
func (m *keepModel) crash() {
	for id := range m.accepted {
		if !m.stored(id) {
			m.inMemory[id] = true // or has ended
		}
	}
	sp := m.w.sp.Crash()
	_ = m.w.shutdown()
	m.open = nil
	m.start(sp)
}

func (m *keepModel) handler(process int) Handler {
	return func(ctx context.Context, msg *Message) error {
		key := fmt.Sprint(process, msg.ID)
		m.mu.Lock()
		answer, pause := m.answers.IntN(14), time.Duration(m.answers.IntN(30_000))*time.Millisecond
		if m.running[key] {
			m.t.Errorf("%s: two handlers at once", msg.ID)
		}
		if !m.crashes && m.ends(msg.ID) > 0 {
			m.t.Errorf("%s is run after its end", msg.ID)
		}
		m.running[key] = true
		calm := m.calm
		m.mu.Unlock()
		defer func() {
			m.mu.Lock()
			delete(m.running, key)
			m.mu.Unlock()
		}()
		if calm {
			return nil
		}
		return behave(ctx, answer, pause)
	}
}

func behave(ctx context.Context, answer int, pause time.Duration) error {
	switch answer {
	case 0:
		return errors.New("down")
	case 1:
		return RetryAfter(pause, nil)
	case 2:
		return Reject(550, "no")
	case 3:
		return Drop("spam")
	case 4:
		return Hold("look")
	case 5:
		panic("boom")
	case 6:
		runtime.Goexit()
	case 7:
		time.Sleep(10 * pause) // past its deadline, as a rule
	case 8:
		<-ctx.Done()
		return ctx.Err()
	case 9, 10:
		time.Sleep(pause)
		return errors.New("down")
	case 11:
		time.Sleep(pause)
	}
	return nil
}

// stored reports whether a process has stored the message.
func (m *keepModel) stored(id spool.ID) bool {
	for _, w := range m.all {
		if w.ledger.stored(id) {
			return true
		}
	}
	return false
}

// ends counts the records of the end of a message.
func (m *keepModel) ends(id spool.ID) (n int) {
	for _, w := range m.all {
		w.mu.Lock()
		for _, r := range w.records {
			if r.ID == id && m.final(r) {
				n++
			}
		}
		w.mu.Unlock()
	}
	return n
}

func (m *keepModel) final(r Record) bool {
	switch r.Type {
	case Delivery:
		return m.routes == (r.Queue != Deferred)
	case Bounce, AdminBounce, Expiration:
		return true
	}
	return false
}

// judge compares what was promised with what became of it.
func (m *keepModel) judge() {
	left := map[spool.ID]int{}
	for _, e := range m.w.entries() {
		if left[e.ID]++; e.State != spool.Held {
			m.t.Errorf("%s is left %s in %s: %q", e.ID, e.State, e.Queue, e.LastError)
		}
	}
	missing := 0
	for id := range m.accepted {
		switch n := m.ends(id) + left[id]; {
		case n == 1, n > 1 && m.crashes, n == 0 && m.inMemory[id]:
		case n == 0 && !m.stored(id):
			missing++
		default:
			m.t.Errorf("%s has %d ends", id, n)
		}
	}
	if missing > m.notSaved {
		m.t.Errorf("%d messages are lost, Run said %d", missing, m.notSaved)
	}
	for id := range m.revoked {
		if m.ends(id)+left[id] > 0 {
			m.t.Errorf("%s was revoked, and injected", id)
		}
	}
}
