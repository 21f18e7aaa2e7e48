package spool_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// both checks that nothing of what there was is lost: each entry is in one
// spool, or in both.
func both(t *testing.T, dst, src spool.Spool, want map[spool.ID]copied) {
	t.Helper()
	got, _ := holds(t, dst)
	left, _ := holds(t, src)
	maps.Copy(got, left)
	sameEntries(t, got, want)
}

// Whatever goes wrong after some pages, a second Copy completes the first.
func TestCopyInterrupted(t *testing.T) {
	type spools struct{ dst, src *spool.Memory }
	tests := []struct {
		name   string
		breaks func(s *spools, cancel context.CancelFunc)
		mends  func(s *spools)
		err    error
		remove bool // it concerns src, from which is removed
	}{
		{"full", func(s *spools, _ context.CancelFunc) { s.dst.SetFull(true) }, func(s *spools) { s.dst.SetFull(false) }, spool.ErrFull, false},
		{"failed sync", func(s *spools, _ context.CancelFunc) { s.dst.FailSync() }, func(s *spools) { s.dst = s.dst.Reopen() }, spool.ErrFailed, false},
		{"failed sync, kept", func(s *spools, _ context.CancelFunc) { s.dst.FailSyncKept() }, func(s *spools) { s.dst = s.dst.Reopen() }, spool.ErrFailed, false},
		{"crash", func(s *spools, _ context.CancelFunc) { s.dst = s.dst.Crash() }, func(*spools) {}, spool.ErrClosed, false},
		{"lost session", func(s *spools, _ context.CancelFunc) { s.dst.LoseSession() }, func(s *spools) { s.dst = s.dst.Attach() }, spool.ErrFenced, false},
		{"cancelled", func(_ *spools, cancel context.CancelFunc) { cancel() }, func(*spools) {}, context.Canceled, false},
		{"crash of the source", func(s *spools, _ context.CancelFunc) { s.src = s.src.Crash() }, func(*spools) {}, spool.ErrClosed, false},
		{"failed sync of the source", func(s *spools, _ context.CancelFunc) { s.src.FailSync() }, func(s *spools) { s.src = s.src.Reopen() }, spool.ErrFailed, true},
		{"failed sync of the source, kept", func(s *spools, _ context.CancelFunc) { s.src.FailSyncKept() }, func(s *spools) { s.src = s.src.Reopen() }, spool.ErrFailed, true},
		{"lost session of the source", func(s *spools, _ context.CancelFunc) { s.src.LoseSession() }, func(s *spools) { s.src = s.src.Attach() }, spool.ErrFenced, true},
	}
	for _, test := range tests {
		for _, remove := range []bool{false, true} {
			if test.remove && !remove {
				continue
			}
			for _, after := range []int{0, 1, 3} {
				name := map[bool]string{false: "copy", true: "move"}[remove]
				t.Run(test.name+"/"+name, func(t *testing.T) {
					s := &spools{spool.NewMemory(), spool.NewMemory()}
					fillCopy(t, s.src)
					want, bodies := holds(t, s.src)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					pages := 0
					opts := &spool.CopyOptions{Remove: remove, Progress: func(spool.CopyResult) {
						if pages == after {
							test.breaks(s, cancel)
						}
						pages++
					}}
					if after == 0 {
						pages = 1
						test.breaks(s, cancel)
					}
					_, err := spool.Copy(ctx, s.dst, s.src, opts)
					// After the last of four pages nothing is left to go wrong, and after a
					// crash before the first the spool is another one.
					if after < 3 && (after > 0 || test.err != spool.ErrClosed) && !errors.Is(err, test.err) {
						t.Errorf("after %d pages: got error %v, want %v", after, err, test.err)
					}
					test.mends(s)
					both(t, s.dst, s.src, want)
					if remove {
						canBeClaimed(t, s.src)
					}
					opts.Progress = nil
					if _, err := spool.Copy(t.Context(), s.dst, s.src, opts); err != nil {
						t.Fatalf("the second Copy: %v", err)
					}
					got, gotBodies := holds(t, s.dst)
					sameEntries(t, got, want)
					if !remove && gotBodies != bodies {
						t.Errorf("the copy has %d bodies, want %d", gotBodies, bodies)
					}
					if left, _ := holds(t, s.src); remove && len(left) > 0 {
						t.Errorf("%d entries are left", len(left))
					}
				})
			}
		}
	}
}

