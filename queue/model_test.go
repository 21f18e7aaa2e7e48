package queue

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var modelSeed = flag.Int64("seed", -1, "run TestModel with this seed only")

// Whatever clients, handlers, operators, clocks, spools and processes do, every
// recipient that was accepted has exactly one outcome. The name of a run is its seed.
func TestModel(t *testing.T) {
	first, runs := 0, 40
	if *long {
		runs = 5000
	}
	if *modelSeed >= 0 {
		first, runs = int(*modelSeed), 1
	}
	for seed := first; seed < first+runs; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newModel(t, uint64(seed)).run() })
		})
	}
}

// A model does at random what hosts, clients, operators and disks do, and follows
// each recipient through the units that the spool takes. Every recipient has a local
// part of its own, by which it is known whatever becomes of the domain.
type model struct {
	t   *testing.T
	rng *rand.Rand // of the test's goroutine

	routed  bool // there are queues besides the deferred one
	keeps   bool // messages are accepted by Keep
	faults  bool // the spool answers oddly, and records are refused
	deaths  bool // processes die, sessions are lost, syncs fail
	notices bool // senders are told of what fails

	procs   []*process
	config  atomic.Pointer[Config]
	open    []openTransaction
	working sync.WaitGroup // operators

	mu      sync.Mutex
	answers *rand.Rand // of everything but the test's goroutine
	calm    bool       // everything succeeds
	full    bool
	armed   int // what a failing sync does: 0 nothing, 1 lost, 2 kept
	all     []*process
	count   int // of messages, calls and actions
	refuse  time.Time
	crashes int

	live      map[spool.ID]*spool.Entry // what is stored
	offers    map[spool.ID]*offer
	attempts  map[spool.ID]*modelAttempt // the last one of each message
	emitted   map[spool.ID]*modelAttempt
	fates     map[string]string // of each recipient
	told      map[string]int    // Delivery records that report an end
	delays    map[string]int    // of which the sender was told
	received  map[spool.ID]bool // Reception records
	finals    map[spool.ID]string
	suspended map[string]modelSuspension
	actions   map[*modelAction]bool
}

// An offer is a message that a client has brought.
type offer struct {
	entry    *spool.Entry
	by       *process
	revoking bool
}

type openTransaction struct {
	*Transaction
	by *process
}

// The fates of a recipient.
const (
	isStored     = "stored"
	isInMemory   = "in memory"
	isDelivered  = "delivered"
	isRevoked    = "revoked"
	isBounced    = string(Bounce)
	isDropped    = string(AdminBounce)
	isExpired    = string(Expiration)
	modelMaxTry  = 3 // the least MaxAttempts
	modelMaxLife = 24 * time.Hour
)

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), answers: rand.New(rand.NewPCG(seed, 2)),
		routed: seed%5 != 0, keeps: seed%3 == 0, faults: seed%2 == 0, deaths: seed%4 < 2, notices: seed%7 > 2,
		live: map[spool.ID]*spool.Entry{}, offers: map[spool.ID]*offer{},
		attempts: map[spool.ID]*modelAttempt{}, emitted: map[spool.ID]*modelAttempt{},
		fates: map[string]string{}, told: map[string]int{}, delays: map[string]int{}, received: map[spool.ID]bool{}, finals: map[spool.ID]string{},
		suspended: map[string]modelSuspension{}, actions: map[*modelAction]bool{},
	}
	m.reconfigure()
	sp := spool.NewMemory()
	m.procs = append(m.procs, m.start(sp))
	if seed/2%2 == 0 {
		m.procs = append(m.procs, m.start(sp.Attach()))
	}
	return m
}

func (m *model) run() {
	for range 80 {
		m.step()
	}
	m.finish()
	m.judge()
}

