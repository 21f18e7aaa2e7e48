package boltspool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
)

// TestVerifyClean: whatever a spool has gone through, nothing in it is damaged, and
// everything is counted, each body once.
func TestVerifyClean(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newTale(t, seed)
			l.run(300)
			if seed%2 == 0 {
				abandon(l.s)
			} else {
				l.s.Close()
			}
			before := snapshot(t, l.s.dir)
			got, err := Verify(t.Context(), l.s.dir, &l.opts)
			if err != nil || len(got.Damaged) > 0 || got.Healed > 0 {
				t.Errorf("Verify: got %v, %v, %v, want no damage", got, got.Damaged, err)
			}
			bodies, bytes := map[spool.ID]bool{}, int64(0)
			for _, e := range l.live {
				if !bodies[e.Body] {
					bodies[e.Body] = true
					bytes += int64(len(l.bodies[e.Body]))
				}
			}
			if got.Entries != len(l.live) || got.Bodies != len(bodies) || got.Bytes != bytes {
				t.Errorf("Verify: got %v, want %d entries, %d bodies of %d bytes", got, len(l.live), len(bodies), bytes)
			}
			if diff := before.diff(snapshot(t, l.s.dir)); diff != "" {
				t.Errorf("Verify changed %s", diff)
			}
		})
	}
}

// A sample is a spool with one of everything, which is damaged for a test.
type sample struct {
	t             *testing.T
	dir           string
	small         *spool.Entry
	shared        [2]*spool.Entry
	updated       *spool.Entry
	big           *spool.Entry
	first, second int64 // where the groups of small and of shared begin
	segment       string
	bigFile       string
	place         map[spool.ID]int64 // of records and of bodies in the segment
}

const sampleEntries, sampleBodies = 5, 4

