package spooltest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	defaultRounds = 400
	modelEntries  = 70 // about as many are stored
)

var modelTests = []conformanceTest{
	{
		name: "Random",
		rule: "whatever is done to a spool, it holds what the contract says",
		run:  runModel,
	},
}

// A run does random things to the spool and to the model.
type run struct {
	*fixture
	rng     *rand.Rand
	m       *model
	owners  []*owner
	readers []modelReader
	gone    []spool.ID        // bodies that were never committed, or were removed
	busy    map[spool.ID]bool // entries that a call of this round is about
	lengths []int             // of bodies
	pace    canceller
	token   int            // makes every stored version of an entry another one
	did     map[string]int // how often
}

// An owner is one Spool value on the store.
type owner struct {
	sp   spool.Spool
	name string
}

// A modelReader is a Body that stays open over some rounds.
type modelReader struct {
	held
	by *owner
}

func runModel(f *fixture) {
	seed, rounds := f.h.Seed, f.h.Rounds
	if seed == 0 {
		seed = rand.Uint64()
	}
	if rounds <= 0 {
		rounds = defaultRounds
	}
	r := &run{
		fixture: f, m: newModel(), lengths: f.sizes(), pace: f.canceller(),
		busy: make(map[spool.ID]bool), did: make(map[string]int),
	}
	rule := f.rule
	f.t.Logf("Seed: %d", seed)
	r.begin()
	for n := range rounds {
		// Each round has its own source: what one draws does not change the next.
		r.rng = rand.New(rand.NewPCG(seed, uint64(n)))
		f.rule = fmt.Sprintf("%s (round %d, Seed: %d)", rule, n, seed)
		r.round()
	}
	r.check()
	r.emptied()
	f.t.Logf("%d rounds: %v", rounds, r.did)
}

// begin opens the second owner, if there can be one, and closes all in the end.
func (r *run) begin() {
	var cannot []string
	for _, name := range []string{"Reopen", "Crash", "Second", "Fail"} {
		cannot = append(cannot, r.h.missing([]string{name})...)
	}
	if cannot != nil {
		r.t.Logf("not checked, since the harness has no %s: what random calls find with it", strings.Join(cannot, ", "))
	}
	r.owners = []*owner{{r.sp, "the first owner"}}
	if r.h.Second != nil {
		r.owners = append(r.owners, &owner{r.h.Second(r.t, r.sp), "the second owner"})
	}
	r.t.Cleanup(func() {
		for _, h := range r.readers {
			h.b.Close()
		}
		for _, o := range r.owners {
			o.sp.Close()
		}
	})
}

func (r *run) round() {
	clear(r.busy)
	switch n := r.rng.IntN(100); {
	case n < 66:
		r.together(r.calls())
	case n < 78:
		r.claimAlone()
	case n < 84:
		r.mark()
	case n < 91:
		r.readOn()
	case n < 94:
		r.check()
	default:
		r.end()
	}
}

// count notes that something was done.
func (r *run) count(what string) { r.did[what]++ }

// chance is true n times out of 100.
func (r *run) chance(n int) bool { return r.rng.IntN(100) < n }

// by returns one of the owners.
func (r *run) by() *owner { return r.owners[r.rng.IntN(len(r.owners))] }

// as returns a fixture that works with one of the owners.
func (r *run) as(o *owner) *fixture { return r.on(o.sp) }

// A call is made from a goroutine of its own. settle compares its outcome with
// the model, which it then changes.
type call interface {
	do()
	settle(r *run)
}

// calls prepares some calls that may be made at the same time: no two of them
// are about one entry, but for those that claim and look.
func (r *run) calls() (calls []call) {
	for range 1 + r.rng.IntN(4) {
		calls = append(calls, r.applying(r.by()))
	}
	for range r.rng.IntN(3) {
		calls = append(calls, r.claiming(r.by()))
	}
	if r.chance(20) {
		calls = append(calls, r.looking(r.by()))
	}
	return calls
}

// together makes calls at the same time. Those that claim and look are settled
// last, since they may have seen what the others did.
func (r *run) together(calls []call) {
	r.start(calls)()
	r.settle(calls)
}

// start begins calls; what it returns waits until they have returned.
func (r *run) start(calls []call) (wait func()) {
	var wg sync.WaitGroup
	for _, c := range calls {
		wg.Go(c.do)
	}
	return wg.Wait
}

func (r *run) settle(calls []call) {
	before := r.m.versions()
	for _, c := range calls {
		if l, ok := c.(*lookCall); ok {
			l.before = before
		}
	}
	for _, c := range calls {
		c.settle(r)
	}
	for _, c := range calls {
		if c, ok := c.(*claimCall); ok {
			c.complete(r)
		}
	}
}

// versions returns what each entry is now.
func (m *model) versions() map[spool.ID]*spool.Entry {
	all := make(map[spool.ID]*spool.Entry, len(m.entries))
	for id, s := range m.entries {
		all[id] = s.e
	}
	return all
}
