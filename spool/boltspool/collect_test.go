package boltspool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// work lets the keeper do all that it has to, a checkpoint included.
func work(t testing.TB, s *Spool) {
	t.Helper()
	var err error
	if !s.keeper.run(func() { err = errors.Join(s.keeper.checkpoint(), s.keeper.work()) }) || err != nil {
		t.Fatalf("the keeper: %v", err)
	}
}

// storeMany stores one message with some entries that share a body.
func storeMany(t testing.TB, s *Spool, size, n int) (entries []*spool.Entry) {
	t.Helper()
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(noise(size)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := testEntry(w.ID())
		e.Header = fmt.Appendf(nil, "Received: by test for <r%d@example.com>\r\nX-Long: %s\r\n", i, bytes.Repeat([]byte("x"), 500))
		e.Envelope.Recipients = []spool.Recipient{{Address: fmt.Sprintf("r%d@example.com", i)}}
		entries = append(entries, e)
	}
	if err := w.Commit(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	return entries
}

func removeAll(t testing.TB, s *Spool, entries []*spool.Entry) {
	t.Helper()
	var units []spool.Unit
	for _, e := range entries {
		units = append(units, spool.Unit{{Op: spool.Remove, Entry: e}})
	}
	if errs := s.Apply(t.Context(), units...); errs != nil {
		t.Fatal(errors.Join(errs...))
	}
}

// A sparseSpool is one of whose messages few are left, in many segments.
type sparseSpool struct {
	*Spool
	left []*spool.Entry
}

// newSparse leaves every tenth message, of several sizes and numbers of entries.
func newSparse(t *testing.T, opts *Options) *sparseSpool {
	t.Helper()
	opts.segmentSize, opts.manual = 64<<10, true
	s := &sparseSpool{Spool: newTest(t, opts)}
	var gone []*spool.Entry
	for i := range 150 {
		entries := storeMany(t, s.Spool, []int{100, 3000, 0, 12_000}[i%4], []int{1, 1, 30}[i%3])
		if i%10 == 3 {
			s.left = append(s.left, entries[:(len(entries)+1)/2]...)
			entries = entries[(len(entries)+1)/2:]
		}
		gone = append(gone, entries...)
	}
	removeAll(t, s.Spool, gone)
	return s
}

func (s *sparseSpool) segments() (n int) {
	for _, u := range s.log.Usage() {
		if u.Sealed {
			n++
		}
	}
	return n
}

// check reads all that is left, and changes it at the Rev at which it is owned.
func (s *sparseSpool) check(t *testing.T) {
	t.Helper()
	if err := checkIndex(s.Spool); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.left {
		var got *spool.Entry
		for found, err := range s.Scan(t.Context(), spool.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			if found.ID == e.ID {
				got = found
			}
		}
		if got == nil || !bytes.Equal(got.Header, e.Header) || got.Envelope.Recipients[0].Address != e.Envelope.Recipients[0].Address || got.Size != e.Size {
			t.Fatalf("entry %s: got %+v, want %+v", e.ID, got, e)
		}
		want := noise(int(e.Size) - len(e.Header))
		if b, err := readBody(t, s.Spool, e.Body); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("body %s: %d bytes, error %v, want %d", e.Body, len(b), err, len(want))
		}
	}
}

