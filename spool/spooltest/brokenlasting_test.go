package spooltest_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

// lastingBreakages are about what outlives a Spool value, and the end of one.
var lastingBreakages = map[string]breakage{
	"healthy for ever": {
		caught: "Close/ErrClosed Fail/Commit",
		bend:   only(hooks{health: func(*spool.Memory) error { return nil }}),
	},
	"never healthy": {
		caught: "Close/Health",
		bend:   only(hooks{health: func(*spool.Memory) error { return spool.ErrFull }}),
	},
	"marks ignored": {
		caught: "Crash/Interrupted Crash/Repeatedly Model/Random",
		bend:   only(hooks{started: func(*spool.Memory, []spool.ID) {}}),
	},
	"the first crash alone counts": {
		caught: "Crash/Interrupted Crash/Repeatedly",
		bend: func() hooks {
			var first atomic.Pointer[spool.Memory]
			return hooks{started: func(m *spool.Memory, ids []spool.ID) {
				if first.CompareAndSwap(nil, m) || first.Load() == m {
					m.Started(ids...)
				}
			}}
		},
	},
	"a Close counts": {
		caught: "Reopen/Uninterrupted Reopen/Repeatedly",
		harness: func(h *spooltest.Harness) {
			reopen := h.Reopen
			h.Reopen = func(t *testing.T, s spool.Spool) spool.Spool {
				next := reopen(t, s)
				editAll(whole(next), func(e *spool.Entry) { e.Interrupted++ })
				return next
			}
		},
	},
	"the end of the process ends no ownership": {
		caught: "Crash/Unowned Crash/Repeatedly Model/Random",
		harness: func(h *spooltest.Harness) {
			h.Crash = func(_ *testing.T, s spool.Spool) spool.Spool { return &bent{Memory: whole(s).Attach()} }
		},
	},
	"Close ends no ownership": {
		caught: "Reopen/Unowned",
		harness: func(h *spooltest.Harness) {
			reopen := h.Reopen
			h.Reopen = func(t *testing.T, s spool.Spool) spool.Spool {
				next := reopen(t, s)
				m := whole(next)
				m.Attach().Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 1})
				return next
			}
		},
	},
	"a crash loses what came last": {
		caught: "Crash/Found Crash/InFlight Many/Crash Model/Random",
		harness: func(h *spooltest.Harness) {
			crash := h.Crash
			h.Crash = func(t *testing.T, s spool.Spool) spool.Spool {
				next := crash(t, s)
				loseLast(whole(next))
				return next
			}
		},
	},
	"every third Reopen loses what came last": {
		caught: "Reopen/Repeatedly Many/Reopen",
		harness: func(h *spooltest.Harness) {
			reopen, n := h.Reopen, 0
			h.Reopen = func(t *testing.T, s spool.Spool) spool.Spool {
				next := reopen(t, s)
				if n++; n%3 == 0 {
					loseLast(whole(next))
				}
				return next
			}
		},
	},
	"half of what a crash interrupts is there": {
		caught: "Crash/InFlight",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				if len(u) != 2 || u[0].Op != spool.Insert {
					return one(ctx, m, u)
				}
				if err := one(ctx, m, u[:1]); err != nil {
					return err
				}
				runtime.Gosched()
				return one(ctx, m, u[1:])
			})
		}}),
	},
	"ErrClosed for what is stored": {
		caught: "Reopen/Meanwhile",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			if errs := m.Apply(ctx, units...); errs != nil {
				return errs
			}
			runtime.Gosched()
			if errors.Is(m.Health(), spool.ErrClosed) {
				return each(units, func(spool.Unit) error { return spool.ErrClosed })
			}
			return nil
		}}),
	},
	"Close takes bodies away": {
		caught: "Close/OpenBody",
		bend: only(hooks{open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
			b, err := m.Open(ctx, id)
			return lazyBody{b, func() error {
				if m.Health() != nil {
					return errors.New("the spool is gone")
				}
				return nil
			}}, err
		}}),
	},
	"the death of one owner ends the others": {
		caught: "Second/Crash Model/Random",
		harness: func(h *spooltest.Harness) {
			var others []*spool.Memory
			second, crash := h.Second, h.Crash
			h.Second = func(t *testing.T, s spool.Spool) spool.Spool {
				other := second(t, s)
				others = append(others, whole(other))
				return other
			}
			h.Crash = func(t *testing.T, s spool.Spool) spool.Spool {
				for _, m := range others {
					if m != whole(s) {
						m.LoseSession()
					}
				}
				next := crash(t, s)
				others = append(others, whole(next))
				return next
			}
		},
	},
	"bodies come back when the spool is opened anew": {
		caught: "Replace/OrdersReopen Replace/OrdersCrash Reopen/Counts",
		harness: func(h *spooltest.Harness) {
			g := new(graveyard)
			for _, anew := range []*func(*testing.T, spool.Spool) spool.Spool{&h.Reopen, &h.Crash} {
				before := *anew
				*anew = func(t *testing.T, s spool.Spool) spool.Spool {
					return &bent{whole(before(t, s)), hooks{open: g.open}}
				}
			}
		},
	},
	"what is staged stays": {
		caught: "Reopen/Staged Crash/Staged",
		bend: func() hooks {
			var writers sync.Map
			return hooks{
				create: func(_ *spool.Memory, w spool.Writer) { writers.Store(w.ID(), w) },
				open: func(ctx context.Context, m *spool.Memory, id spool.ID) (spool.Body, error) {
					b, err := m.Open(ctx, id)
					if _, found := writers.Load(id); found && errors.Is(err, spool.ErrNotFound) {
						return emptyBody{}, nil
					}
					return b, err
				},
			}
		},
	},
	"what was removed is back when the spool is opened anew": {
		caught: "Reopen/Removed",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			for _, c := range slices.Concat(units...) {
				if c.Op == spool.Remove {
					removed.Store(c.Entry.ID, c.Entry.Clone())
				}
			}
			return m.Apply(ctx, units...)
		}}),
		harness: func(h *spooltest.Harness) {
			reopen := h.Reopen
			h.Reopen = func(t *testing.T, s spool.Spool) spool.Spool {
				next := reopen(t, s)
				for _, e := range removed.Range {
					w, err := whole(next).Create(t.Context(), 0)
					if err != nil {
						t.Fatal(err)
					}
					e := e.(*spool.Entry).Clone()
					e.Body = w.ID()
					w.Commit(t.Context(), e)
				}
				return next
			}
		},
	},
	"damage is not mentioned": {
		caught: "Damage/Entry",
		bend: only(hooks{scan: func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
			return func(yield func(*spool.Entry, error) bool) {
				for e, err := range m.Scan(ctx, q) {
					if err == nil && !yield(e, nil) {
						return
					}
				}
			}
		}}),
	},
	"space is never used again": {
		caught: "Space/Entries Space/Small Space/Big Space/Mixed",
		bend: func() hooks {
			return hooks{
				write: func(w spool.Writer, p []byte) (int, error) {
					written.Add(int64(len(p)))
					return w.Write(p)
				},
				apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
					for _, c := range slices.Concat(units...) {
						if c.Op == spool.Insert {
							written.Add(int64(len(c.Entry.Header)))
						}
					}
					return m.Apply(ctx, units...)
				},
			}
		},
		harness: func(h *spooltest.Harness) {
			h.Space = func(*testing.T, spool.Spool) int64 { return written.Load() }
		},
	},
	"one message keeps the space of many": {
		caught: "Space/Mixed",
		harness: func(h *spooltest.Harness) {
			segments, end := make(map[spool.ID]int64), int64(0)
			h.Space = func(t *testing.T, s spool.Spool) int64 {
				end += 1 << 20
				live := make(map[int64]bool)
				for e, err := range s.Scan(t.Context(), spool.Query{}) {
					if err != nil {
						t.Fatal(err)
					}
					if _, found := segments[e.ID]; !found {
						segments[e.ID] = end
					}
					live[segments[e.ID]] = true
				}
				return int64(len(live)) << 20
			}
		},
	},
}

