package spooltest_test

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// claimHook is the type of hooks.claim.
type claimHook = func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error)

// claimBreakages are about Claim, Scan and Queues.
var claimBreakages = map[string]breakage{
	"claims given back at once": {
		caught: "Claim/Limit ClaimMany/Ordered ClaimMany/Claimers ClaimMany/Releasers Concurrent/Workers Second/Disjoint Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			entries, next, err := m.Claim(ctx, req)
			release(m, entries)
			return entries, next, err
		}),
	},
	"limit passed": {
		caught: "Claim/Limit Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			req.Limit++
			return m.Claim(ctx, req)
		}),
	},
	"everything due": {
		caught: "Claim/Order Claim/Rescheduled Claim/Next Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			req.Due = req.Due.Add(time.Hour)
			return m.Claim(ctx, req)
		}),
	},
	"newest first": {
		caught: "Claim/OrderAcross ClaimMany/Ordered ClaimMany/Starvation Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			limit := max(req.Limit, 0)
			req.Limit = 1 << 20
			return claimSome(ctx, m, req, func(e []*spool.Entry) []*spool.Entry { return e[max(0, len(e)-limit):] })
		}),
	},
	"filters see the first thousand": {
		caught: "ClaimMany/Hidden",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			all := spool.ClaimRequest{Due: req.Due, Limit: 1000, IDs: req.IDs}
			return claimSome(ctx, m, all, func(entries []*spool.Entry) []*spool.Entry {
				return slices.DeleteFunc(entries, func(e *spool.Entry) bool {
					return req.Queues != nil && !slices.Contains(req.Queues, e.Queue) || slices.Contains(req.Except, e.Queue) ||
						req.Class != "" && e.Class != req.Class
				})
			})
		}),
	},
	"a hundred exceptions are enough": {
		caught: "ClaimMany/Ordered",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			req.Except = req.Except[:min(len(req.Except), 100)]
			return m.Claim(ctx, req)
		}),
	},
	"classes are ignored": {
		caught: "Claim/Filters ClaimMany/Hidden",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			req.Class = ""
			return m.Claim(ctx, req)
		}),
	},
	"now and then an entry is claimed twice": {
		caught: "ClaimMany/Claimers ClaimMany/SecondClaimers Model/Random",
		bend: func() hooks {
			var last atomic.Pointer[spool.Entry]
			return hooks{claim: func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
				entries, next, err := m.Claim(ctx, req)
				if e := last.Load(); e != nil && len(entries) > 0 && e.ID[15]%16 == 0 && find(ctx, m, e.ID) != nil {
					entries[len(entries)-1] = e.Clone()
				}
				if len(entries) > 0 {
					last.Store(entries[0].Clone())
				}
				return entries, next, err
			}}
		},
	},
	"now and then a release gets lost": {
		caught: "ClaimMany/Releasers Model/Random",
		bend: func() hooks {
			var n atomic.Int64
			return hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
				return each(units, func(u spool.Unit) error {
					return one(ctx, m, slices.DeleteFunc(u, func(c spool.Change) bool {
						return c.Op == spool.Release && n.Add(1)%100 == 99
					}))
				})
			}}
		},
	},
	"an ID is claimed whoever owns it": {
		caught: "Claim/IDs Second/Fenced Second/ClaimIDs Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			entries, next, err := m.Claim(ctx, req)
			for e := range m.Scan(ctx, spool.Query{}) {
				if slices.Contains(req.IDs, e.ID) && !slices.ContainsFunc(entries, func(o *spool.Entry) bool { return o.ID == e.ID }) {
					entries = append(entries, e)
				}
			}
			return entries, next, err
		}),
	},
	"a former owner takes back what is free": {
		caught: "Second/Takeover Owner/Fenced",
		bend: only(hooks{apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
			return each(units, func(u spool.Unit) error {
				err := one(ctx, m, u)
				if err == nil || len(u) != 1 || u[0].Op != spool.Update {
					return err
				}
				entries, _, _ := m.Claim(ctx, spool.ClaimRequest{IDs: []spool.ID{u[0].Entry.ID}})
				if len(entries) == 0 {
					return err
				}
				u[0].Entry.Rev = entries[0].Rev
				return one(ctx, m, u)
			})
		}}),
	},
	"final entries wait for their turn": {
		caught: "Claim/FinalFirst Crash/Final Model/Random",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			limit := req.Limit
			req.Limit += 10
			return claimSome(ctx, m, req, func(entries []*spool.Entry) []*spool.Entry {
				slices.SortStableFunc(entries, func(a, b *spool.Entry) int { return a.Due.Compare(b.Due) })
				return entries[:min(len(entries), max(limit, 0))]
			})
		}),
	},
	"held entries are claimed": {
		caught: "Claim/Held",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			entries, next, err := m.Claim(ctx, req)
			for e := range m.Scan(ctx, spool.Query{}) {
				if e.State == spool.Held && req.IDs == nil {
					entries = append(entries, e)
				}
			}
			return entries, next, err
		}),
	},
	"no due time is never due": {
		caught: "Claim/NoDue",
		bend: claiming(func(ctx context.Context, m *spool.Memory, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
			return claimSome(ctx, m, req, func(entries []*spool.Entry) []*spool.Entry {
				return slices.DeleteFunc(entries, func(e *spool.Entry) bool { return e.Due.IsZero() })
			})
		}),
	},
	"scan backwards": {
		caught: "Scan/Order Model/Random",
		bend: only(hooks{scan: func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
			var entries []*spool.Entry
			for e := range m.Scan(ctx, q) {
				entries = append([]*spool.Entry{e}, entries...)
			}
			return yieldAll(entries)
		}}),
	},
	"After is included": {
		caught: "Scan/Query",
		bend: only(hooks{scan: func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
			if last := len(q.After) - 1; q.After[last] > 0 {
				q.After[last]--
			}
			return m.Scan(ctx, q)
		}}),
	},
	"Scan does not end with an error": {
		caught: "Cancel/Scan",
		bend: only(hooks{scan: func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
			return func(yield func(*spool.Entry, error) bool) {
				if ctx.Err() != nil && !yield(nil, ctx.Err()) {
					return
				}
				for e, err := range m.Scan(context.WithoutCancel(ctx), q) {
					if !yield(e, err) {
						return
					}
				}
			}
		}}),
	},
	"Scan locks": {
		caught: "Scan/Unlocked",
		bend: func() hooks {
			var mu sync.Mutex
			return hooks{
				scan: func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
					return func(yield func(*spool.Entry, error) bool) {
						mu.Lock()
						defer mu.Unlock()
						for e, err := range m.Scan(ctx, q) {
							if !yield(e, err) {
								return
							}
						}
					}
				},
				apply: func(ctx context.Context, m *spool.Memory, units []spool.Unit) []error {
					if !mu.TryLock() {
						return each(units, func(spool.Unit) error { return spool.ErrBusy })
					}
					defer mu.Unlock()
					return m.Apply(ctx, units...)
				},
			}
		},
	},
	"a shared body counts once": {
		caught: "Queues/Follow Reopen/Counts Many/Unit Model/Random",
		bend: only(hooks{queues: func(ctx context.Context, m *spool.Memory) iter.Seq2[spool.QueueInfo, error] {
			return func(yield func(spool.QueueInfo, error) bool) {
				for info, err := range m.Queues(ctx) {
					info.Bytes /= max(info.Entries, 1)
					if !yield(info, err) {
						return
					}
				}
			}
		}}),
	},
	"Held is not counted": {
		caught: "Queues/Counts Model/Random",
		bend: only(hooks{queues: func(ctx context.Context, m *spool.Memory) iter.Seq2[spool.QueueInfo, error] {
			return func(yield func(spool.QueueInfo, error) bool) {
				for info, err := range m.Queues(ctx) {
					if info.State != spool.Held && !yield(info, err) {
						return
					}
				}
			}
		}}),
	},
}