// TestCollect: segments of which hardly anything is needed are emptied, and what
// was in them is where it can be found, by its owner too, now and after a
// restart, however the process ends.
func TestCollect(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *Spool){
		"none":  nil,
		"close": func(t *testing.T, s *Spool) { s.Close() },
		"crash": func(t *testing.T, s *Spool) { abandon(s) },
	} {
		t.Run(name, func(t *testing.T) {
			opts := &Options{}
			s := newSparse(t, opts)
			before := s.segments()
			work(t, s.Spool)
			work(t, s.Spool) // what was emptied behind the first checkpoint
			if after := s.segments(); after > before/3 {
				t.Errorf("%d segments are left of %d", after, before)
			}
			if moved := s.Stats().Moved; moved == 0 {
				t.Error("nothing was moved")
			}
			s.check(t)
			if end != nil {
				end(t, s.Spool)
				s.Spool = openTest(t, s.dir, opts)
				s.check(t)
				ids := make([]spool.ID, len(s.left))
				for i, e := range s.left {
					ids[i] = e.ID
				}
				left, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: ids})
				if err != nil || len(left) != len(s.left) {
					t.Fatalf("claimed %d of %d, error %v", len(left), len(s.left), err)
				}
				s.left = left
			}
			for i, e := range s.left { // at the revisions from before the move, where it did not end
				next := e.Clone()
				next.Attempts++
				if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
					t.Fatalf("Update of what was moved: %v", errs)
				}
				if next.Rev <= e.Rev {
					t.Errorf("Rev went from %d to %d", e.Rev, next.Rev)
				}
				s.left[i] = next
			}
			s.check(t)
			removeAll(t, s.Spool, s.left)
			work(t, s.Spool)
			for _, u := range s.log.Usage() {
				if u.Live != 0 {
					t.Errorf("nothing is stored, and %d bytes of segment %d are needed", u.Live, u.Segment)
				}
			}
		})
	}
}

// TestCollectShared: entries that are moved together still have in common what
// they had.
func TestCollectShared(t *testing.T) {
	s := newSparse(t, &Options{})
	work(t, s.Spool)
	var long, short int
	for _, e := range s.left {
		_, off, err := entryFile(s.Spool, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		found, _ := s.mu.index.Find(e.ID)
		s.mu.Unlock()
		if off != found.Place.Offset() {
			t.Fatal("an entry is in two places")
		}
		if found.Length > 500 {
			long++
		} else {
			short++
		}
	}
	if short < 3*long {
		t.Errorf("%d records stand for themselves, %d are short since they share the rest; want three times as many", long, short)
	}
}

// TestCollectFarBase: entries that had much in common with one that is gone, and
// less with the first that is left, can be read after they were moved.
func TestCollectFarBase(t *testing.T) {
	s := newTest(t, &Options{segmentSize: 64 << 10, manual: true})
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	var entries []*spool.Entry
	for i := range 120 {
		e := testEntry(w.ID())
		if i != 1 {
			e.LastError = strings.Repeat("x", 700<<10)
		}
		entries = append(entries, e)
	}
	if err := w.Commit(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	removeAll(t, s, entries[:1])
	storeOne(t, s, noise(60_000)) // in the next segment
	work(t, s)
	if err := checkIndex(s); err != nil {
		t.Errorf("%.500v", err)
	}
	if st := s.Stats(); st.Moved == 0 || st.Moved > 10<<20 {
		t.Errorf("%d bytes were moved of 120 records that have 700 KiB in common", st.Moved)
	}
}

// TestCollectHuge: a segment full of one huge record is full.
func TestCollectHuge(t *testing.T) {
	s := newTest(t, &Options{SegmentSize: 2 << 20, manual: true})
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	e := testEntry(w.ID())
	e.Header = noise(6 << 20)
	if err := w.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		storeOne(t, s, noise(100))
		work(t, s)
	}
	if st := s.Stats(); st.Moved != 0 || st.Bytes < 6<<20 {
		t.Errorf("%d bytes were moved, and %d count as stored", st.Moved, st.Bytes)
	}
}

// TestCollectReleased: an entry that was moved while it was owned is known by
// another Rev to who owns it next.
func TestCollectReleased(t *testing.T) {
	s := newSparse(t, &Options{})
	work(t, s.Spool)
	e := s.left[0]
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Release, Entry: e}}); errs != nil {
		t.Fatal(errs)
	}
	got, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
	if err != nil || len(got) != 1 || got[0].Rev <= e.Rev {
		t.Fatalf("claimed %v, error %v, want it at a greater Rev than %d", got, err, e.Rev)
	}
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs == nil || !errors.Is(errs[0], spool.ErrFenced) {
		t.Errorf("Remove by the owner before: %v, want ErrFenced", errs)
	}
	removeAll(t, s.Spool, got)
}