// What is durable in dst is removed from src even if the context ends.
func TestCopyCancelledMove(t *testing.T) {
	src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory()}
	store(src, "a")
	store(src, "b")
	src = src.Reopen()
	ctx, cancel := context.WithCancel(t.Context())
	dst.apply = func(units []spool.Unit) ([]error, bool) {
		errs := dst.Memory.Apply(t.Context(), units...)
		cancel()
		return errs, true
	}
	res, err := spool.Copy(ctx, dst, src, &spool.CopyOptions{Remove: true})
	left, _ := holds(t, src)
	got, _ := holds(t, dst.Memory)
	if len(left) != 0 || len(got) != 2 || res.Removed != 2 {
		t.Errorf("got %+v, %v: %d entries in the source and %d in the copy, want 0 and 2", res, err, len(left), len(got))
	}
}

// canBeClaimed checks that nobody owns anything, and leaves it so.
func canBeClaimed(t *testing.T, m *spool.Memory) {
	t.Helper()
	all, _ := holds(t, m)
	other := m.Attach()
	defer other.Close()
	got, _, err := other.Claim(t.Context(), spool.ClaimRequest{IDs: slices.Collect(maps.Keys(all))})
	if err != nil || len(got) != len(all) {
		t.Errorf("%d of %d entries that were left can be claimed, error %v", len(got), len(all), err)
	}
}

func TestCopyDamage(t *testing.T) {
	for _, remove := range []bool{false, true} {
		src, dst := spool.NewMemory(), spool.NewMemory()
		fillCopy(t, src)
		want, _ := holds(t, src)
		var all []*spool.Entry
		for e := range src.Scan(t.Context(), spool.Query{}) {
			all = append(all, e)
		}
		badEntry, badBody := all[5], all[7]
		src.Damage(badEntry.ID, "entry")
		src.Damage(badBody.Body, "body")
		var left []spool.ID
		for _, e := range all {
			if e.Body == badBody.Body {
				left = append(left, e.ID)
			}
		}
		res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: remove})
		corrupt, ok := errors.AsType[*spool.CorruptError](err)
		if !ok || corrupt.ID != badEntry.ID && corrupt.ID != badBody.Body {
			t.Errorf("Copy of what is damaged: got error %v, want one that names it", err)
		}
		var named []spool.ID
		for _, d := range res.Damaged {
			named = append(named, d.ID)
			if !strings.Contains(err.Error(), d.Error()) {
				t.Errorf("the error does not tell of %v: %v", d, err)
			}
		}
		if len(named) != 2 || !slices.Contains(named, badEntry.ID) || !slices.Contains(named, badBody.Body) {
			t.Errorf("Damaged: got %v, want %s and %s", res.Damaged, badEntry.ID, badBody.Body)
		}
		if len(left) < 2 || !slices.Equal(res.Left, left) {
			t.Errorf("Left: got %v, want %v, several that share a body", res.Left, left)
		}
		delete(want, badEntry.ID)
		for _, id := range left {
			delete(want, id)
		}
		got, _ := holds(t, dst)
		sameEntries(t, got, want)
		claimed, _, _ := src.Claim(t.Context(), spool.ClaimRequest{IDs: left})
		if len(claimed) != len(left) {
			t.Errorf("%d of %d entries whose body is damaged can be claimed in the source", len(claimed), len(left))
		}
	}
}

