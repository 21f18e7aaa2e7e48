package spool_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// While Copy runs, dst delivers what came and somebody else inserts what comes.
func TestCopyBesideWorkers(t *testing.T) {
	src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory()}
	fillCopy(t, src)
	want, _ := holds(t, src)
	delivered := make(map[spool.ID]copied)
	n := 0
	dst.apply = func(units []spool.Unit) ([]error, bool) {
		if n++; n%3 == 0 { // another copies one of them at the same time
			c := units[0][0]
			w, _ := dst.Memory.Create(t.Context(), 0)
			w.Write([]byte(want[c.Entry.ID].text))
			e := c.Entry.Clone()
			e.Body = w.ID()
			dst.Memory.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: e, Stage: w}})
		}
		return nil, false
	}
	deliver := func(spool.CopyResult) {
		now, _ := holds(t, dst.Memory)
		for id, c := range now {
			if len(delivered)%4 == 3 && len(now) < 40 {
				continue
			}
			delivered[id] = c
			entries, _, _ := dst.Memory.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{id}})
			dst.Memory.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: entries[0]}})
		}
	}
	if _, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Progress: deliver}); err != nil {
		t.Fatal(err)
	}
	deliver(spool.CopyResult{})
	rest, _ := holds(t, dst.Memory)
	maps.Copy(delivered, rest)
	sameEntries(t, delivered, want)
}

// What changes in src meanwhile may or may not be seen, and is no damage.
func TestCopyChangingSource(t *testing.T) {
	src, dst := &hooked{Memory: spool.NewMemory()}, spool.NewMemory()
	gone, changed, kept := store(src.Memory, "gone"), store(src.Memory, "changed"), store(src.Memory, "kept")
	missing := store(src.Memory, "missing")
	first := true
	src.open = func(id spool.ID) error {
		if first {
			first = false
			src.Memory.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: gone}})
			w, _ := src.Memory.Create(t.Context(), 0)
			w.Write([]byte("another"))
			next := changed.Clone()
			next.Body = w.ID()
			if errs := src.Memory.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Stage: w}}); errs != nil {
				t.Error(errs)
			}
		}
		if id == missing.Body { // which no whole spool does
			return spool.ErrNotFound
		}
		return nil
	}
	res, err := spool.Copy(t.Context(), dst, src, nil)
	if corrupt, ok := errors.AsType[*spool.CorruptError](err); !ok || corrupt.ID != missing.Body || !slices.Equal(res.Left, []spool.ID{missing.ID}) {
		t.Errorf("got %+v, %v, want the body %s missing", res, err, missing.Body)
	}
	got, _ := holds(t, dst)
	if len(got) != 2 || got[changed.ID].text != "another" || got[kept.ID].text != "kept" {
		t.Errorf("the copy holds %v, want the changed and the kept", got)
	}
}

// An error that one unit of several has leaves the others done: with Remove they
// are not in both spools.
func TestCopyPartly(t *testing.T) {
	src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory()}
	entries, _ := fillCopy(t, src)
	want, _ := holds(t, src)
	dst.apply = func(units []spool.Unit) ([]error, bool) {
		if len(units) < 3 {
			return nil, false
		}
		errs := make([]error, len(units))
		for i, u := range units {
			if i == 1 {
				errs[i] = spool.ErrFull
			} else if one := dst.Memory.Apply(t.Context(), u); one != nil {
				errs[i] = one[0]
			}
		}
		return errs, true
	}
	res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if !errors.Is(err, spool.ErrFull) || res.Entries == 0 || res.Removed != res.Entries || dst.staged != 0 {
		t.Errorf("got %+v, %v, %d Writers left, want some moved, and ErrFull", res, err, dst.staged)
	}
	left, _ := holds(t, src)
	got, _ := holds(t, dst.Memory)
	if len(left)+len(got) != entries {
		t.Errorf("%d entries are left and %d were moved, want %d together", len(left), len(got), entries)
	}
	both(t, dst.Memory, src, want)
	canBeClaimed(t, src)
}

// An error of src that is no damage ends it, after what was read before.
func TestCopyUnreadable(t *testing.T) {
	src, dst := &hooked{Memory: spool.NewMemory()}, &hooked{Memory: spool.NewMemory()}
	a, b := store(src.Memory, "a"), store(src.Memory, "b")
	store(src.Memory, "c")
	broken := errors.New("broken")
	src.open = func(id spool.ID) error {
		if id == b.Body {
			return broken
		}
		return nil
	}
	res, err := spool.Copy(t.Context(), dst, src, nil)
	got, _ := holds(t, dst.Memory)
	if !errors.Is(err, broken) || res.Entries != 1 || len(got) != 1 || got[a.ID].text != "a" || dst.staged != 0 {
		t.Errorf("got %+v, %v, %d Writers left, want the entry before the error", res, err, dst.staged)
	}
}