// TestCollectDamage: what is damaged stays where it is, with its segment, and the
// rest moves.
func TestCollectDamage(t *testing.T) {
	s := newSparse(t, &Options{})
	e := s.left[len(s.left)-1]
	name, off, _, err := bodyFile(s.Spool, e.Body)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, name, off+3)
	if err := os.WriteFile(s.dir+"/"+markDamaged, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		work(t, s.Spool)
	}
	var corrupt *spool.CorruptError
	if _, err := readBody(t, s.Spool, e.Body); !errors.As(err, &corrupt) {
		t.Errorf("a damaged body: %v, want a *CorruptError", err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Errorf("the segment of a damaged body: %v", err)
	}
	s.left = slices.DeleteFunc(s.left, func(other *spool.Entry) bool { return other.Body == e.Body })
	s.check(t)
}

// TestCollectMeanwhile moves while clients change what is moved.
func TestCollectMeanwhile(t *testing.T) {
	s := newSparse(t, &Options{})
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		rest := slices.Clone(s.left)
		for n := 0; ; n++ {
			select {
			case <-stop:
				s.left = rest
				done <- nil
				return
			default:
			}
			i := n % len(rest)
			next := rest[i].Clone()
			next.Attempts++
			u := spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}
			if other := testEntry(next.Body); n%5 == 0 { // one more refers to the body for a moment
				if errs := s.Apply(context.Background(), spool.Unit{{Op: spool.Insert, Entry: other, Keep: true}}); errs != nil {
					done <- errs[0]
					return
				}
				u = append(u, spool.Change{Op: spool.Remove, Entry: other})
			}
			if errs := s.Apply(context.Background(), u); errs != nil {
				done <- errs[0]
				return
			}
			rest[i] = next
		}
	}()
	for range 20 {
		work(t, s.Spool)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.check(t)
	abandon(s.Spool)
	s.Spool = openTest(t, s.dir, &Options{segmentSize: 64 << 10})
	s.check(t)
}

// TestCollectRefused: where nothing can be allocated ahead, nothing is moved into
// the reserve. That ends by itself, and so does the rest of the keeper.
func TestCollectRefused(t *testing.T) {
	fsys := vfstest.NewFault(vfs.OS{})
	s := newSparse(t, &Options{fs: flatFS{fsys}})
	fsys.SetFree(1)
	awaitHealth(t, s.Spool, spool.ErrFull)
	var err error
	s.keeper.run(func() { err = errors.Join(s.keeper.checkpoint(), s.keeper.work()) })
	if !errors.Is(err, spool.ErrFull) || s.Stats().Moved == 0 {
		t.Errorf("moving into the reserve: %v, want ErrFull", err)
	}
	if err := s.failed(); err != nil {
		t.Errorf("the spool has failed: %v", err)
	}
	fsys.SetFree(0)
	awaitHealth(t, s.Spool, nil)
	work(t, s.Spool)
	s.check(t)
}

// TestSharedCostsOnce: what the entries of one message have in common is stored
// once, and so is its body.
func TestSharedCostsOnce(t *testing.T) {
	s := newTest(t, nil)
	before := s.Stats().Written
	storeMany(t, s, 100_000, 1)
	one := s.Stats().Written - before
	storeMany(t, s, 100_000, 1000)
	many := s.Stats().Written - before - one
	if per := (many - one) / 999; per > 300 {
		t.Errorf("a further recipient costs %d bytes, and the first %d", per, one)
	}
	if seglog.FrameSize(100_000) > one {
		t.Errorf("a body of 100,000 bytes was written as %d", one)
	}
}
