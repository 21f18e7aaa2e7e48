package spooltest_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/spooltest"
)

// modelBreakages happen seldom, or where several things come together.
var modelBreakages = map[string]breakage{
	"one removal in thirty is forgotten": {
		caught: "Model/Random",
		bend: func() hooks {
			var n atomic.Int64
			return changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
				return slices.DeleteFunc(u, func(c spool.Change) bool { return c.Op == spool.Remove && n.Add(1)%30 == 29 })
			})()
		},
	},
	"half of a unit outlives a failed sync": {
		caught: "Model/Random",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				if half := len(u) / 2; half > 0 && failing.CompareAndSwap(true, false) {
					if err := one(ctx, m, u[:half]); err != nil {
						return err
					}
					m.FailSync()
				}
				return one(ctx, m, u)
			})
		}}),
		harness: func(h *spooltest.Harness) {
			h.Fail = func(*testing.T, spool.Spool) { failing.Store(true) }
		},
	},
	"Skip is lost with a new body": {
		caught: "Model/Random",
		bend: eachChange(func(c *spool.Change) {
			if c.Op == spool.Update && c.Stage != nil {
				c.Entry.Skip = 0
			}
		}),
	},
	"Expires is lost when an entry is held": {
		caught: "Model/Random",
		bend: eachChange(func(c *spool.Change) {
			if c.Op == spool.Update && c.Entry.State == spool.Held {
				c.Entry.Expires = c.Entry.Due
			}
		}),
	},
	"the first value alone counts interruptions": {
		caught: "Model/Random",
		harness: func(h *spooltest.Harness) {
			// From the second on, every value.
			for _, more := range []*func(*testing.T, spool.Spool) spool.Spool{&h.Second, &h.Crash} {
				before := *more
				*more = func(t *testing.T, s spool.Spool) spool.Spool {
					return &bent{whole(before(t, s)), hooks{started: func(*spool.Memory, []spool.ID) {}}}
				}
			}
		},
	},
	"a crash counts for those that do not run": {
		caught: "Model/Random",
		harness: func(h *spooltest.Harness) {
			crash := h.Crash
			h.Crash = func(t *testing.T, s spool.Spool) spool.Spool {
				next := crash(t, s)
				editAll(whole(next), func(e *spool.Entry) {
					if e.Queue == "queue 3" {
						e.Interrupted++
					}
				})
				return next
			}
		},
	},
}

// failing is whether the next sync fails.
var failing atomic.Bool

// eachChange is changing, one change at a time.
func eachChange(change func(*spool.Change)) func() hooks {
	return changing(func(_ context.Context, _ *spool.Memory, u spool.Unit) spool.Unit {
		for i := range u {
			change(&u[i])
		}
		return u
	})
}
