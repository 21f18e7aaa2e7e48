package spooltest

import (
	"bytes"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A claimCall is one Claim beside other calls.
type claimCall struct {
	f       *fixture
	by      *owner
	req     spool.ClaimRequest
	waiting []spool.ID // entries that it could claim whatever the others do
	entries []*spool.Entry
	err     error
}

// claiming prepares a Claim.
func (r *run) claiming(by *owner) *claimCall {
	r.count("claim beside others")
	c := &claimCall{f: r.as(by), by: by, req: r.request()}
	finals, due, _ := r.m.claimable(c.req)
	for _, e := range slices.Concat(finals, due) {
		if !r.busy[e.ID] {
			c.waiting = append(c.waiting, e.ID)
		}
	}
	return c
}

// request makes a random request.
func (r *run) request() (req spool.ClaimRequest) {
	req.Due = r.now.Add(time.Duration(r.rng.IntN(5)-1) * 20 * time.Minute)
	req.Limit = []int{1, 5, 1000}[r.rng.IntN(3)]
	for range r.rng.IntN(3) * r.rng.IntN(3) {
		req.Queues = append(req.Queues, r.name("queue", 6))
	}
	for range r.rng.IntN(2) * r.rng.IntN(3) {
		req.Except = append(req.Except, r.name("queue", 6))
	}
	if r.chance(30) {
		req.Class = r.name("class", 5)
	}
	return req
}

func (c *claimCall) do() { c.entries, _, c.err = c.f.sp.Claim(c.f.ctx, c.req) }

func (c *claimCall) settle(r *run) {
	r.ok(c.err, "Claim")
	if len(c.entries) > c.req.Limit {
		r.fail("Claim of %d returned %d", c.req.Limit, len(c.entries))
	}
	for _, e := range c.entries {
		if e.State != spool.Final && (!matches(c.req, e) || e.Due.After(c.req.Due)) {
			r.fail("Claim of %+v returned %s", c.req, describe(e))
		}
		r.claimed(c.by, e)
	}
}

// complete checks, when all calls were settled, that a Claim left nothing that
// it could take.
func (c *claimCall) complete(r *run) {
	if len(c.entries) == c.req.Limit {
		return
	}
	for _, id := range c.waiting {
		if s := r.m.entries[id]; s.owner == nil {
			r.fail("Claim of %+v returned %d entries, and left %s", c.req, len(c.entries), describe(s.e))
		}
	}
}

// claimed notes a claimed entry, which must be as it is stored.
func (r *run) claimed(by *owner, e *spool.Entry) {
	r.t.Helper()
	s := r.m.entries[e.ID]
	switch {
	case s == nil:
		r.fail("Claim returned what is not stored: %s", describe(e))
	case s.owner != nil:
		r.fail("Claim by %s returned what %s owns: %s", by.name, s.owner.name, describe(e))
	}
	r.version("by Claim", e, s.e)
	s.e, s.owner = e.Clone(), by
}

// version checks that an entry is as it is stored, but for its Rev, which may
// have grown.
func (r *run) version(when string, got, want *spool.Entry) {
	r.t.Helper()
	if got.Rev < want.Rev {
		r.fail("%s: Rev went from %d to %d: %s", when, want.Rev, got.Rev, describe(got))
	}
	want = want.Clone()
	want.Rev = got.Rev
	r.equal(when, got, want)
}

// claimAlone claims while nothing else happens, so that all of the outcome is
// known.
func (r *run) claimAlone() {
	by := r.by()
	if r.chance(30) {
		r.claimIDs(by)
		return
	}
	r.count("claim")
	req := r.request()
	finals, due, later := r.m.claimable(req)
	entries, next, err := by.sp.Claim(r.ctx, req)
	r.ok(err, "Claim")
	want := min(req.Limit, len(finals)+len(due))
	if len(entries) != want {
		r.fail("Claim of %+v: got %d entries, want %d", req, len(entries), want)
	}
	for i, e := range entries {
		switch isFinal := i < len(finals); {
		case isFinal != (e.State == spool.Final):
			r.fail("Claim of %+v: Final entries must come before all others, but the %dth of %d is %s", req, i, len(finals), describe(e))
		case !isFinal && !matches(req, e):
			r.fail("Claim of %+v returned %s", req, describe(e))
		case !isFinal && !e.Due.Equal(due[i-len(finals)].Due):
			r.fail("Claim of %+v: the %dth that is due is %s, want the longest due first: %s", req, i, describe(e), describe(due[i-len(finals)]))
		}
		r.claimed(by, e)
	}
	if want < len(finals)+len(due) {
		if next.IsZero() || next.After(r.now) && next.After(req.Due) {
			r.fail("Claim of %+v left what is due: got next %v, want a time that has passed", req, next)
		}
	} else if !next.Equal(later) {
		r.fail("Claim of %+v: got next %v, want %v", req, next, later)
	}
}

// claimIDs claims some entries by their IDs, owned or not, and one that is not
// stored.
func (r *run) claimIDs(by *owner) {
	r.count("claim by IDs")
	req := spool.ClaimRequest{IDs: []spool.ID{spool.NewID()}}
	var want []spool.ID
	for range 10 {
		s := r.pick(func(s *modelled) bool { return s.owner == nil || r.chance(20) })
		if s == nil {
			break
		}
		req.IDs = append(req.IDs, s.e.ID)
		if s.owner == nil {
			want = append(want, s.e.ID)
		}
	}
	entries, _, err := by.sp.Claim(r.ctx, req)
	r.ok(err, "Claim by IDs")
	slices.SortFunc(want, func(a, b spool.ID) int { return bytes.Compare(a[:], b[:]) })
	if got := ids(byID(entries...)); !slices.Equal(got, want) {
		r.fail("Claim by IDs: got %v, want %v", got, want)
	}
	for _, e := range entries {
		r.claimed(by, e)
	}
}
