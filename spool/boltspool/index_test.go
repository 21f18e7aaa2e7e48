package boltspool

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestIndexModel compares the index with a plain list over random changes.
func TestIndexModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := newIndex()
	type entry struct {
		item
		queue, class string
	}
	model := map[spool.ID]*entry{}
	var ids []spool.ID
	start := time.Unix(1000, 0)
	for step := range 20_000 {
		switch op := rng.IntN(10); {
		case op < 4 || len(ids) == 0: // insert, or replace
			e := &entry{queue: fmt.Sprint("q", rng.IntN(5)), class: fmt.Sprint("c", rng.IntN(3))}
			e.id = spool.NewID()
			if op == 0 && len(ids) > 0 {
				e.id = ids[rng.IntN(len(ids))]
			} else {
				ids = append(ids, e.id)
			}
			e.due = instant(start.Add(time.Duration(rng.IntN(1000)) * time.Second))
			e.received, e.size, e.rev = e.due, int64(rng.IntN(100)), uint64(step)
			e.state, e.owned = spool.State(rng.IntN(3)), rng.IntN(3) == 0
			model[e.id] = e
			x.put(e.item, []byte(e.queue), []byte(e.class))
		case op < 6: // remove
			i := rng.IntN(len(ids))
			x.remove(ids[i])
			delete(model, ids[i])
			ids = slices.Delete(ids, i, i+1)
		case op < 7: // release
			e := model[ids[rng.IntN(len(ids))]]
			if got := x.release(e.id); got != e.owned {
				t.Fatalf("step %d: release said %v of an entry whose owned is %v", step, got, e.owned)
			}
			e.owned = false
		default: // claim
			req := &spool.ClaimRequest{Due: start.Add(time.Duration(rng.IntN(1000)) * time.Second), Limit: rng.IntN(4)}
			if rng.IntN(2) == 0 {
				req.Queues = []string{fmt.Sprint("q", rng.IntN(6)), fmt.Sprint("q", rng.IntN(6))}
			}
			if rng.IntN(2) == 0 {
				req.Except = []string{fmt.Sprint("q", rng.IntN(5))}
			}
			if rng.IntN(2) == 0 {
				req.Class = fmt.Sprint("c", rng.IntN(4))
			}
			taken, next := x.claim(req)
			var final, due []int64
			for _, e := range model {
				switch {
				case e.owned:
				case e.state == spool.Final:
					final = append(final, e.due)
				case e.state == spool.Queued && (req.Queues == nil || slices.Contains(req.Queues, e.queue)) &&
					!slices.Contains(req.Except, e.queue) && (req.Class == "" || req.Class == e.class):
					due = append(due, e.due)
				}
			}
			slices.Sort(final)
			slices.Sort(due)
			var want []int64
			for len(want) < req.Limit && len(final) > 0 {
				want, final = append(want, final[0]), final[1:]
			}
			for len(want) < req.Limit && len(due) > 0 && due[0] <= instant(req.Due) {
				want, due = append(want, due[0]), due[1:]
			}
			var got []int64
			for _, n := range taken {
				s := x.slot(n)
				got = append(got, s.due)
				model[s.id].owned = true
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: %+v claimed entries due at %v, want %v", step, req, got, want)
			}
			wantNext := int64(never)
			if len(due) > 0 {
				wantNext = due[0]
			}
			if len(final) > 0 {
				if next > instant(req.Due) {
					t.Fatalf("step %d: Final entries were left, but next is %d", step, next)
				}
			} else if next != wantNext {
				t.Fatalf("step %d: %+v: next is %d, want %d", step, req, next, wantNext)
			}
		}
		checkCounts(t, step, x, len(model))
	}
	for _, id := range ids {
		x.remove(id)
	}
	if len(x.byID)+len(x.queues)+len(x.due)+len(x.finals) != 0 {
		t.Errorf("an index without entries still holds %d, %d queues, %d in order, %d groups", len(x.byID), len(x.queues), len(x.due), len(x.finals))
	}
}

func checkCounts(t *testing.T, step int, x *index, want int) {
	t.Helper()
	n := 0
	for _, q := range x.queues {
		for _, g := range q.classes {
			for i := range g.states {
				n += g.states[i].entries
			}
		}
	}
	if n != want || len(x.byID) != want {
		t.Fatalf("step %d: %d entries are counted, %d found, want %d", step, n, len(x.byID), want)
	}
}

func fillIndex(n int) *index {
	x := newIndex()
	now := time.Now().UnixNano()
	for i := range n {
		x.put(item{id: spool.NewID(), due: now + int64(i*7919%n)*1e6, received: now, size: 1000, rev: uint64(i)},
			fmt.Appendf(nil, "example%d.com", i%1000), []byte("tenant"))
	}
	return x
}

// TestIndexMemory bounds what an entry costs.
func TestIndexMemory(t *testing.T) {
	const n = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := fillIndex(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perEntry := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes per entry", perEntry)
	if perEntry > 150 {
		t.Errorf("an entry costs %.0f bytes, want 150 at most", perEntry)
	}
	runtime.KeepAlive(x)
}