// Damage that only Claim finds is damage too.
func TestCopyDamagedClaim(t *testing.T) {
	src, dst := &hooked{Memory: spool.NewMemory()}, spool.NewMemory()
	a, b, c := store(src.Memory, "a"), store(src.Memory, "b"), store(src.Memory, "c")
	src.Memory = src.Memory.Reopen() // nobody owns them any more
	src.claim = func() error {
		src.Memory.Damage(a.ID, "entry")
		src.Memory.Damage(b.ID, "entry")
		return nil
	}
	res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if _, ok := errors.AsType[*spool.CorruptError](err); !ok || len(res.Damaged) != 2 || res.Removed != 1 || res.Owned != 0 {
		t.Errorf("got %+v, %v, want 2 damaged and 1 removed", res, err)
	}
	if got, _ := holds(t, dst); len(got) != 1 || got[c.ID].text != "c" {
		t.Errorf("the copy holds %v, want %s", got, c.ID)
	}

	broken := errors.New("broken")
	src.claim = func() error { return broken }
	store(src.Memory, "d")
	if _, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true}); !errors.Is(err, broken) {
		t.Errorf("Copy when Claim fails: got %v, want its error", err)
	}
}

// What is damaged in dst is not there, though its ID is.
func TestCopyDamagedCopy(t *testing.T) {
	src, dst := spool.NewMemory(), spool.NewMemory()
	e, other := store(src, "Hello."), store(src, "Other.")
	src = src.Reopen()
	if _, err := spool.Copy(t.Context(), dst, src, nil); err != nil {
		t.Fatal(err)
	}
	dst.Damage(e.ID, "entry")
	res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if _, ok := errors.AsType[*spool.CorruptError](err); !ok || !slices.Equal(res.Left, []spool.ID{e.ID}) || res.Removed != 1 {
		t.Errorf("got %+v, %v, want %s left and %s removed", res, err, e.ID, other.ID)
	}
	if left, _ := holds(t, src); len(left) != 1 || left[e.ID].text != "Hello." {
		t.Errorf("the source has %v, want %s", left, e.ID)
	}
}

// Nor is what is there without a body that can be read.
func TestCopyDamagedBody(t *testing.T) {
	src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory()}
	e, other := store(src, "Hello."), store(src, "Other.")
	src = src.Reopen()
	if _, err := spool.Copy(t.Context(), dst, src, nil); err != nil {
		t.Fatal(err)
	}
	for there := range dst.Memory.Scan(t.Context(), spool.Query{}) {
		if there.ID == e.ID {
			dst.Memory.Damage(there.Body, "body")
		}
	}
	res, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true})
	if _, ok := errors.AsType[*spool.CorruptError](err); !ok || !slices.Equal(res.Left, []spool.ID{e.ID}) || res.Removed != 1 {
		t.Errorf("got %+v, %v, want %s left and %s removed", res, err, e.ID, other.ID)
	}
	if left, _ := holds(t, src); len(left) != 1 || left[e.ID].text != "Hello." {
		t.Errorf("the source has %v, want %s", left, e.ID)
	}
}

func TestCopyTooLarge(t *testing.T) {
	src, dst := spool.NewMemory(), &hooked{Memory: spool.NewMemory(), limit: 100_000}
	entries, _ := fillCopy(t, src)
	res, err := spool.Copy(t.Context(), dst, src, nil)
	if !errors.Is(err, spool.ErrTooLarge) || len(res.Left) == 0 || len(res.Left)+int(res.Entries) != entries || res.Damaged != nil {
		t.Errorf("got %d copied and %d left of %d, %v, error %v; want the bodies of 200,000 bytes left", res.Entries, len(res.Left), entries, res.Damaged, err)
	}
	want, _ := holds(t, src)
	for _, id := range res.Left {
		if len(want[id].text) != 200_000 {
			t.Errorf("an entry with a body of %d bytes was left", len(want[id].text))
		}
		delete(want, id)
	}
	got, _ := holds(t, dst.Memory)
	sameEntries(t, got, want)
	if dst.most > 64<<10 || dst.most == 0 {
		t.Errorf("a Write of %d bytes, want at most 64 KiB: bodies are long", dst.most)
	}
	if dst.staged != 0 {
		t.Errorf("%d Writers were left", dst.staged)
	}
}