func (m *model) step() {
	p := m.procs[m.rng.IntN(len(m.procs))]
	switch n := m.rng.IntN(100); {
	case n < 34:
		m.accept(p)
	case n < 58:
		m.pass(time.Duration(m.rng.IntN(3000)) * time.Millisecond << m.rng.IntN(11))
	case n < 82:
		m.operate(p)
	case n < 86:
		m.reconfigure()
		p.sched.Reconfigure()
	case n < 89:
		m.handOver(nil)
	case n < 92 && m.faults:
		m.setFull(m.rng.IntN(2) == 0)
	case n < 94 && m.faults:
		m.mu.Lock()
		m.refuse = time.Now().Add(time.Duration(m.rng.IntN(600)) * time.Second)
		m.mu.Unlock()
	case n < 96:
		m.restart(p)
	case n < 98 && m.deaths:
		m.mu.Lock()
		m.die(p)
		m.mu.Unlock()
	case m.deaths:
		m.fail(p)
	}
	if m.rng.IntN(4) > 0 {
		m.settle()
	}
}

// pass lets time pass.
func (m *model) pass(d time.Duration) {
	time.Sleep(d)
	m.settle()
}

// settle waits until everything is at rest, and restarts what has died.
func (m *model) settle() {
	for again := true; again; {
		synctest.Wait()
		again = false
		for _, p := range m.procs {
			if m.is(&p.faulty) {
				m.restart(p)
				again = true
			}
		}
	}
}

func (m *model) is(flag *bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *flag
}

func (m *model) setFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
	m.procs[0].sp.SetFull(full)
}

// fail has the spool fail under p in a way that ends Run.
func (m *model) fail(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.faulty || m.armed != 0 {
		return
	}
	switch m.rng.IntN(3) {
	case 0:
		p.faulty, p.gone = true, true
		p.sp.LoseSession()
	case 1:
		m.armed = 1
		p.sp.FailSync()
	default:
		m.armed = 2
		p.sp.FailSyncKept()
	}
}

// reconfigure chooses how queues are run from the next Configure on.
func (m *model) reconfigure() {
	c := &Config{
		Concurrency: 1 + m.rng.IntN(4), MaxReady: 1 + m.rng.IntN(6), MaxAttempts: modelMaxTry + m.rng.IntN(4),
		Timeout: time.Duration(1+m.rng.IntN(3)) * time.Minute, MaxAge: modelMaxLife << m.rng.IntN(3),
		Backoff: Backoff{Base: time.Duration(1+m.rng.IntN(20)) * time.Minute},
	}
	switch m.rng.IntN(4) {
	case 0:
		c.Rate = Rate{N: 1 + m.rng.IntN(20), Per: time.Minute}
	case 1:
		c.Weights = map[string]int{"c1": 3}
	}
	m.config.Store(c)
}

// accept brings a message by one of the ways in.
func (m *model) accept(p *process) {
	if m.rng.IntN(4) == 0 {
		m.submit(p)
		return
	}
	tx, err := p.sched.Begin(m.t.Context(), 0)
	if err != nil {
		return
	}
	defer tx.Abort()
	if _, err := tx.Write([]byte(mail)); err != nil {
		return
	}
	var entries []*spool.Entry
	for range 1 + m.rng.IntN(3) {
		entries = append(entries, m.entry())
	}
	store := tx.Commit
	if m.keeps {
		store = tx.Keep
	}
	m.offer(p, entries)
	if err := store(m.t.Context(), entries...); err != nil {
		m.refused(entries)
		return
	}
	m.accepted(p, entries)
	if m.rng.IntN(12) == 0 {
		m.revoke(tx, entries)
		return
	}
	m.open = append(m.open, openTransaction{tx, p})
	if m.rng.IntN(6) > 0 {
		m.handOver(nil)
	}
}

