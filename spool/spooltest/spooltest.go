// Package spooltest checks that an implementation of [spool.Spool] keeps its
// contract.
//
// # Usage
//
//	func TestSpool(t *testing.T) {
//		spooltest.Run(t, spooltest.Harness{
//			Open: func(t *testing.T) spool.Spool { ... },
//			...
//		})
//	}
//
// # Expected behaviour
//
// Every sub-test opens a spool of its own, and every failure quotes the rule
// that was broken. The suite knows nothing but the contract: it never looks at
// how a spool stores anything, and takes neither sleep nor clock for
// synchronisation. It never has more than 16 calls in flight, so that ErrBusy
// is a failure, but in the sub-test Model. Run it under the race detector as
// well.
//
// # The model
//
// The sub-test Model does random things to the spool, several at a time, with
// crashes, failures and a second owner as far as the Harness has them, and
// compares what it finds with a model of the contract. It is short by default.
// Let it run for long now and then:
//
//	h.Rounds = 100_000
//
// A failure says by which Seed the same choices are made again. Outcomes that
// depend on how goroutines were scheduled need not repeat.
package spooltest

import (
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A Harness opens the spools under test and does to them what a test cannot do
// through the contract. Each func may end the test by t.Fatal; those that
// return a spool must not return nil. The suite closes what it was given, but
// for what it handed to Crash; to close it once more is harmless.
//
// Open is required. Any other func that is nil declares that the spool cannot
// do that: the sub-tests that need it are skipped, and say what was not
// checked.
type Harness struct {
	// Open returns a spool on a new, empty store.
	Open func(t *testing.T) spool.Spool
	// Reopen opens the store of s anew after s was closed.
	Reopen func(t *testing.T, s spool.Spool) spool.Spool
	// Crash ends s as the death of its process would, without Close, and opens
	// its store anew. In a shared spool it returns only when the ownership of s
	// has ended. Calls of s may be in flight; what they answer from then on means
	// nothing, but for nil.
	Crash func(t *testing.T, s spool.Spool) spool.Spool
	// Second returns another owner on the store of s, while s is open.
	Second func(t *testing.T, s spool.Spool) spool.Spool
	// Fail makes the next sync of s fail. Other values on the store of s may fail
	// with it.
	Fail func(t *testing.T, s spool.Spool)
	// Damage changes the stored bytes of the part ("entry" or "body") with that
	// ID. It is called after s was closed, and followed by Reopen; without
	// Reopen it is not called.
	Damage func(t *testing.T, s spool.Spool, id spool.ID, part string)

	// Sizes are lengths of bodies at which the spool changes how it stores them.
	// Bodies of each size, of one byte less and of one more are tried, beside
	// those that are tried on every spool. Defaults to none.
	Sizes []int
	// Space returns how many bytes the store of s takes, while s is open. It may
	// first wait until work in the background is done, such as the deletion of
	// what nothing needs any more. The spool must be so opened that it gives
	// space back in steps of 2 MiB or less. While 16 MiB are stored and removed
	// again, one after the other, Space may not grow by more than a quarter of
	// that in the second half of the time, beyond what stays stored.
	Space func(t *testing.T, s spool.Spool) int64

	// Seed decides what the sub-test Model does. Defaults to one that differs
	// from run to run.
	Seed uint64
	// Rounds is how many rounds the sub-test Model has, each of one to seven
	// calls at a time. Defaults to 400.
	Rounds int
}

// missing names the funcs of those a test needs that h lacks.
func (h Harness) missing(needs []string) (names []string) {
	have := map[string]bool{
		"Reopen": h.Reopen != nil,
		"Crash":  h.Crash != nil,
		"Second": h.Second != nil,
		"Fail":   h.Fail != nil,
		"Damage": h.Damage != nil,
		"Space":  h.Space != nil,
	}
	for _, name := range needs {
		if !have[name] {
			names = append(names, name)
		}
	}
	return names
}

// A conformanceTest is one sub-test.
type conformanceTest struct {
	name  string
	rule  string   // quoted by every failure
	needs []string // funcs of the Harness besides Open
	run   func(f *fixture)
}

// groups are all sub-tests.
var groups = []struct {
	name  string
	tests []conformanceTest
}{
	{"Stage", stageTests},
	{"Body", bodyTests},
	{"Size", sizeTests},
	{"Unit", unitTests},
	{"Repeat", repeatTests},
	{"Cancel", cancelTests},
	{"Owner", ownerTests},
	{"Claim", claimTests},
	{"ClaimMany", claimManyTests},
	{"Scan", scanTests},
	{"Queues", queuesTests},
	{"Entry", entryTests},
	{"Skip", skipTests},
	{"Many", manyTests},
	{"Replace", replaceTests},
	{"Readers", readerTests},
	{"Close", closeTests},
	{"Concurrent", concurrentTests},
	{"Reopen", reopenTests},
	{"Crash", crashTests},
	{"Second", secondTests},
	{"Fail", failTests},
	{"Damage", damageTests},
	{"Space", spaceTests},
	{"Model", modelTests},
}

// Run runs the suite, each rule in a sub-test of t.
func Run(t *testing.T, h Harness) {
	if h.Open == nil {
		t.Fatal("spooltest: Harness.Open is nil: it must open a spool on a new, empty store")
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, test := range g.tests {
				t.Run(test.name, func(t *testing.T) { runOne(t, h, test) })
			}
		})
	}
}

func runOne(t *testing.T, h Harness, test conformanceTest) {
	if names := h.missing(test.needs); names != nil {
		t.Skipf("not checked, since the harness has no %v: %s", names, test.rule)
	}
	f := newFixture(t, h, test.rule)
	test.run(f)
}
