package spooltest

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/deferredqueue/deferredqueue/spool"
)

var failTests = []conformanceTest{
	{
		name:  "Commit",
		needs: []string{"Fail"},
		rule:  "a failed sync answers ErrFailed, or ErrAmbiguous, and never nil; from then on everything is ErrFailed",
		run: func(f *fixture) {
			e := f.owned("before")
			w, v := f.stage("meanwhile"), f.stage("afterwards")
			f.quiet()
			f.h.Fail(f.t, f.sp)
			f.is(w.Commit(f.ctx, f.entry(w.ID())), "Commit when the sync fails", spool.ErrFailed, spool.ErrAmbiguous)
			f.hinted("Health changed")
			f.failed(e, v)
		},
	},
	{
		name:  "Apply",
		needs: []string{"Fail"},
		rule:  "a failed sync answers ErrFailed, or ErrAmbiguous, and never nil; from then on everything is ErrFailed",
		run: func(f *fixture) {
			e, other := f.owned("before"), f.owned("other")
			v := f.stage("afterwards")
			f.h.Fail(f.t, f.sp)
			next := e.Clone()
			errs := f.sp.Apply(f.ctx, unit(spool.Update, next), unit(spool.Insert, f.entry(e.Body)))
			if len(errs) != 2 {
				f.fail("Apply of two units when the sync fails: got errs %v, want one error per unit", errs)
			}
			for _, err := range errs {
				f.is(err, "Apply when the sync fails", spool.ErrFailed, spool.ErrAmbiguous)
			}
			if next.Rev != e.Rev {
				f.fail("Update when the sync fails: Rev was set to %d; only a success sets it", next.Rev)
			}
			f.failed(other, v)
		},
	},
	{
		name:  "Group",
		needs: []string{"Fail", "Reopen"},
		rule:  "a failed sync answers ErrFailed, or ErrAmbiguous, to all whose change it was for, and to all that come later",
		run: func(f *fixture) {
			before := f.owned("before")
			f.h.Fail(f.t, f.sp)
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for n := range errs {
				wg.Go(func() { _, errs[n] = f.commitOwned("meanwhile") })
			}
			wg.Wait()
			for _, err := range errs {
				f.is(err, "one of eight that commit when the sync fails", spool.ErrFailed, spool.ErrAmbiguous)
			}
			f.reopen()
			f.has(before.Body, "before")
			for _, e := range f.stored() {
				f.has(e.Body, map[bool]string{true: "before", false: "meanwhile"}[e.ID == before.ID])
			}
		},
	},
	{
		name:  "Reopen",
		needs: []string{"Fail", "Reopen"},
		rule:  "ErrFailed is final until the spool is opened anew; then what was answered nil is there, and of what was not, all or nothing",
		run: func(f *fixture) {
			e, gone := f.owned("before"), f.owned("removed before")
			f.apply(unit(spool.Remove, gone))
			w := f.stage("meanwhile")
			a, b := f.entry(w.ID()), f.entry(w.ID())
			f.h.Fail(f.t, f.sp)
			f.is(w.Commit(f.ctx, a, b), "Commit when the sync fails", spool.ErrFailed, spool.ErrAmbiguous)
			f.reopen()

			f.ok(f.sp.Health(), "Health")
			f.has(e.Body, "before")
			hasA, hasB := f.find(a.ID) != nil, f.find(b.ID) != nil
			switch {
			case f.find(e.ID) == nil || f.find(gone.ID) != nil:
				f.fail("after a failed sync and Reopen: got %v, want %s and not %s", ids(f.stored()), e.ID, gone.ID)
			case hasA != hasB:
				f.fail("after a failed sync and Reopen: half of a unit is there")
			case hasA:
				f.has(w.ID(), "meanwhile")
			default:
				f.lacks(w.ID(), "of a unit that is not there")
			}
			f.apply(unit(spool.Remove, f.one(e.ID)))
			f.owned("it goes on")
		},
	},
}