func newSample(t *testing.T) *sample {
	t.Helper()
	s := openTest(t, fastDir(t), nil)
	sm := &sample{t: t, dir: s.dir, place: map[spool.ID]int64{}}
	ended := storeOne(t, s, noise(50))
	sm.small = storeOne(t, s, noise(1000))
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(noise(3000))
	sm.shared = [2]*spool.Entry{testEntry(w.ID()), testEntry(w.ID())}
	if err := w.Commit(t.Context(), sm.shared[:]...); err != nil {
		t.Fatal(err)
	}
	sm.updated = storeOne(t, s, noise(70))
	updateOne(t, s, sm.updated)
	sm.big = storeOne(t, s, noise(maxSegmentBody+blockSize))
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: ended}}); errs != nil {
		t.Fatal(errs)
	}
	for _, e := range []*spool.Entry{sm.small, sm.shared[0], sm.shared[1], sm.updated, sm.big} {
		var off, body int64
		if sm.segment, off, err = entryFile(s, e.ID); err != nil {
			t.Fatal(err)
		}
		name, body, _, err := bodyFile(s, e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if e == sm.big {
			sm.bigFile = name
		}
		sm.place[e.ID], sm.place[e.Body] = off, body
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sm.first, sm.second = groupBefore(t, sm.segment, sm.place[sm.small.ID]), groupBefore(t, sm.segment, sm.place[sm.shared[0].ID])
	return sm
}

// remove returns where the group with the Remove begins, the last of all.
func (sm *sample) remove() int64 {
	sm.t.Helper()
	return groupBefore(sm.t, sm.segment, 1<<20)
}

// TestVerifyDamage finds each kind of damage, and counts it once.
func TestVerifyDamage(t *testing.T) {
	type want struct {
		ids             []spool.ID
		entries, bodies int // that are not readable
		healed          int
	}
	var none spool.ID
	for name, damage := range map[string]func(sm *sample) want{
		"record": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.small.ID]+25)
			return want{[]spool.ID{sm.small.ID}, 1, 1, 0}
		},
		"record that was updated": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.updated.ID]+25)
			return want{[]spool.ID{sm.updated.ID}, 1, 1, 0}
		},
		"record of one of two with a body": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.shared[1].ID]+25)
			return want{[]spool.ID{sm.shared[1].ID}, 1, 0, 0}
		},
		"body": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.small.Body]+999)
			return want{[]spool.ID{sm.small.Body}, 0, 1, 0}
		},
		"body of two": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.shared[0].Body])
			return want{[]spool.ID{sm.shared[0].Body}, 0, 1, 0}
		},
		"header of a body": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.small.Body]-frameHeader+20)
			return want{[]spool.ID{sm.small.Body}, 0, 1, 0}
		},
		"first block of a file": func(sm *sample) want {
			flip(sm.t, sm.bigFile, 5)
			return want{[]spool.ID{sm.big.Body}, 0, 1, 0}
		},
		"last block of a file": func(sm *sample) want {
			flip(sm.t, sm.bigFile, maxSegmentBody+blockSize-1)
			return want{[]spool.ID{sm.big.Body}, 0, 1, 0}
		},
		"table of a file": func(sm *sample) want {
			flip(sm.t, sm.bigFile, maxSegmentBody+blockSize+3)
			return want{[]spool.ID{sm.big.Body}, 0, 1, 0}
		},
		"end of a file": func(sm *sample) want {
			if err := os.Truncate(sm.bigFile, maxSegmentBody); err != nil {
				sm.t.Fatal(err)
			}
			return want{[]spool.ID{sm.big.Body}, 0, 1, 0}
		},
		"file is gone": func(sm *sample) want {
			os.Remove(sm.bigFile)
			return want{[]spool.ID{sm.big.Body}, 0, 1, 0}
		},
		"index record": func(sm *sample) want {
			spoilRecord(sm.t, sm.dir, sm.small.ID, spoils["place"])
			return want{healed: 1}
		},
		"two index records": func(sm *sample) want {
			spoilRecord(sm.t, sm.dir, sm.small.ID, spoils["place"])
			spoilRecord(sm.t, sm.dir, sm.big.ID, spoils["end of the key"])
			return want{healed: 2}
		},
		"index record and record": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.place[sm.small.ID]+25)
			spoilRecord(sm.t, sm.dir, sm.small.ID, spoils["place"])
			return want{[]spool.ID{sm.small.ID}, 1, 1, 0}
		},
		"header of a group": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.first+20)
			return want{ids: []spool.ID{none}}
		},
		"header of the last group": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.remove())
			return want{ids: []spool.ID{none}}
		},
		"two groups": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.first+20)
			flip(sm.t, sm.segment, sm.remove()+20)
			return want{ids: []spool.ID{none, none}}
		},
		"list of bodies of a group": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.second+frameHeader+3)
			return want{ids: []spool.ID{none}}
		},
		"a remove": func(sm *sample) want {
			flip(sm.t, sm.segment, sm.remove()+frameHeader+5)
			return want{ids: []spool.ID{none}}
		},
		"header of a segment": func(sm *sample) want {
			flip(sm.t, sm.segment, 20)
			return want{ids: []spool.ID{none}}
		},
		"many things": func(sm *sample) want {
			flip(sm.t, sm.segment, 20)
			flip(sm.t, sm.segment, sm.place[sm.small.ID]+25)
			flip(sm.t, sm.segment, sm.place[sm.shared[0].Body])
			flip(sm.t, sm.bigFile, 5)
			flip(sm.t, sm.segment, sm.remove())
			return want{[]spool.ID{none, none, sm.small.ID, sm.shared[0].Body, sm.big.Body}, 1, 3, 0}
		},
	} {
		t.Run(name, func(t *testing.T) {
			sm := newSample(t)
			want := damage(sm)
			before := snapshot(t, sm.dir)
			for _, opened := range []bool{false, true} { // and once more when a host has found it
				got, err := Verify(t.Context(), sm.dir, &Options{Logger: quiet})
				if err != nil {
					t.Fatal(err)
				}
				if opened {
					want.healed = 0
				}
				var ids []spool.ID
				for _, corrupt := range got.Damaged {
					ids = append(ids, corrupt.ID)
				}
				slices.SortFunc(ids, compareIDs)
				slices.SortFunc(want.ids, compareIDs)
				if !slices.Equal(ids, want.ids) {
					t.Errorf("opened %v: damaged are %v, want %v", opened, got.Damaged, want.ids)
				}
				if e, b := sampleEntries-got.Entries, sampleBodies-got.Bodies; e != want.entries || b != want.bodies || got.Healed != want.healed {
					t.Errorf("opened %v: got %v, want %d entries and %d bodies that cannot be read, %d healed", opened, got, want.entries, want.bodies, want.healed)
				}
				if !opened {
					if diff := before.diff(snapshot(t, sm.dir)); diff != "" {
						t.Errorf("Verify changed %s", diff)
					}
					openTest(t, sm.dir, nil).Close()
				}
			}
		})
	}
}

// TestVerifyKnown: what an Open has found and noted counts once, beside what it did
// not look at.
func TestVerifyKnown(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	dir, groups := s.dir, []int64{}
	var entries []*spool.Entry
	for range 4 {
		e := storeOne(t, s, noise(100))
		name, off, err := entryFile(s, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		entries, groups = append(entries, e), append(groups, groupBefore(t, name, off))
	}
	checkpointNow(t, s)
	for _, e := range entries[:2] {
		if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Fatal(errs)
		}
		s.mu.Lock()
		end := s.mu.end.Place
		s.mu.Unlock()
		groups = append(groups, end.Offset()-frameHeader-18)
	}
	hidden := storeOne(t, s, noise(100))
	_, off, err := entryFile(s, hidden.ID)
	if err != nil {
		t.Fatal(err)
	}
	storeOne(t, s, noise(100))
	abandon(s)
	segment := segmentFile(dir, 1)
	flip(t, segment, groups[4]+frameHeader+5)      // in the ID of what is removed
	flip(t, segment, groupBefore(t, segment, off)) // a whole group
	verifyCounts(t, dir, 2)
	openTest(t, dir, nil).Close()
	verifyCounts(t, dir, 2)
	flip(t, segment, groups[2]) // before the checkpoint
	verifyCounts(t, dir, 3)
}

