package spooltest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var claimManyTests = []conformanceTest{
	{
		name: "Ordered",
		rule: "Claim takes what matches, the longest due first, in however many queues and classes it is",
		run:  claimOrdered,
	},
	{
		name: "Hidden",
		rule: "thousands of entries of one queue or class hide no other when it is asked for by Queues, Except or Class",
		run:  claimHidden,
	},
	{
		name: "Starvation",
		rule: "what is due longest is claimed first, however much is added and tried again meanwhile",
		run:  claimStarvation,
	},
	{
		name: "Claimers",
		rule: "of concurrent claimers each entry has one owner, and none is forgotten",
		run:  func(f *fixture) { f.claimers(f) },
	},
	{
		name:  "SecondClaimers",
		needs: []string{"Second"},
		rule:  "of concurrent claimers each entry has one owner, and none is forgotten",
		run:   func(f *fixture) { f.claimers(f.second()) },
	},
	{
		name: "Releasers",
		rule: "what is given back while others claim is claimed again, and what is claimed is owned",
		run:  claimReleased,
	},
}

// spread puts entry i into one of many queues and classes, due before all that
// are spread with a lower i.
func (f *fixture) spread(i int, e *spool.Entry) {
	e.Queue, e.Class = fmt.Sprintf("queue %d", i%211), fmt.Sprintf("class %d", i%17)
	e.Due = f.now.Add(-time.Duration(i+1) * time.Millisecond)
}

func claimOrdered(f *fixture) {
	all := f.fill(2000, f.spread)
	slices.Reverse(all) // the longest due first
	later := f.fill(100, func(i int, e *spool.Entry) {
		f.spread(i, e)
		e.Due = f.now.Add(time.Duration(i+1) * time.Minute)
	})
	take := func(what string, req spool.ClaimRequest, matches func(*spool.Entry) bool) {
		f.t.Helper()
		var want, rest []*spool.Entry
		for _, e := range all {
			if matches(e) && len(want) < req.Limit {
				want = append(want, e)
			} else {
				rest = append(rest, e)
			}
		}
		got, next := f.claimNext(req)
		f.same("Claim of "+what, got, want)
		if slices.ContainsFunc(rest, matches) && (next.IsZero() || next.After(f.now)) {
			f.fail("Claim of %s left what is due behind: got next %v, want a time that has passed", what, next)
		}
		all = rest
	}
	queues := func(from, to int) (names []string) {
		for n := from; n < to; n++ {
			names = append(names, fmt.Sprintf("queue %d", n))
		}
		return names
	}
	among := func(names []string) func(*spool.Entry) bool {
		return func(e *spool.Entry) bool { return slices.Contains(names, e.Queue) }
	}
	every := func(*spool.Entry) bool { return true }
	but := func(names []string) func(*spool.Entry) bool {
		return func(e *spool.Entry) bool { return !slices.Contains(names, e.Queue) }
	}
	few, most := queues(100, 110), queues(3, 211)
	take("50 of all", spool.ClaimRequest{Limit: 50}, every)
	take("50 of ten queues", spool.ClaimRequest{Limit: 50, Queues: few}, among(few))
	take("50 of all but 208 queues", spool.ClaimRequest{Limit: 50, Except: most}, but(most))
	take("50 of 208 queues", spool.ClaimRequest{Limit: 50, Queues: most}, among(most))
	take("50 of one class", spool.ClaimRequest{Limit: 50, Class: "class 5"}, func(e *spool.Entry) bool { return e.Class == "class 5" })
	take("one class but for 208 queues", spool.ClaimRequest{Limit: 50, Class: "class 5", Except: most}, func(e *spool.Entry) bool {
		return e.Class == "class 5" && but(most)(e)
	})
	take("one class of ten queues", spool.ClaimRequest{Limit: 50, Class: "class 7", Queues: few}, func(e *spool.Entry) bool {
		return e.Class == "class 7" && among(few)(e)
	})
	for len(all) > 0 {
		take("300 of what is left", spool.ClaimRequest{Limit: 300}, every)
	}
	if _, next := f.claimNext(spool.ClaimRequest{}); !next.Equal(later[0].Due) {
		f.fail("Claim with nothing left that is due: got next %v, want %v", next, later[0].Due)
	}
}

func claimHidden(f *fixture) {
	crowd := f.fill(3000, func(i int, e *spool.Entry) {
		e.Queue, e.Class, e.Due = "crowd", "crowd", f.now.Add(-time.Hour)
	})
	lone := f.freeIn("lone", "lone", -time.Second)
	same := f.freeIn("crowd", "lone", -time.Second)
	beside := f.freeIn("lone", "crowd", -time.Second)
	tests := []struct {
		what string
		req  spool.ClaimRequest
		want []*spool.Entry
	}{
		{"a queue beside a crowded one", spool.ClaimRequest{Queues: []string{"lone"}}, byID(lone, beside)},
		{"all but a crowded queue", spool.ClaimRequest{Except: []string{"crowd"}}, byID(lone, beside)},
		{"a class beside a crowded one", spool.ClaimRequest{Class: "lone"}, byID(lone, same)},
		{"a class of a crowded queue", spool.ClaimRequest{Class: "lone", Queues: []string{"crowd"}}, []*spool.Entry{same}},
		{"a class but for a crowded queue", spool.ClaimRequest{Class: "lone", Except: []string{"crowd"}}, []*spool.Entry{lone}},
		{"a crowded class of another queue", spool.ClaimRequest{Class: "crowd", Queues: []string{"lone"}}, []*spool.Entry{beside}},
		{"a crowded class but for a crowded queue", spool.ClaimRequest{Class: "crowd", Except: []string{"crowd"}}, []*spool.Entry{beside}},
	}
	for _, test := range tests {
		test.req.Limit = 10
		got := f.claim(test.req)
		f.same("Claim of "+test.what, byID(got...), test.want)
		for _, e := range got {
			f.apply(unit(spool.Release, e))
		}
	}
	if got := f.claim(spool.ClaimRequest{Limit: 5000, Queues: []string{"crowd"}, Class: "crowd"}); len(got) != len(crowd) {
		f.fail("Claim of a crowd: got %d, want %d", len(got), len(crowd))
	}
}

