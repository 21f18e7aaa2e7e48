package spooltest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// restarts ends and opens the spool again and again while it works: each time
// some entries are claimed, some are running, and some changes are made. An
// entry that is running at each end counts interruptions by counted.
func (f *fixture) restarts(restart func(), counted int) {
	f.t.Helper()
	bodies := map[spool.ID]string{}
	store := func(size int, edit ...func(*spool.Entry)) *spool.Entry {
		body := noise(size)
		e := f.owned(body, edit...)
		bodies[e.Body] = body
		return e
	}
	state := func(s spool.State, minutes int) func(*spool.Entry) {
		return func(e *spool.Entry) {
			e.State, e.Due = s, f.now.Add(time.Duration(minutes)*time.Minute)
			if s == spool.Final {
				e.Outcome = fmt.Append(nil, "the record, ", minutes)
			}
		}
	}
	running, queued, shared := store(100), store(70_000, state(spool.Queued, -5)), store(big)
	held := store(0, state(spool.Held, -60))
	finals := []*spool.Entry{store(100, state(spool.Final, 60)), store(100, state(spool.Final, -60))}
	other := f.entry(shared.Body)
	f.apply(spool.Unit{{Op: spool.Insert, Entry: other}})
	all := append([]*spool.Entry{running, queued, shared, held, other}, finals...)
	starter, marks := f.sp.(spool.Starter)

	for turn := range 4 {
		if marks {
			starter.Started(running.ID, queued.ID)
			starter.Ended(queued.ID)
		}
		restart()
		for _, e := range all {
			f.is(f.try(unit(spool.Remove, e.Clone())), fmt.Sprintf("Remove by who owned it before end %d", turn+1), spool.ErrFenced)
		}
		if marks {
			starter = f.sp.(spool.Starter)
			running.Interrupted += counted
		}
		f.alike(byID(all...))
		for id, body := range bodies {
			f.has(id, body)
		}
		first := f.claim(spool.ClaimRequest{Limit: len(finals), Queues: []string{"none"}})
		f.same("Claim of Final entries", byID(first...), byID(finals...))
		f.claims("Claim when the Final entries are owned", spool.ClaimRequest{Queues: []string{"none"}})
		rest := f.claim(spool.ClaimRequest{})
		f.same("Claim of what is due", byID(rest...), byID(running, queued, shared, other))
		got := slices.Concat(first, rest, []*spool.Entry{f.one(held.ID)})
		for i := range all {
			all[i] = f.in(got, all[i])
		}
		// One is tried and stays owned, one is given back, one gets another body.
		running, queued, shared, held, other = all[0], all[1], all[2], all[3], all[4]
		finals = all[5:]
		queued.Attempts, queued.LastError = turn+1, fmt.Sprint("421 try ", turn+1)
		w := f.stage(fmt.Sprint("body ", turn))
		bodies[w.ID()] = fmt.Sprint("body ", turn)
		if other.Body != shared.Body {
			delete(bodies, other.Body)
		}
		other.Body = w.ID()
		f.apply(spool.Unit{
			{Op: spool.Update, Entry: queued, Keep: true}, {Op: spool.Release, Entry: held},
			{Op: spool.Update, Entry: other, Stage: w}, {Op: spool.Release, Entry: finals[0]},
		})
	}
}

// crashInFlight ends the process while several commit, update and remove.
func crashInFlight(f *fixture) {
	const callers, turns = 6, 3
	for range turns {
		answered := make([][]*spool.Entry, callers) // each unit that was answered nil
		open := make([][]*spool.Entry, callers)     // the entries of the one that was not
		begun := make(chan struct{}, callers)
		var wg sync.WaitGroup
		for n := range callers {
			wg.Go(func() {
				for i := 0; open[n] == nil && i < 300; i++ {
					entries, err := f.commitPair(fmt.Sprintf("body %d of %d", i, n))
					if err == nil {
						answered[n] = append(answered[n], entries...)
					} else {
						open[n] = entries
					}
					if i == 1 || err != nil {
						select {
						case begun <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		for range callers {
			<-begun
		}
		next := f.h.Crash(f.t, f.sp)
		wg.Wait()
		f.sp = next
		stored := f.index()
		for n := range callers {
			for _, e := range answered[n] {
				f.afterCrash(stored, e)
				delete(stored, e.ID)
			}
			if open[n] == nil { // it was done before the crash
				continue
			}
			a, b := open[n][0], open[n][1]
			if (stored[a.ID] == nil) != (stored[b.ID] == nil) {
				f.fail("half of a unit that was not answered is there after a crash")
			}
			if stored[a.ID] == nil && !a.Body.IsZero() {
				f.lacks(a.Body, "of a unit that is not there after a crash")
			}
			for _, e := range []*spool.Entry{a, b} {
				if stored[e.ID] != nil {
					f.afterCrash(stored, e)
					delete(stored, e.ID)
				}
			}
		}
		if len(stored) > 0 {
			f.fail("after a crash %d entries are there that nobody stored", len(stored))
		}
		f.apply(removal(f.claim(spool.ClaimRequest{Limit: 100_000})))
		f.infos()
	}
}

// commitPair commits two entries on one body, from any goroutine. Their
// LastError says what the body is.
func (f *fixture) commitPair(body string) ([]*spool.Entry, error) {
	a, b := f.entry(spool.ID{}), f.entry(spool.ID{})
	a.LastError, b.LastError = body, body
	pair := []*spool.Entry{a, b}
	w, err := f.sp.Create(f.ctx, 0)
	if err != nil {
		return pair, err
	}
	defer w.Abort()
	if _, err := w.Write([]byte(body)); err != nil {
		return pair, err
	}
	a.Body, b.Body = w.ID(), w.ID()
	return pair, w.Commit(f.ctx, a, b)
}

// afterCrash checks one entry that a commitPair stored.
func (f *fixture) afterCrash(stored map[spool.ID]*spool.Entry, e *spool.Entry) {
	f.t.Helper()
	got := stored[e.ID]
	if got == nil {
		f.fail("entry %s, for which Commit answered nil before the crash, is lost", e.ID)
	}
	want := e.Clone()
	want.Rev, want.Size = got.Rev, int64(len(e.LastError))
	f.equal("after a crash", got, want)
	f.has(e.Body, e.LastError)
}