// failed checks that a spool that failed says so to everything.
func (f *fixture) failed(e *spool.Entry, staged spool.Writer) {
	f.t.Helper()
	for range 2 { // a second try proves nothing, and must not succeed
		f.is(f.sp.Health(), "Health of a failed spool", spool.ErrFailed)
		_, err := f.sp.Create(f.ctx, 0)
		f.is(err, "Create on a failed spool", spool.ErrFailed)
		f.is(staged.Commit(f.ctx, f.entry(staged.ID())), "Commit on a failed spool", spool.ErrFailed)
		f.is(f.try(unit(spool.Update, e.Clone())), "Update on a failed spool", spool.ErrFailed)
		f.is(f.try(unit(spool.Remove, e.Clone())), "Remove on a failed spool", spool.ErrFailed)
		entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 10})
		f.is(err, "Claim on a failed spool", spool.ErrFailed)
		f.same("Claim with an error", entries, nil)
	}
}

var damageTests = []conformanceTest{
	{
		name:  "Entry",
		needs: []string{"Damage", "Reopen"},
		rule:  "a damaged entry is set aside and reported as *CorruptError; it ends neither Scan nor Claim",
		run:   damagedEntry,
	},
	{
		name:  "Body",
		needs: []string{"Damage", "Reopen"},
		rule:  "a damaged body answers *CorruptError from Open or Read, never wrong bytes; others are not concerned",
		run: func(f *fixture) {
			for _, size := range []int{100, 100_000, big} {
				good, bad := noise(size), noise(size)
				a, b := f.owned(good), f.owned(bad)
				f.damage(b.Body, "body")
				f.has(a.Body, good)
				f.corruptBody(b.Body, bad)
				if f.find(b.ID) == nil {
					f.fail("the entry of a damaged body is gone; damage deletes nothing")
				}
			}
		},
	},
}

// damage closes the spool, damages its store and opens it anew.
func (f *fixture) damage(id spool.ID, part string) {
	f.t.Helper()
	f.ok(f.sp.Close(), "Close")
	f.h.Damage(f.t, f.sp, id, part)
	f.sp = f.h.Reopen(f.t, f.sp)
}

func damagedEntry(f *fixture) {
	a, bad, c := f.free("a"), f.free("bad"), f.free("c")
	f.damage(bad.ID, "entry")
	for range 2 {
		var got []*spool.Entry
		reported := 0
		for e, err := range f.sp.Scan(f.ctx, spool.Query{}) {
			if err != nil {
				f.corrupt("Scan", err, bad.ID, "entry")
				reported++
				continue
			}
			got = append(got, e)
		}
		f.same("Scan beside a damaged entry", got, byID(a, c))
		if reported != 1 {
			f.fail("Scan reported the damaged entry %d times, want once", reported)
		}
	}
	// Where the damage is found only when the entry's turn comes, and where it
	// was found at opening, the first Claim reports it.
	entries, _, err := f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 10})
	f.corrupt("Claim", err, bad.ID, "entry")
	f.same("Claim beside a damaged entry", byID(entries...), byID(a, c))
	for range 2 {
		f.claims("Claim after a damaged entry was set aside", spool.ClaimRequest{})
	}
	for _, e := range entries {
		f.apply(unit(spool.Remove, e))
	}
	f.reopen()
	_, _, err = f.sp.Claim(f.ctx, spool.ClaimRequest{Due: f.now, Limit: 10})
	f.corrupt("Claim after the spool was opened anew", err, bad.ID, "entry")
}

// corrupt checks that err reports this damage.
func (f *fixture) corrupt(doing string, err error, id spool.ID, part string) {
	f.t.Helper()
	var corrupt *spool.CorruptError
	if !errors.As(err, &corrupt) {
		f.fail("%s: got error %v, want a *CorruptError", doing, err)
	}
	if corrupt.ID != id || corrupt.Part != part || corrupt.Err == nil {
		f.fail("%s: got %+v, want ID %s, Part %q and a cause", doing, corrupt, id, part)
	}
}

// corruptBody reads a damaged body in every way.
func (f *fixture) corruptBody(id spool.ID, right string) {
	f.t.Helper()
	b, err := f.sp.Open(f.ctx, id)
	if err != nil {
		f.corrupt("Open of a damaged body", err, id, "body")
		return
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	f.corrupt("reading a damaged body", err, id, "body")
	if !strings.HasPrefix(right, string(got)) {
		f.fail("a damaged body gave %d bytes, some of them wrong, before its error", len(got))
	}
	buf := make([]byte, len(right))
	n, err := b.ReadAt(buf, 0)
	f.corrupt("ReadAt of a damaged body", err, id, "body")
	if string(buf[:n]) != right[:n] {
		f.fail("a damaged body gave %d bytes by ReadAt, some of them wrong, before its error", n)
	}
}
