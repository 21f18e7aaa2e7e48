package spooltest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

var readerTests = []conformanceTest{
	{
		name: "Removed",
		rule: "a Body stays readable until it is closed, even when its last entry is removed and its space is used again",
		run:  readersOutlive,
	},
	{
		name: "Replaced",
		rule: "a Body stays readable until it is closed, even when every entry was updated to another body",
		run:  readersReplaced,
	},
	{
		name: "Racing",
		rule: "Open beside a removal gives the whole body, or ErrNotFound",
		run:  readersRace,
	},
	{
		name: "Staged",
		rule: "what Writer.Open returned stays readable: what was written before, whatever becomes of the Writer",
		run:  readersStaged,
	},
}

// A held is a Body that was opened, and what it must read.
type held struct {
	b    spool.Body
	want string
}

// hold opens a stored body.
func (f *fixture) hold(id spool.ID, want string) held {
	f.t.Helper()
	b, err := f.sp.Open(f.ctx, id)
	f.ok(err, "Open of a stored body")
	f.t.Cleanup(func() { b.Close() })
	return held{b, want}
}

// sample reads at random places, from any goroutine.
func (h held) sample(times int) error {
	for range times {
		off := rand.IntN(len(h.want) + 1)
		buf := make([]byte, min(rand.IntN(10_000), len(h.want)-off))
		n, err := h.b.ReadAt(buf, int64(off))
		if err != nil && err != io.EOF {
			return fmt.Errorf("ReadAt of %d bytes at %d of %d: %w", len(buf), off, len(h.want), err)
		}
		if string(buf[:n]) != h.want[off:off+len(buf)] {
			return fmt.Errorf("ReadAt of %d bytes at %d of %d: got %d bytes, which are not what was written", len(buf), off, len(h.want), n)
		}
	}
	return nil
}

// churn stores and removes bodies that may use space again.
func (f *fixture) churn(sizes ...int) {
	f.t.Helper()
	var u spool.Unit
	for _, size := range sizes {
		u = append(u, spool.Change{Op: spool.Remove, Entry: f.owned(noise(size))})
	}
	f.apply(u)
}

func readersOutlive(f *fixture) {
	sizes := []int{0, 100, 5000, 70_000, 300_000, big}
	var all []held
	var u spool.Unit
	for range 2 {
		for _, size := range sizes {
			want := noise(size)
			e := f.owned(want)
			all = append(all, f.hold(e.Body, want), f.hold(e.Body, want))
			u = append(u, spool.Change{Op: spool.Remove, Entry: e})
		}
	}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for n := range all {
		if n%2 == 0 {
			continue // half of them are read only when all is over
		}
		wg.Go(func() {
			for i := 0; i < 50 && errs[n] == nil; i++ {
				errs[n] = all[n].sample(2)
				runtime.Gosched()
			}
		})
	}
	f.apply(u)
	for range 3 {
		f.churn(sizes...)
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "reading what was removed")
	for _, c := range u {
		f.lacks(c.Entry.Body, "whose last entry was removed")
	}
	for _, h := range all {
		f.reads(h.b, h.want)
	}
}

func readersReplaced(f *fixture) {
	for _, size := range []int{100, 70_000, big} {
		var all []held
		want := noise(size)
		e := f.owned(want)
		for range 5 {
			all = append(all, f.hold(e.Body, want))
			want = noise(size)
			w := f.stage(want)
			next := e.Clone()
			next.Body = w.ID()
			f.apply(spool.Unit{{Op: spool.Update, Entry: next, Stage: w, Keep: true}})
			f.lacks(e.Body, "that no entry refers to any more")
			f.churn(size)
			e = next
		}
		f.has(e.Body, want)
		f.apply(unit(spool.Remove, e))
		f.churn(size)
		for _, h := range all {
			f.reads(h.b, h.want)
		}
	}
}

// readersRace opens bodies while their entries are removed.
func readersRace(f *fixture) {
	const bodies, readers = 60, 4
	type stored struct {
		e    *spool.Entry
		want string
	}
	all := make([]stored, bodies)
	for n := range all {
		size := 100 + 300*n
		if n%20 == 19 {
			size = big / 2
		}
		want := noise(size)
		all[n] = stored{f.owned(want), want}
	}
	errs := make([]error, readers+1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, s := range all {
			errs[readers] = errors.Join(errs[readers], errors.Join(f.sp.Apply(f.ctx, unit(spool.Remove, s.e))...))
		}
	})
	for n := range readers {
		wg.Go(func() {
			for _, s := range all {
				for errs[n] == nil {
					b, err := f.sp.Open(f.ctx, s.e.Body)
					if errors.Is(err, spool.ErrNotFound) {
						break
					}
					if err != nil {
						errs[n] = fmt.Errorf("opening a body beside its removal: %w", err)
						return
					}
					got, err := io.ReadAll(b)
					if err != nil || string(got) != s.want {
						errs[n] = fmt.Errorf("reading a body of %d beside its removal: got %d bytes, error %w", len(s.want), len(got), err)
					}
					b.Close()
				}
			}
		})
	}
	wg.Wait()
	f.ok(errors.Join(errs...), "Open and Remove at the same time")
}

func readersStaged(f *fixture) {
	for _, size := range []int{1000, 70_000, big} {
		want := noise(size)
		open := func(w spool.Writer) spool.Body {
			b, err := w.Open()
			f.ok(err, "Writer.Open")
			f.t.Cleanup(func() { b.Close() })
			return b
		}
		w := f.stage(want)
		staged := open(w)
		f.ok(w.Commit(f.ctx, f.entry(w.ID())), "Commit")
		committed := open(w)
		for _, e := range f.stored() {
			f.apply(unit(spool.Remove, e))
		}
		v := f.stage(want)
		aborted := open(v)
		f.ok(v.Abort(), "Abort")
		f.churn(size, size)
		for _, b := range []spool.Body{staged, committed, aborted} {
			f.reads(b, want)
		}
	}
}