func verifyCounts(t *testing.T, dir string, n int) {
	t.Helper()
	got, err := Verify(t.Context(), dir, &Options{Logger: quiet})
	if err != nil || len(got.Damaged) != n {
		t.Errorf("Verify: got %v, %v, want %d damages", got.Damaged, err, n)
	}
}

// TestVerifyEnded: what is damaged of a message that has ended, and whose end was
// taken away, is a part of the log and no entry.
func TestVerifyEnded(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	storeOne(t, s, noise(taleSegment-2000))
	ended := storeOne(t, s, noise(100))
	name, off, err := entryFile(s, ended.ID)
	if err != nil {
		t.Fatal(err)
	}
	filler := storeOne(t, s, noise(taleSegment/2))
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: ended}}, spool.Unit{{Op: spool.Remove, Entry: filler}}); errs != nil {
		t.Fatal(errs)
	}
	storeOne(t, s, noise(taleSegment))
	s.keeper.run(func() { s.keeper.work() })
	if hasSegment(s.dir, 2) || !hasSegment(s.dir, 1) {
		t.Fatal("another segment than the second is gone")
	}
	s.Close()
	flip(t, name, off+25)
	got, err := Verify(t.Context(), s.dir, opts)
	if err != nil || len(got.Damaged) != 1 || !got.Damaged[0].ID.IsZero() || got.Entries != 2 {
		t.Errorf("Verify: got %v, %v, %v, want 2 entries, and a part of the log that is damaged", got, got.Damaged, err)
	}
}

// TestVerifyMissingSegment: all that stood in it is damaged, and so is the end of the
// log, since more may have stood there.
func TestVerifyMissingSegment(t *testing.T) {
	sm := newSample(t)
	os.Remove(sm.segment)
	got, err := Verify(t.Context(), sm.dir, &Options{Logger: quiet})
	if err != nil || got.Entries != 0 || len(got.Damaged) != sampleEntries+1 || !got.Damaged[0].ID.IsZero() {
		t.Errorf("Verify: got %v, %v, want %d damaged entries, and the end of the log", got, err, sampleEntries)
	}
}

// TestVerifyNot: an error says why a spool cannot be verified.
func TestVerifyNot(t *testing.T) {
	s := newTest(t, nil)
	storeOne(t, s, noise(maxSegmentBody+1))
	if _, err := Verify(t.Context(), s.dir, &Options{LockTimeout: -1, Logger: quiet}); !errors.Is(err, ErrInUse) {
		t.Errorf("a spool in use: got %v, want ErrInUse", err)
	}
	s.Close()
	for _, dir := range []string{filepath.Join(s.dir, "none"), fastDir(t)} {
		if _, err := Verify(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "not a spool") {
			t.Errorf("nothing: got %v, want that it is not a spool", err)
		}
	}
	index := filepath.Join(s.dir, checkpoint.Name)
	whole, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(index, whole, 0o600)
	if err := os.WriteFile(index, whole[:4096], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), s.dir, &Options{Logger: quiet}); !errors.Is(err, checkpoint.ErrDamaged) || !strings.Contains(err.Error(), "Rebuild") {
		t.Errorf("an index that is cut: got %v, want that it is damaged, and that Rebuild helps", err)
	}
}

// TestVerifyCancelled ends it at each moment at which it looks at its context, one
// of them for each block of a large body, and for each group of the log.
func TestVerifyCancelled(t *testing.T) {
	sm := newSample(t)
	n := cancelAnywhere(t, func(ctx context.Context) error {
		_, err := Verify(ctx, sm.dir, &Options{Logger: quiet})
		return err
	})
	if want := int64(maxSegmentBody/blockSize + 7 + 2*sampleEntries); n < want {
		t.Errorf("the context was looked at %d times, want %d: for each block, group, and entry, and for more", n, want)
	}
}

// A countdown is a context that is cancelled once its Err was called some times.
type countdown struct {
	context.Context
	left atomic.Int64
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// cancelAnywhere does something with contexts that are cancelled later and later,
// until it succeeds, and returns how often it has looked at its context then.
func cancelAnywhere(t *testing.T, do func(ctx context.Context) error) (n int64) {
	t.Helper()
	for ; ; n++ {
		ctx := &countdown{Context: t.Context()}
		ctx.left.Store(n)
		err := do(ctx)
		if err == nil && ctx.left.Load() >= 0 {
			return n
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled after %d looks: got %v, want context.Canceled", n, err)
		}
	}
}
