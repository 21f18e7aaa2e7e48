package spooltest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// unitBreakages are about Commit and Apply.
var unitBreakages = map[string]breakage{
	"nil after a failed sync": {caught: "Fail/Commit Fail/Apply Fail/Group Fail/Reopen", bend: forgiving(spool.ErrFailed)},
	"nil when fenced":         {caught: "Owner/Fenced Owner/Reclaimed Concurrent/OneWinner Second/Fenced Second/UnitFenced Second/Takeover Model/Random", bend: forgiving(spool.ErrFenced)},
	"nil when it exists":      {caught: "Unit/Exists Unit/Order Repeat/AfterSuccess Repeat/OneApply Repeat/Concurrent Repeat/Second Stage/CommitExists", bend: forgiving(spool.ErrExists)},
	"nil when not found":      {caught: "Unit/BodyNotFound Owner/FailureKeeps Concurrent/Groups", bend: forgiving(spool.ErrNotFound)},
	"nil when cancelled":      {caught: "Cancel/Before Cancel/Commit Cancel/Change Model/Random", bend: forgiving(context.Canceled)},
	"units in pieces": {
		caught: "Unit/Atomic Unit/NamedTwice Unit/BodyPassedOn Repeat/OneUnit Replace/Swap Replace/Fails Second/UnitFenced Model/Random",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				for _, c := range u {
					if err := one(ctx, m, spool.Unit{c}); err != nil {
						return err
					}
				}
				return nil
			})
		}}),
	},
	"the units of one Apply are one": {
		caught: "Unit/Independent Repeat/OneApply",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			err := one(ctx, m, slices.Concat(units...))
			return each(units, func(spool.Unit) error { return err })
		}}),
	},
	"errs when all succeeded": {
		caught: "Unit/Empty",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			if errs := m.Apply(ctx, units...); errs != nil {
				return errs
			}
			return make([]error, len(units))
		}}),
	},
	"entries that exist are left out": {
		caught: "Repeat/OtherEntries Many/Exists Stage/CommitExists",
		bend: changing(func(ctx context.Context, m *spool.Memory, u spool.Unit) spool.Unit {
			return slices.DeleteFunc(u, func(c spool.Change) bool {
				return c.Op == spool.Insert && len(u) > 1 && find(ctx, m, c.Entry.ID) != nil
			})
		}),
	},
	"what is named twice counts once": {
		caught: "Repeat/OneUnit Unit/NamedTwice",
		bend: changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
			seen := make(map[spool.ID]bool)
			return slices.DeleteFunc(u, func(c spool.Change) bool {
				again := seen[c.Entry.ID]
				seen[c.Entry.ID] = true
				return again
			})
		}),
	},
	"an insert that failed leaves its ID behind": {
		caught: "Repeat/Uncertain",
		bend: func() hooks {
			var tried sync.Map
			return hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
				return each(units, func(u spool.Unit) error {
					for _, c := range u {
						if _, found := tried.Load(c.Entry.ID); found && m.Health() == nil {
							return spool.ErrExists
						}
					}
					err := one(ctx, m, u)
					for _, c := range u {
						if errors.Is(err, spool.ErrFailed) {
							tried.Store(c.Entry.ID, true)
						}
					}
					return err
				})
			}}
		},
	},
	"contexts are ignored": {
		caught: "Cancel/Before",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return m.Apply(context.WithoutCancel(ctx), units...)
		}}),
	},
	"an error for what is stored": {
		caught: "Cancel/Commit Cancel/Change Model/Random",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			if errs := m.Apply(ctx, units...); errs != nil {
				return errs
			}
			runtime.Gosched()
			return each(units, func(spool.Unit) error { return ctx.Err() })
		}}),
	},
	"a Claim that fails claims": {
		caught: "Cancel/Claim",
		bend: only(hooks{claim: func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			entries, next, err := m.Claim(context.WithoutCancel(ctx), req)
			runtime.Gosched()
			if ctx.Err() != nil {
				return nil, time.Time{}, ctx.Err()
			}
			return entries, next, err
		}}),
	},
	"a body is for life": {
		caught: "Unit/NewBody Replace/Back Replace/Swap",
		bend: changing(func(ctx context.Context, m *spool.Memory, u spool.Unit) spool.Unit {
			for i, c := range u {
				if old := find(ctx, m, c.Entry.ID); c.Op == spool.Update && old != nil {
					c.Entry.Body, u[i].Stage = old.Body, nil
				}
			}
			return u
		}),
	},
	"a header is for life": {
		caught: "Skip/Update Entry/Update Many/Diverge Model/Random",
		bend: changing(func(ctx context.Context, m *spool.Memory, u spool.Unit) spool.Unit {
			for _, c := range u {
				if old := find(ctx, m, c.Entry.ID); c.Op == spool.Update && old != nil {
					c.Entry.Header = old.Header
				}
			}
			return u
		}),
	},
	"Skip is made to fit": {
		caught: "Skip/Beyond",
		bend: changing(func(ctx context.Context, m *spool.Memory, u spool.Unit) spool.Unit {
			for _, c := range u {
				if c.Entry.Skip < 0 || c.Entry.Skip > 10 {
					c.Entry.Skip = 0
				}
			}
			return u
		}),
	},
	"Size counts what is skipped": {
		caught: "Skip/Content Stage/Commit Entry/RoundTrip",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			errs := m.Apply(ctx, units...)
			for _, c := range slices.Concat(units...) {
				if errs == nil {
					c.Entry.Size += c.Entry.Skip
				}
			}
			return errs
		}}),
	},
	"every entry has the first header": {
		caught: "Many/Unit Many/Orders Stage/SharedBody",
		bend: changing(func(ctx context.Context, m *spool.Memory, u spool.Unit) spool.Unit {
			for _, c := range u {
				c.Entry.Header = u[0].Entry.Header
			}
			return u
		}),
	},
	"the Stage decides about the body": {
		caught: "Unit/OtherStage Stage/CommitOtherBody",
		bend: changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
			for _, c := range u {
				if c.Stage != nil {
					c.Entry.Body = c.Stage.ID()
				}
			}
			return u
		}),
	},
	"an Insert needs a Stage": {
		caught: "Unit/ExistingBody Unit/BodyPassedOn",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				for _, c := range u {
					if c.Op == spool.Insert && c.Stage == nil {
						return spool.ErrNotFound
					}
				}
				return one(ctx, m, u)
			})
		}}),
	},
	"Keep is ignored": {
		caught: "Owner/Keep Unit/SharedStage",
		bend: changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
			for i := range u {
				u[i].Keep = false
			}
			return u
		}),
	},
	"Release stores what it names": {
		caught: "Owner/Release",
		bend: changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
			for i := range u {
				if u[i].Op == spool.Release {
					u[i].Op = spool.Update
				}
			}
			return u
		}),
	},
	"Remove is no longer idempotent": {
		caught: "Owner/Remove",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				for _, c := range u {
					if c.Op == spool.Remove && find(ctx, m, c.Entry.ID) == nil {
						return spool.ErrFenced
					}
				}
				return one(ctx, m, u)
			})
		}}),
	},
	"entries are retained": {
		caught: "Entry/NotRetained",
		bend: func() hooks {
			var kept sync.Map
			return hooks{
				apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
					for _, c := range slices.Concat(units...) {
						kept.Store(c.Entry.ID, c.Entry)
					}
					return m.Apply(ctx, units...)
				},
				scan: scanning(func(e *spool.Entry) *spool.Entry {
					if k, found := kept.Load(e.ID); found {
						return k.(*spool.Entry)
					}
					return e
				}),
			}
		},
	},
}

