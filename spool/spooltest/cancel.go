package spooltest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var cancelTests = []conformanceTest{
	{
		name: "Before",
		rule: "ctx counts until the spool has taken the units up: nothing is applied under a context that is done",
		run:  cancelledBefore,
	},
	{
		name: "Commit",
		rule: "once the spool has taken a unit up, its outcome is awaited and true: no error for what is stored, no nil for what is not",
		run:  cancelCommits,
	},
	{
		name: "Change",
		rule: "once the spool has taken a unit up, its outcome is awaited and true, and on failure ownership stays as it was",
		run:  cancelChanges,
	},
	{
		name: "Claim",
		rule: "with an error nothing was claimed",
		run:  cancelClaims,
	},
	{
		name: "Scan",
		rule: "an error other than damage ends Scan and Queues, that of their context as well",
		run: func(f *fixture) {
			e := f.owned("a body")
			done, cancel := context.WithCancel(f.ctx)
			cancel()
			var errs []error
			for _, err := range f.sp.Scan(done, spool.Query{}) {
				errs = append(errs, err)
			}
			for _, err := range f.sp.Queues(done) {
				errs = append(errs, err)
			}
			for _, err := range errs {
				if err != nil { // nil from one that does not mind its context
					f.is(err, "Scan or Queues under a context that is done", context.Canceled)
				}
			}
			if len(errs) != 2 {
				f.fail("Scan and Queues of one entry under a context that is done: yielded %d times, want once each", len(errs))
			}
			if b, err := f.sp.Open(done, e.Body); err != nil {
				f.is(err, "Open under a context that is done", context.Canceled)
			} else {
				f.reads(b, "a body")
			}
		},
	},
}

func cancelledBefore(f *fixture) {
	done, cancel := context.WithCancel(f.ctx)
	cancel()
	e := f.owned("a body")
	due := f.free("another")
	w := f.stage("staged")
	f.is(w.Commit(done, f.entry(w.ID())), "Commit under a context that is done", context.Canceled)
	errs := f.sp.Apply(done, unit(spool.Remove, e), unit(spool.Update, e))
	if len(errs) != 2 {
		f.fail("Apply of two units under a context that is done: got errs %v", errs)
	}
	for _, err := range errs {
		f.is(err, "Apply under a context that is done", context.Canceled)
	}
	f.same("Scan", f.stored(), byID(e, due))
	f.lacks(w.ID(), "whose Commit was cancelled")
	entries, _, err := f.sp.Claim(done, spool.ClaimRequest{Due: f.now, Limit: 10})
	if err == nil {
		f.same("Claim that does not mind its context", entries, []*spool.Entry{due})
	} else {
		f.is(err, "Claim under a context that is done", context.Canceled)
		f.claims("Claim after one that failed, and so claimed nothing", spool.ClaimRequest{}, due)
	}
	if v, err := f.sp.Create(done, 0); err != nil {
		f.is(err, "Create under a context that is done", context.Canceled)
	} else {
		f.ok(v.Abort(), "Abort")
	}
	f.write(w, ", and more")
	f.ok(w.Commit(f.ctx, f.entry(w.ID())), "Commit after one that was cancelled")
	f.has(w.ID(), "staged, and more")
	f.apply(unit(spool.Update, e))
}

// A canceller makes contexts that end at a random moment of a call that takes
// about as long as took.
type canceller struct {
	ctx  context.Context
	took time.Duration
}

// canceller finds out how long a Commit takes.
func (f *fixture) canceller() canceller {
	f.t.Helper()
	c := canceller{f.ctx, time.Hour}
	for range 3 {
		w := f.stage("a body")
		e := f.entry(w.ID())
		start := time.Now()
		f.ok(w.Commit(f.ctx, e), "Commit")
		c.took = min(c.took, time.Since(start))
		f.apply(unit(spool.Remove, e))
	}
	return c
}

// cancelled calls do with a context that ends in most cases before do does.
func (c canceller) cancelled(do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(c.ctx)
	var wg sync.WaitGroup
	switch rand.IntN(3) {
	case 0: // as soon as there is a processor for it, often before do begins
		wg.Go(cancel)
		for range rand.IntN(3) {
			runtime.Gosched()
		}
	case 1: // a little later
		yields := rand.IntN(20)
		wg.Go(func() {
			for range yields {
				runtime.Gosched()
			}
			cancel()
		})
	case 2:
		t := time.AfterFunc(rand.N(2*c.took+1), cancel)
		defer t.Stop()
	}
	err := do(ctx)
	cancel()
	wg.Wait()
	return err
}