// What the spool of this process was given, and what was removed from it.
var (
	written atomic.Int64
	removed sync.Map
)

// loseLast removes the entry with the highest ID.
func loseLast(m *spool.Memory) {
	var last *spool.Entry
	for e := range m.Scan(context.Background(), spool.Query{}) {
		last = e
	}
	if last != nil {
		edit(m, last.ID, func(c *spool.Change) { c.Op = spool.Remove })
	}
}

// editAll changes every entry that nobody owns.
func editAll(m *spool.Memory, change func(*spool.Entry)) {
	for e := range m.Scan(context.Background(), spool.Query{}) {
		edit(m, e.ID, func(c *spool.Change) { change(c.Entry) })
	}
}

// edit applies a change to an entry that nobody owns.
func edit(m *spool.Memory, id spool.ID, change func(*spool.Change)) {
	entries, _, err := m.Claim(context.Background(), spool.ClaimRequest{IDs: []spool.ID{id}})
	if err != nil || len(entries) != 1 {
		return
	}
	c := spool.Change{Op: spool.Update, Entry: entries[0].Clone()}
	change(&c)
	if errs := m.Apply(context.Background(), spool.Unit{c}); errs != nil {
		panic(fmt.Sprint("spooltest: a breakage does not work: ", errs))
	}
}
