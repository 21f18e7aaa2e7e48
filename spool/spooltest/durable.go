package spooltest

import (
	"fmt"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var reopenTests = []conformanceTest{
	{
		name:  "Found",
		needs: []string{"Reopen"},
		rule:  "what Commit or Apply answered nil for is found again, whole and unchanged",
		run:   func(f *fixture) { f.survives(f.reopen) },
	},
	{
		name:  "Unowned",
		needs: []string{"Reopen"},
		rule:  "ownership ends with Close",
		run:   func(f *fixture) { f.disowned(f.reopen) },
	},
	{
		name:  "Staged",
		needs: []string{"Reopen"},
		rule:  "nothing stays of what was staged and not committed",
		run:   func(f *fixture) { f.unstaged(f.reopen) },
	},
	{
		name:  "Removed",
		needs: []string{"Reopen"},
		rule:  "what was removed stays removed, and its body with it",
		run: func(f *fixture) {
			a, b := f.owned("a body"), f.owned(noise(big))
			kept := f.owned("kept")
			f.apply(unit(spool.Remove, a), unit(spool.Remove, b))
			f.reopen()
			f.same("Scan", f.stored(), []*spool.Entry{kept})
			f.lacks(a.Body, "whose last entry was removed")
			f.lacks(b.Body, "whose last entry was removed")
			f.has(kept.Body, "kept")
		},
	},
	{
		name:  "Meanwhile",
		needs: []string{"Reopen"},
		rule:  "Close waits for what was taken up: what is committed meanwhile is found again, or answers ErrClosed",
		run:   closeMeanwhile,
	},
	{
		name:  "Counts",
		needs: []string{"Reopen"},
		rule:  "Queues and the lifetime of bodies know what was stored before",
		run: func(f *fixture) {
			w := f.stage("123456")
			a, b := f.entry(w.ID()), f.entry(w.ID())
			f.ok(w.Commit(f.ctx, a, b), "Commit")
			f.reopen()
			f.infos(spool.QueueInfo{Queue: "queue", Class: "class", Entries: 2, Bytes: 12, Oldest: a.Received, NextDue: a.Due})
			f.apply(unit(spool.Remove, f.one(a.ID)))
			f.has(w.ID(), "123456")
			f.apply(unit(spool.Remove, f.one(b.ID)))
			f.lacks(w.ID(), "whose last entry was removed")
		},
	},
	{
		name:  "Uninterrupted",
		needs: []string{"Reopen"},
		rule:  "a Close ends all marks of Starter without counting",
		run: func(f *fixture) {
			s := f.starter()
			e := f.owned("a body")
			s.Started(e.ID)
			f.reopen()
			f.interrupted("after Close and Reopen", e.ID, 0)
			f.crashIfPossible()
			f.interrupted("after a crash of one that started nothing", e.ID, 0)
		},
	},
	{
		name:  "Repeatedly",
		needs: []string{"Reopen"},
		rule:  "what was answered nil for is found again after every Close: Final entries first, the others as they were, all of them unowned",
		run:   func(f *fixture) { f.restarts(f.reopen, 0) },
	},
}

var crashTests = []conformanceTest{
	{
		name:  "Found",
		needs: []string{"Crash"},
		rule:  "what Commit or Apply answered nil for survives a crash, whole and unchanged",
		run:   func(f *fixture) { f.survives(f.crash) },
	},
	{
		name:  "Unowned",
		needs: []string{"Crash"},
		rule:  "ownership ends with the death of the process: what it kept can be claimed",
		run:   func(f *fixture) { f.disowned(f.crash) },
	},
	{
		name:  "Staged",
		needs: []string{"Crash"},
		rule:  "nothing stays of what was staged and not committed",
		run:   func(f *fixture) { f.unstaged(f.crash) },
	},
	{
		name:  "Final",
		needs: []string{"Crash"},
		rule:  "Final entries whose owner died before their record was taken come first",
		run: func(f *fixture) {
			f.free("a body", func(e *spool.Entry) { e.Due = f.now.Add(-time.Hour) })
			e := f.owned("final")
			next := e.Clone()
			next.State, next.Outcome, next.Due = spool.Final, []byte("the record"), f.now.Add(time.Hour)
			f.apply(spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
			f.crash()
			got := f.claim(spool.ClaimRequest{Limit: 1})
			f.same("Claim of one", got, []*spool.Entry{e})
			if string(got[0].Outcome) != "the record" {
				f.fail("Outcome: got %q, want %q", got[0].Outcome, "the record")
			}
		},
	},
	{
		name:  "Interrupted",
		needs: []string{"Crash"},
		rule:  "when the process dies between Started and Ended, the Interrupted of the entry grows by one before it can be claimed",
		run:   interruptedCounts,
	},
	{
		name:  "Repeatedly",
		needs: []string{"Crash"},
		rule:  "what was answered nil for is found again after every crash: Final entries first, the others as they were, all of them unowned",
		run:   func(f *fixture) { f.restarts(f.crash, 1) },
	},
	{
		name:  "InFlight",
		needs: []string{"Crash"},
		rule:  "what was answered nil for survives a crash at any moment; of what was not, all of a unit or nothing",
		run:   crashInFlight,
	},
}

// survives stores something of every kind, calls restart, and looks for it.
func (f *fixture) survives(restart func()) {
	f.t.Helper()
	bodies := map[spool.ID]string{}
	for _, size := range f.sizes() {
		body := noise(size)
		bodies[f.owned(body).Body] = body
	}
	w := f.stage("0123456789")
	bodies[w.ID()] = "0123456789"
	f.ok(w.Commit(f.ctx, f.specimens(w.ID())...), "Commit")
	updated := f.owned("updated").Clone()
	bodies[updated.Body] = "updated"
	updated.Attempts, updated.Due, updated.LastError = 5, f.now.Add(time.Hour), "421 later"
	f.apply(unit(spool.Update, updated))

	want := f.stored()
	restart()
	got := f.stored()
	f.same("Scan", got, want)
	for i := range got {
		got[i].Rev = want[i].Rev
		f.equal("by Scan", got[i], want[i])
	}
	for id, body := range bodies {
		f.has(id, body)
	}
	f.ok(f.sp.Health(), "Health")
	f.owned("it goes on")
}

// closeMeanwhile closes the spool while several commit to it.
func closeMeanwhile(f *fixture) {
	const callers = 6
	acknowledged := make([]map[spool.ID]string, callers)
	errs := make([]error, callers)
	started := make(chan struct{}, callers)
	var wg sync.WaitGroup
	for n := range callers {
		acknowledged[n] = make(map[spool.ID]string)
		wg.Go(func() {
			for i := 0; errs[n] == nil; i++ {
				body := fmt.Sprintf("body %d of %d", i, n)
				var id spool.ID
				if id, errs[n] = f.commitOwned(body); errs[n] == nil {
					acknowledged[n][id] = body
				}
				if i == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range callers {
		<-started
	}
	f.ok(f.sp.Close(), "Close beside commits")
	wg.Wait()
	f.sp = f.h.Reopen(f.t, f.sp)

	stored := make(map[spool.ID]*spool.Entry)
	for _, e := range f.stored() {
		stored[e.ID] = e
	}
	total := 0
	for n := range callers {
		f.is(errs[n], "Commit beside Close", spool.ErrClosed)
		for id, body := range acknowledged[n] {
			if stored[id] == nil {
				f.fail("entry %s, for which Commit answered nil beside Close, is lost", id)
			}
			f.has(stored[id].Body, body)
		}
		total += len(acknowledged[n])
	}
	if len(stored) != total {
		f.fail("%d entries are stored, but %d were answered by nil and the others by ErrClosed", len(stored), total)
	}
}

// disowned checks that restart ends ownership.
func (f *fixture) disowned(restart func()) {
	f.t.Helper()
	kept := f.owned("kept")
	claimed := f.one(f.free("claimed").ID)
	restart()
	for _, e := range []*spool.Entry{kept, claimed} {
		f.is(f.try(unit(spool.Remove, e.Clone())), "Remove by who owned it before", spool.ErrFenced)
	}
	got := f.claim(spool.ClaimRequest{})
	f.same("Claim of all that is due", byID(got...), byID(kept, claimed))
	for _, e := range got {
		f.apply(unit(spool.Remove, e))
	}
}

// unstaged checks that restart leaves nothing of what was not committed.
func (f *fixture) unstaged(restart func()) {
	f.t.Helper()
	small, large := f.stage("a body"), f.stage(noise(big))
	restart()
	f.lacks(small.ID(), "that was only staged")
	f.lacks(large.ID(), "that was only staged")
	f.same("Scan", f.stored(), nil)
}

// starter skips the test if the spool is none.
func (f *fixture) starter() spool.Starter {
	s, ok := f.sp.(spool.Starter)
	if !ok {
		f.t.Skipf("not checked, since the spool is no spool.Starter: %s", f.rule)
	}
	return s
}

func (f *fixture) crashIfPossible() {
	f.t.Helper()
	if f.h.Crash == nil {
		f.t.Log("not checked, since the harness has no Crash: that the marks are gone after Close")
		return
	}
	f.crash()
}

func (f *fixture) interrupted(when string, id spool.ID, want int) {
	f.t.Helper()
	e := f.find(id)
	if e == nil {
		f.fail("%s: entry %s is gone", when, id)
	}
	if e.Interrupted != want {
		f.fail("%s: Interrupted is %d, want %d", when, e.Interrupted, want)
	}
}

func interruptedCounts(f *fixture) {
	s := f.starter()
	running, ended, never, stored, removed := f.owned("a"), f.owned("b"), f.owned("c"), f.owned("d"), f.owned("e")
	s.Started(running.ID, ended.ID, stored.ID)
	s.Started(removed.ID)
	s.Ended(ended.ID)
	s.Ended(never.ID)
	next := stored.Clone()
	next.Interrupted, next.Attempts = 5, 1
	f.apply(spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}, unit(spool.Remove, removed))

	f.crash()
	f.interrupted("started and not ended", running.ID, 1)
	f.interrupted("started and ended", ended.ID, 0)
	f.interrupted("never started", never.ID, 0)
	f.interrupted("updated while it was started", stored.ID, 6)
	if f.find(removed.ID) != nil {
		f.fail("an entry that was removed while it was started is back after the crash")
	}

	f.crash()
	f.interrupted("after a second crash, not started again", running.ID, 1)

	got := f.one(running.ID)
	if got.Interrupted != 1 {
		f.fail("Claim: Interrupted is %d, want 1", got.Interrupted)
	}
	f.starter().Started(got.ID)
	f.crash()
	f.interrupted("started in two processes that died", running.ID, 2)

	if f.h.Reopen != nil {
		f.reopen()
		f.interrupted("after Close and Reopen", running.ID, 2)
	}
}