func cancelCommits(f *fixture) {
	const callers, each = 8, 25
	type outcome struct {
		w    spool.Writer
		e    *spool.Entry
		body string
		err  error
	}
	outcomes := make([]outcome, callers*each)
	for n := range outcomes {
		o := &outcomes[n]
		o.body = noise([]int{0, 10, 3000, 70_000}[n%4])
		o.w = f.stage(o.body)
		o.e = f.entry(o.w.ID())
	}
	c := f.canceller()
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for i := range each {
				o := &outcomes[n*each+i]
				o.err = c.cancelled(func(ctx context.Context) error { return o.w.Commit(ctx, o.e) })
			}
		})
	}
	wg.Wait()
	stored := f.index()
	cancelled := 0
	for _, o := range outcomes {
		if o.err == nil {
			if stored[o.e.ID] == nil {
				f.fail("a Commit whose context ended beside it answered nil, and nothing is stored")
			}
			f.has(o.e.Body, o.body)
			continue
		}
		f.is(o.err, "Commit whose context ends beside it", context.Canceled)
		cancelled++
		if stored[o.e.ID] != nil {
			f.fail("a Commit whose context ended beside it answered %v, and the message is stored", o.err)
		}
		f.lacks(o.e.Body, "whose Commit was cancelled")
		f.ok(o.w.Commit(f.ctx, o.e), "Commit after one that was cancelled")
		f.has(o.e.Body, o.body)
	}
	f.t.Logf("%d of %d were cancelled before they were taken up", cancelled, len(outcomes))
	if n := len(f.stored()); n != len(outcomes) {
		f.fail("%d entries are stored, want %d", n, len(outcomes))
	}
}

func cancelChanges(f *fixture) {
	const callers, each = 8, 40
	errs := make([]error, callers)
	c := f.canceller()
	var wg sync.WaitGroup
	for n := range callers {
		e := f.owned("a body")
		wg.Go(func() { errs[n] = f.cancelChange(c, e, each) })
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "changes whose context ends beside them")
}

// cancelChange updates an entry again and again, and compares each outcome with
// what is stored.
func (f *fixture) cancelChange(c canceller, e *spool.Entry, times int) error {
	for n := range times {
		next := e.Clone()
		next.Attempts = n + 1
		err := c.cancelled(func(ctx context.Context) error {
			return errors.Join(f.sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})...)
		})
		if err == nil {
			e = next
		} else if !errors.Is(err, context.Canceled) {
			return err
		}
		got, serr := f.look(e.ID)
		switch {
		case serr != nil:
			return serr
		case got == nil || got.Attempts != e.Attempts || got.Rev != e.Rev:
			return &falseOutcome{err, got, e}
		}
	}
	return errors.Join(f.sp.Apply(f.ctx, unit(spool.Remove, e))...)
}

// A falseOutcome is what a call says that did something else.
type falseOutcome struct {
	err       error
	got, want *spool.Entry
}

func (o *falseOutcome) Error() string {
	what := "nil"
	if o.err != nil {
		what = o.err.Error()
	}
	if o.got == nil {
		return "an Update answered " + what + ", and the entry is gone"
	}
	return "an Update answered " + what + ", and stored is " + describe(o.got) + ", not " + describe(o.want)
}

func cancelClaims(f *fixture) {
	const callers = 4
	all := f.fill(200, nil)
	got := make([][]*spool.Entry, callers)
	errs := make([]error, callers)
	c := f.canceller()
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for range 20 {
				err := c.cancelled(func(ctx context.Context) error {
					entries, _, err := f.sp.Claim(ctx, spool.ClaimRequest{Due: f.now, Limit: 3})
					if err == nil {
						got[n] = append(got[n], entries...)
					} else if len(entries) > 0 {
						return errors.New("a Claim answered an error and entries")
					}
					return err
				})
				if err != nil && !errors.Is(err, context.Canceled) {
					errs[n] = err
				}
			}
		})
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "Claim whose context ends beside it")
	left := f.claim(spool.ClaimRequest{})
	for _, g := range got {
		left = append(left, g...)
	}
	f.same("what claims whose contexts end returned, and what one returned that was left in peace", byID(left...), byID(all...))
}