func claiming(hook claimHook) func() hooks { return only(hooks{claim: hook}) }

// claimSome claims and keeps what choose does not leave out.
func claimSome(ctx context.Context, m *spool.Memory, req spool.ClaimRequest, choose func([]*spool.Entry) []*spool.Entry) ([]*spool.Entry, time.Time, error) {
	all, next, err := m.Claim(ctx, req)
	chosen := choose(slices.Clone(all))
	release(m, slices.DeleteFunc(all, func(e *spool.Entry) bool { return slices.Contains(chosen, e) }))
	return chosen, next, err
}

func release(m *spool.Memory, entries []*spool.Entry) {
	for _, e := range entries {
		m.Apply(context.Background(), spool.Unit{{Op: spool.Release, Entry: e}})
	}
}

func yieldAll(entries []*spool.Entry) iter.Seq2[*spool.Entry, error] {
	return func(yield func(*spool.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// scanning returns a scan that changes what is yielded.
func scanning(change func(*spool.Entry) *spool.Entry) func(context.Context, *spool.Memory, spool.Query) iter.Seq2[*spool.Entry, error] {
	return func(ctx context.Context, m *spool.Memory, q spool.Query) iter.Seq2[*spool.Entry, error] {
		return func(yield func(*spool.Entry, error) bool) {
			for e, err := range m.Scan(ctx, q) {
				if e != nil {
					e = change(e)
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}
