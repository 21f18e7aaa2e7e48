package spooltest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

var concurrentTests = []conformanceTest{
	{
		name: "Workers",
		rule: "a Spool is safe for concurrent use, and an entry has one owner at a time: each is worked on once",
		run:  concurrentWorkers,
	},
	{
		name: "OneWinner",
		rule: "of several changes to one entry at one Rev, one is applied and the others are fenced",
		run: func(f *fixture) {
			for range 10 {
				e := f.owned("a body")
				var won, fenced atomic.Int32
				var wg sync.WaitGroup
				for n := range 8 {
					wg.Go(func() {
						next := e.Clone()
						next.Attempts = n + 1
						errs := f.sp.Apply(f.ctx, spool.Unit{{Op: spool.Update, Entry: next, Keep: true}})
						switch {
						case errs == nil:
							won.Add(1)
						case errors.Is(errs[0], spool.ErrFenced):
							fenced.Add(1)
						}
					})
				}
				wg.Wait()
				if won.Load() != 1 || fenced.Load() != 7 {
					f.fail("eight updates at one Rev: %d succeeded, %d were fenced, want 1 and 7", won.Load(), fenced.Load())
				}
			}
		},
	},
	{
		name: "Groups",
		rule: "a unit that fails takes no unit of another caller with it",
		run: func(f *fixture) {
			var wg sync.WaitGroup
			errs := make(chan error, 200)
			for n := range 10 {
				wg.Go(func() {
					for i := range 10 {
						err := f.commitOne(fmt.Sprintf("%d/%d", n, i))
						unknown := f.sp.Apply(f.ctx, unit(spool.Insert, f.entry(spool.NewID())))
						if err != nil {
							errs <- fmt.Errorf("a Commit beside units that fail: %w", err)
						}
						if len(unknown) != 1 || !errors.Is(unknown[0], spool.ErrNotFound) {
							errs <- fmt.Errorf("an Insert onto a body that nobody made: got errs %v", unknown)
						}
					}
				})
			}
			wg.Wait()
			close(errs)
			f.ok(<-errs, "concurrent units")
			if n := len(f.stored()); n != 100 {
				f.fail("got %d entries, want 100", n)
			}
		},
	},
}

// commitOne stores an entry that nobody owns, from any goroutine.
func (f *fixture) commitOne(body string) error {
	e, err := f.commitEntry(body)
	if err != nil {
		return err
	}
	return errors.Join(f.sp.Apply(f.ctx, unit(spool.Release, e))...)
}

// commitOwned stores an entry that stays owned, from any goroutine.
func (f *fixture) commitOwned(body string) (spool.ID, error) {
	e, err := f.commitEntry(body)
	return e.ID, err
}

func (f *fixture) commitEntry(body string) (*spool.Entry, error) {
	e := f.entry(spool.ID{})
	w, err := f.sp.Create(f.ctx, 0)
	if err != nil {
		return e, err
	}
	defer w.Abort()
	if _, err := w.Write([]byte(body)); err != nil {
		return e, err
	}
	e.Body = w.ID()
	e.LastError = body // so that the worker knows what to find
	return e, w.Commit(f.ctx, e)
}

// A tally says what workers did.
type tally struct {
	sync.Mutex
	worked map[spool.ID]int
	err    error
}

func (l *tally) add(id spool.ID) {
	l.Lock()
	defer l.Unlock()
	l.worked[id]++
}

func (l *tally) fail(err error) {
	l.Lock()
	defer l.Unlock()
	l.err = errors.Join(l.err, err)
}

func (l *tally) done(n int) bool {
	l.Lock()
	defer l.Unlock()
	return len(l.worked) >= n || l.err != nil
}

func concurrentWorkers(f *fixture) {
	const makers, each, workers = 6, 25, 4
	l := &tally{worked: make(map[spool.ID]int)}
	ctx, cancel := context.WithTimeout(f.ctx, time.Minute) // where entries are lost
	defer cancel()
	var wg sync.WaitGroup
	for n := range makers {
		wg.Go(func() {
			for i := range each {
				if err := f.commitOne(fmt.Sprintf("body %d of maker %d", i, n)); err != nil {
					l.fail(err)
				}
			}
		})
	}
	for range workers {
		wg.Go(func() {
			for !l.done(makers*each) && ctx.Err() == nil {
				runtime.Gosched()
				entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 3})
				if err != nil {
					l.fail(err)
				}
				for _, e := range entries {
					if err := f.work(e, l); err != nil {
						l.fail(err)
					}
				}
			}
		})
	}
	wg.Wait()
	f.ok(l.err, "concurrent commits and claims")
	if len(l.worked) != makers*each {
		f.fail("%d of %d entries were claimed within a minute", len(l.worked), makers*each)
	}
	for id, n := range l.worked {
		if n != 1 {
			f.fail("entry %s was worked on %d times", id, n)
		}
	}
	f.same("Scan", f.stored(), nil)
	f.infos()
}

// work updates an entry at its first turn, and removes it at its second.
func (f *fixture) work(e *spool.Entry, l *tally) error {
	if s, ok := f.sp.(spool.Starter); ok {
		s.Started(e.ID)
		defer s.Ended(e.ID)
	}
	if e.Attempts == 0 {
		next := e.Clone()
		next.Attempts++
		next.Queue = "second"
		return errors.Join(f.sp.Apply(f.ctx, unit(spool.Update, next))...)
	}
	b, err := f.sp.Open(f.ctx, e.Body)
	if err != nil {
		return err
	}
	defer b.Close()
	buf := make([]byte, len(e.LastError))
	if _, err := b.ReadAt(buf, 0); string(buf) != e.LastError {
		return fmt.Errorf("body of %s: got %q, %v, want %q", e.ID, buf, err, e.LastError)
	}
	// Tallied before the removal: another who worked on it as well shows.
	l.add(e.ID)
	return errors.Join(f.sp.Apply(f.ctx, unit(spool.Remove, e))...)
}
