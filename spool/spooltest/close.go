package spooltest

import (
	"errors"
	"io"

	"github.com/deferredqueue/deferredqueue/spool"
)

var closeTests = []conformanceTest{
	{
		name: "ErrClosed",
		rule: "a method that is called after Close answers ErrClosed, a second Close as well",
		run:  afterClose,
	},
	{
		name: "OpenBody",
		rule: "bodies that are open stay readable until they are closed, or answer ErrClosed",
		run: func(f *fixture) {
			want := noise(100_000)
			e := f.owned(want)
			b, err := f.sp.Open(f.ctx, e.Body)
			f.ok(err, "Open")
			defer b.Close()
			f.ok(f.sp.Close(), "Close")
			got, err := io.ReadAll(b)
			if err != nil {
				f.is(err, "Read after Close", spool.ErrClosed)
			} else if string(got) != want {
				f.fail("a body read after Close differs: got %d bytes, want %d", len(got), len(want))
			}
		},
	},
	{
		name: "Health",
		rule: "Health is nil as long as nothing is wrong",
		run: func(f *fixture) {
			f.ok(f.sp.Health(), "Health")
			f.apply(unit(spool.Remove, f.owned("a body")))
			f.ok(f.sp.Health(), "Health")
		},
	},
}

func afterClose(f *fixture) {
	e, due := f.owned("a body"), f.free("another")
	w := f.stage("staged")
	f.ok(f.sp.Close(), "Close")

	f.is(f.sp.Close(), "second Close", spool.ErrClosed)
	f.is(f.sp.Health(), "Health", spool.ErrClosed)
	f.is(w.Commit(f.ctx, f.entry(w.ID())), "Commit", spool.ErrClosed)
	w.Abort()
	_, err := f.sp.Create(f.ctx, 0)
	f.is(err, "Create", spool.ErrClosed)
	_, err = f.sp.Open(f.ctx, e.Body)
	f.is(err, "Open", spool.ErrClosed)
	entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 10})
	f.is(err, "Claim", spool.ErrClosed)
	f.same("Claim with an error", entries, nil)
	_, _, err = f.sp.Claim(f.ctx, spool.ClaimRequest{IDs: []spool.ID{due.ID}})
	f.is(err, "Claim by IDs", spool.ErrClosed)
	errs := f.sp.Apply(f.ctx, unit(spool.Remove, e), unit(spool.Release, e))
	if len(errs) != 2 {
		f.fail("Apply of two units: got errs %v, want one error per unit", errs)
	}
	f.is(errors.Join(errs[0]), "Apply", spool.ErrClosed)
	f.is(errors.Join(errs[1]), "Apply", spool.ErrClosed)
	n := 0
	for _, err := range f.sp.Scan(f.ctx, spool.Query{}) {
		n++
		f.is(err, "Scan", spool.ErrClosed)
	}
	for _, err := range f.sp.Queues(f.ctx) {
		n++
		f.is(err, "Queues", spool.ErrClosed)
	}
	if n != 2 {
		f.fail("Scan and Queues: yielded %d times, want one ErrClosed each, which ends them", n)
	}
	f.quiet()
	select {
	case _, open := <-f.sp.Changed():
		if !open {
			f.fail("Changed was closed; it never is")
		}
	default:
	}
	if s, ok := f.sp.(spool.Starter); ok {
		s.Started(due.ID) // nothing to answer, and nothing to panic about
		s.Ended(due.ID)
	}
}