func (m *model) entry() *spool.Entry {
	m.mu.Lock()
	m.count++
	n := m.count
	m.mu.Unlock()
	e := &spool.Entry{ID: spool.NewID(), Class: fmt.Sprintf("c%d", m.rng.IntN(3)), Header: []byte("X-Trace: 1\r\n")}
	e.Envelope.Sender = fmt.Sprintf("s%d@example.org", m.rng.IntN(3))
	for i := range 1 + m.rng.IntN(2)*m.rng.IntN(5) {
		e.Envelope.Recipients = append(e.Envelope.Recipients, spool.Recipient{
			Address: fmt.Sprintf("m%d.%d@d%d.example", n, i, m.rng.IntN(3)),
			Notify:  [][]string{nil, nil, nil, {"NEVER"}, {"FAILURE"}, {"SUCCESS", "DELAY"}}[m.rng.IntN(6)],
		})
	}
	if m.rng.IntN(6) == 0 {
		e.Envelope.Sender = ""
	}
	if m.rng.IntN(8) == 0 {
		e.Expires = time.Now().Add(2 * time.Hour)
	}
	return e
}

func (m *model) offer(p *process, entries []*spool.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.offers[e.ID] = &offer{entry: e.Clone(), by: p}
	}
}

// refused notes what was not accepted. It may be there all the same: a sync failed.
func (m *model) refused(entries []*spool.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if m.live[e.ID] == nil {
			delete(m.offers, e.ID)
		}
	}
}

// accepted makes sure that what was accepted is stored, or may be in memory.
func (m *model) accepted(p *process, entries []*spool.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.offers[e.ID].entry.Received = e.Received
		for _, key := range keysOf(e) {
			switch {
			case m.fates[key] != "":
			case m.keeps:
				m.fates[key] = isInMemory
			default:
				m.t.Errorf("%s was accepted and not stored", key)
			}
		}
	}
}

func (m *model) revoke(tx *Transaction, entries []*spool.Entry) {
	m.mu.Lock()
	for _, e := range entries {
		m.offers[e.ID].revoking = true
	}
	m.mu.Unlock()
	err := tx.Revoke(m.t.Context())
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.offers[e.ID].revoking = false
		for _, key := range keysOf(e) {
			switch fate := m.fates[key]; {
			case err != nil:
			case fate == isInMemory:
				m.fates[key] = isRevoked
			case fate != isRevoked:
				m.t.Errorf("%s was revoked and is %s", key, fate)
			}
		}
	}
}

// submit brings a message by Submit, whose IDs are not known before.
func (m *model) submit(p *process) {
	e := m.entry()
	m.mu.Lock()
	m.offers[spool.ID{}] = &offer{entry: e, by: p}
	m.mu.Unlock()
	_, err := p.sched.Submit(m.t.Context(), e.Envelope, nil, modelBody())
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.offers, spool.ID{})
	for _, key := range keysOf(e) {
		if err == nil && m.fates[key] == "" {
			m.t.Errorf("%s was submitted and not stored", key)
		}
	}
}

// handOver ends the transactions of p that are open; nil: all.
func (m *model) handOver(p *process) {
	rest := m.open[:0]
	for _, tx := range m.open {
		if p != nil && tx.by != p {
			rest = append(rest, tx)
			continue
		}
		tx.HandOver()
		tx.Abort()
	}
	m.open = rest
}

// finish ends all trouble and lets time pass.
func (m *model) finish() {
	m.setFull(false)
	m.mu.Lock()
	m.calm, m.refuse = true, time.Time{}
	m.mu.Unlock()
	m.settle()
	m.working.Wait()
	m.settle()
	m.config.Store(&Config{Concurrency: 8, MaxAttempts: 6, Timeout: time.Hour, MaxAge: 30 * 24 * time.Hour})
	m.handOver(nil)
	m.settle()
	m.mu.Lock()
	armed := m.armed != 0
	m.mu.Unlock()
	if armed { // no sync came any more that could fail
		m.restart(m.procs[0])
	}
	m.settle()
	m.resumeAll(m.procs[0])
	for _, p := range m.procs {
		p.sched.Reconfigure()
	}
	m.pass(12 * time.Hour)
	m.pass(12 * time.Hour)
	m.compare()
	m.nothingOwned()
	for _, p := range m.procs {
		m.stop(p)
		if err := p.sp.Close(); err != nil && !errors.Is(err, spool.ErrClosed) {
			m.t.Error(err)
		}
	}
	time.Sleep(24 * time.Hour) // handlers that were abandoned
}
