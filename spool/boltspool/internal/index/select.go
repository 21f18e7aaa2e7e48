package index

import (
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A selection is a claim in progress.
type selection struct {
	x   *Index
	req *spool.ClaimRequest
	due int64
}

// Claim makes up to req.Limit entries owned and returns them, the Final ones
// before all others, then by due time. next is when the first entry that was left
// falls due, zero if there is none.
func (x *Index) Claim(req *spool.ClaimRequest) (taken []Entry, next time.Time) {
	sel := selection{x: x, req: req, due: instant(req.Due)}
	taken = x.claimFinals(req.Limit)
	for len(taken) < req.Limit {
		g := sel.first()
		if g == nil || g.key() > sel.due {
			break
		}
		taken = append(taken, x.take(g.states[spool.Queued].heap[0]))
	}
	first := int64(never)
	if g := sel.first(); g != nil {
		first = g.key()
	}
	for g := range x.finals {
		first = min(first, g.states[spool.Final].next, sel.due)
	}
	if first != never {
		next = fromInstant(first)
	}
	return taken, next
}

func (x *Index) take(n uint32) Entry {
	x.own(n)
	return x.entry(n)
}

// claimFinals takes Final entries that nobody owns, the longest due first.
func (x *Index) claimFinals(limit int) (taken []Entry) {
	for len(taken) < limit && len(x.finals) > 0 {
		var first *tally
		for g := range x.finals {
			if t := &g.states[spool.Final]; first == nil || t.next < first.next {
				first = t
			}
		}
		taken = append(taken, x.take(first.heap[0]))
	}
	return taken
}

// ClaimIDs makes those entries owned that are stored and that nobody owns.
func (x *Index) ClaimIDs(ids []spool.ID) (taken []Entry) {
	for _, id := range ids {
		if n, ok := x.find(id); ok && x.slots.at(n).flags&owned == 0 {
			taken = append(taken, x.take(n))
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
		g = q.class(sel.req.Class)
	}
	if g == nil || best != nil && best.key() <= g.key() {
		return best
	}
	return g
}
