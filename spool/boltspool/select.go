package boltspool

import (
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A selection is a claim in progress.
type selection struct {
	x   *index
	req *spool.ClaimRequest
	due int64
}

// claim makes up to req.Limit entries owned and returns them, the Final ones
// before all others, then by due time. next is the due time of the first entry
// that was left, or never.
func (x *index) claim(req *spool.ClaimRequest) (taken []slotID, next int64) {
	sel := selection{x: x, req: req, due: instant(req.Due)}
	taken = x.claimFinals(req.Limit)
	for len(taken) < req.Limit {
		g := sel.first()
		if g == nil || g.key() > sel.due {
			break
		}
		n := g.states[spool.Queued].heap[0]
		x.own(n)
		taken = append(taken, n)
	}
	next = never
	if g := sel.first(); g != nil {
		next = g.key()
	}
	for g := range x.finals {
		next = min(next, g.states[spool.Final].next, sel.due)
	}
	return taken, next
}

// claimFinals takes Final entries that nobody owns, the longest due first.
func (x *index) claimFinals(limit int) (taken []slotID) {
	for len(taken) < limit && len(x.finals) > 0 {
		var first *tally
		for g := range x.finals {
			if t := &g.states[spool.Final]; first == nil || t.next < first.next {
				first = t
			}
		}
		n := first.heap[0]
		x.own(n)
		taken = append(taken, n)
	}
	return taken
}

// claimIDs makes those entries owned that are stored and that nobody owns.
func (x *index) claimIDs(ids []spool.ID) (taken []slotID) {
	for _, id := range ids {
		if n, ok := x.byID[id]; ok && !x.slot(n).owned {
			x.own(n)
			taken = append(taken, n)
		}
	}
	return taken
}

// first returns the group that matches and whose first entry falls due before
// those of all others, or nil if no entry matches.
func (sel *selection) first() (best *group) {
	if sel.req.Queues == nil {
		best = sel.search(0, nil)
	}
	for _, name := range sel.req.Queues {
		best = sel.better(best, sel.x.queues[name])
	}
	if best == nil || best.key() == never {
		return nil
	}
	return best
}

// search looks through the heap of queues from place i on. A queue that
// matches ends the search below it, and so does one that comes after best.
func (sel *selection) search(i int, best *group) *group {
	if i >= len(sel.x.due) {
		return best
	}
	q := sel.x.due[i]
	if best != nil && best.key() <= q.key() {
		return best
	}
	g := sel.better(best, q)
	if g != best && g.key() == q.key() {
		return g
	}
	best = sel.search(2*i+1, g)
	return sel.search(2*i+2, best)
}

// better returns the first group of q that matches if it comes before best.
func (sel *selection) better(best *group, q *queue) *group {
	if q == nil || slices.Contains(sel.req.Except, q.name) {
		return best
	}
	g := q.due[0]
	if sel.req.Class != "" {
		g = q.classes[sel.req.Class]
	}
	if g == nil || best != nil && best.key() <= g.key() {
		return best
	}
	return g
}