// busy returns a hook that answers ErrBusy n times before each success.
func busy(n int) func() error {
	left := n
	return func() error {
		if left--; left >= 0 {
			return spool.ErrBusy
		}
		left = n
		return nil
	}
}

func TestCopyBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := &hooked{Memory: spool.NewMemory()}, &hooked{Memory: spool.NewMemory()}
		fillCopy(t, src.Memory)
		want, _ := holds(t, src.Memory)
		for _, h := range []*hooked{src, dst} {
			open, apply := busy(2), busy(2)
			h.create, h.claim, h.scan = busy(2), busy(2), busy(2)
			h.open = func(spool.ID) error { return open() }
			h.apply = func(units []spool.Unit) ([]error, bool) {
				if err := apply(); err != nil && len(units) > 1 { // one of them is done
					errs := slices.Repeat([]error{err}, len(units))
					if done := h.Memory.Apply(t.Context(), units[0]); done != nil {
						t.Error(done)
					}
					errs[0] = nil
					return errs, true
				}
				return nil, false
			}
		}
		start := time.Now()
		if _, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: true}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took == 0 || took > time.Minute {
			t.Errorf("it took %v", took)
		}
		got, _ := holds(t, dst.Memory)
		sameEntries(t, got, want)

		// What it has copied it does not look at again.
		src, dst = &hooked{Memory: src.Memory}, &hooked{Memory: spool.NewMemory()}
		entries, _ := fillCopy(t, src.Memory)
		src.scan, src.after = busy(1), 100
		if res, err := spool.Copy(t.Context(), dst, src, nil); err != nil || res.Entries != int64(entries) || res.Skipped != 0 {
			t.Errorf("got %+v, %v, want %d entries", res, err, entries)
		}

		// It waits for ever, but not longer than its context.
		src, dst = &hooked{Memory: spool.NewMemory()}, &hooked{Memory: spool.NewMemory()}
		store(src.Memory, "Hello.")
		tries := 0
		dst.create = func() error { tries++; return spool.ErrBusy }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := spool.Copy(ctx, dst, src, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, spool.ErrBusy) {
			t.Errorf("got %v, want that it was busy until the deadline", err)
		}
		if tries < 3600 || tries > 3700 {
			t.Errorf("it tried %d times in an hour, want once a second after the first few", tries)
		}
	})
}

// After ErrAmbiguous either is true, and nothing is stored twice.
func TestCopyAmbiguous(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, remove := range []bool{false, true} {
			src, dst := &hooked{Memory: spool.NewMemory()}, &hooked{Memory: spool.NewMemory()}
			fillCopy(t, src.Memory)
			want, _ := holds(t, src.Memory)
			for _, h := range []*hooked{src, dst} {
				n := 0
				h.apply = func(units []spool.Unit) ([]error, bool) {
					if n++; n%2 == 0 {
						return nil, false
					}
					if done {
						h.Memory.Apply(t.Context(), units...)
					}
					return slices.Repeat([]error{spool.ErrAmbiguous}, len(units)), true
				}
			}
			if _, err := spool.Copy(t.Context(), dst, src, &spool.CopyOptions{Remove: remove}); err != nil {
				t.Fatal(err)
			}
			got, _ := holds(t, dst.Memory)
			sameEntries(t, got, want)
			if dst.staged != 0 {
				t.Errorf("%d Writers were left", dst.staged)
			}
			if left, _ := holds(t, src.Memory); remove && len(left) > 0 {
				t.Errorf("%d entries are left", len(left))
			}
		}
	}
}