// claimStarvation adds to a spool, and tries again what was claimed, while the
// oldest wait for their turn.
func claimStarvation(f *fixture) {
	const old, busy = 60, 20
	waiting := f.fill(old, func(i int, e *spool.Entry) { e.Due = f.now.Add(time.Duration(i-2*old) * time.Minute) })
	f.fill(busy, func(i int, e *spool.Entry) { e.Due = f.now.Add(time.Duration(i-4*old) * time.Minute) })
	// Those that are tried again and again are due first, but only at first.
	for _, e := range f.claim(spool.ClaimRequest{Limit: busy}) {
		e.Due = f.now.Add(-time.Minute)
		f.apply(unit(spool.Update, e))
	}

	ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
	defer cancel()
	var claimed atomic.Int64
	var mu sync.Mutex
	var got []*spool.Entry
	var errs []error
	var wg sync.WaitGroup
	note := func(err error, entries ...*spool.Entry) {
		mu.Lock()
		defer mu.Unlock()
		got, errs = append(got, entries...), append(errs, err)
	}
	for n := range 3 {
		wg.Go(func() { // what keeps coming
			for i := 0; i < 30 || claimed.Load() < old && ctx.Err() == nil && i < 10_000; i++ {
				note(f.commitOne(fmt.Sprintf("new %d of %d", i, n)))
			}
		})
		wg.Go(func() {
			for claimed.Load() < old && ctx.Err() == nil {
				runtime.Gosched()
				entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 1})
				claimed.Add(int64(len(entries)))
				note(err, entries...)
				for _, e := range entries { // and is tried again, as if due just now
					next := e.Clone()
					next.Due = f.now
					note(errors.Join(f.sp.Apply(f.ctx, unit(spool.Update, next))...))
				}
			}
		})
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "commits and claims at the same time")
	if len(got) < old {
		f.fail("%d of %d claims within a minute", len(got), old)
	}
	// Who claims at the same time as the last may get what comes after it.
	for _, e := range waiting {
		if !slices.Contains(ids(got), e.ID) {
			f.fail("after %d claims of one entry each, one of the %d that are due longest still waits: %s", len(got), old, describe(e))
		}
	}
}

// claimers lets f and g claim all that there is.
func (f *fixture) claimers(g *fixture) {
	f.t.Helper()
	const workers = 8
	all := f.fill(1500, f.spread)
	got := make([][]*spool.Entry, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		by := []*fixture{f, g}[n%2]
		wg.Go(func() {
			for i := 0; errs[n] == nil && len(got[n]) <= len(all); i++ {
				req := spool.ClaimRequest{Due: f.now, Limit: 1 + (n+i)%7}
				switch i % 4 {
				case 1:
					req.Queues = []string{fmt.Sprintf("queue %d", i%211), fmt.Sprintf("queue %d", n)}
				case 2:
					req.Class = fmt.Sprintf("class %d", i%17)
				case 3:
					req.Except = []string{fmt.Sprintf("queue %d", i%211), fmt.Sprintf("queue %d", n)}
				}
				entries, next, err := by.sp.Claim(f.ctx, req)
				got[n], errs[n] = append(got[n], entries...), err
				if i%4 == 0 && len(entries) == 0 && next.IsZero() {
					return
				}
			}
		})
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "concurrent claims")
	f.same("what concurrent claims returned", byID(slices.Concat(got...)...), byID(all...))
	for n, entries := range got {
		by := []*fixture{f, g}[n%2]
		for some := range slices.Chunk(entries, 100) {
			by.apply(removal(some)) // as only its owner can
		}
	}
	f.same("Scan", f.stored(), nil)
	f.infos()
}

// claimReleased claims and gives back from several sides.
func claimReleased(f *fixture) {
	const workers, turns = 6, 40
	all := f.fill(50, f.spread)
	errs := make([]error, workers)
	owned := make(map[spool.ID]int)
	var mu sync.Mutex
	hold := func(entries []*spool.Entry, d int) (err error) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			if owned[e.ID] += d; owned[e.ID] > 1 {
				err = fmt.Errorf("entry %s has two owners", e.ID)
			}
		}
		return err
	}
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			for i := 0; i < turns && errs[n] == nil; i++ {
				entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 10})
				err = errors.Join(err, hold(entries, 1))
				var u spool.Unit
				for k, e := range entries {
					op := []spool.Op{spool.Release, spool.Update}[(k+i)%2]
					u = append(u, spool.Change{Op: op, Entry: e.Clone()})
				}
				hold(entries, -1)
				errs[n] = errors.Join(err, errors.Join(f.sp.Apply(f.ctx, u)...))
			}
		})
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "claims and releases at the same time")
	f.same("Claim of all", byID(f.claim(spool.ClaimRequest{})...), byID(all...))
}