// forgiving returns a bend that answers nil for one kind of error.
func forgiving(forgiven error) func() hooks {
	return only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
		return each(units, func(u spool.Unit) error {
			if err := one(ctx, m, u); !errors.Is(err, forgiven) {
				return err
			}
			return nil
		})
	}})
}

// changing returns a bend that stores something else than what it is given, and
// says nothing of it.
func changing(change func(context.Context, *spool.Memory, spool.Unit) spool.Unit) func() hooks {
	return only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
		return each(units, func(u spool.Unit) error {
			other := slices.Clone(u)
			for i := range other {
				other[i].Entry = other[i].Entry.Clone()
			}
			other = change(ctx, m, other)
			if err := one(ctx, m, other); err != nil {
				return err
			}
			for _, c := range u {
				i := slices.IndexFunc(other, func(o spool.Change) bool { return o.Entry.ID == c.Entry.ID })
				if i < 0 || c.Op != spool.Insert && c.Op != spool.Update {
					continue
				}
				o := other[i].Entry
				c.Entry.Rev = o.Rev
				c.Entry.Size = o.Size + o.Skip - c.Entry.Skip + int64(len(c.Entry.Header)) - int64(len(o.Header))
			}
			return nil
		})
	}})
}

// find returns a stored entry, nil if there is none.
func find(ctx context.Context, m *spool.Memory, id spool.ID) *spool.Entry {
	for e := range m.Scan(context.WithoutCancel(ctx), spool.Query{}) {
		if e != nil && e.ID == id {
			return e
		}
	}
	return nil
}
