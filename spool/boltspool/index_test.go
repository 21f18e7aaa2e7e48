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

// A modelEntry is an entry in the plain list that an index is compared with.
type modelEntry struct {
	item
	queue, class string
}

// An indexModel does the same to an index and to a list.
type indexModel struct {
	t       *testing.T
	rng     *rand.Rand
	x       *index
	entries map[spool.ID]*modelEntry
	ids     []spool.ID
}

// TestIndexModel compares the index with a plain list over random changes.
func TestIndexModel(t *testing.T) {
	m := &indexModel{t: t, rng: rand.New(rand.NewPCG(1, 2)), x: newIndex(), entries: map[spool.ID]*modelEntry{}}
	for step := range 20_000 {
		switch op := m.rng.IntN(10); {
		case op == 0 && len(m.ids) > 0:
			m.put(m.anyID())
		case op < 4 || len(m.ids) == 0:
			id := spool.NewID()
			m.ids = append(m.ids, id)
			m.put(id)
		case op < 6:
			i := m.rng.IntN(len(m.ids))
			m.x.remove(m.ids[i])
			delete(m.entries, m.ids[i])
			m.ids = slices.Delete(m.ids, i, i+1)
		case op < 7:
			e := m.entries[m.anyID()]
			if got := m.x.release(e.id); got != e.owned {
				t.Fatalf("step %d: release said %v of an entry whose owned is %v", step, got, e.owned)
			}
			e.owned = false
		default:
			m.claim()
		}
		checkCounts(t, step, m.x, len(m.entries))
	}
	for _, id := range m.ids {
		m.x.remove(id)
	}
	if x := m.x; len(x.byID)+len(x.queues)+len(x.due)+len(x.finals) != 0 {
		t.Errorf("an index without entries still holds %d, %d queues, %d in order, %d groups", len(x.byID), len(x.queues), len(x.due), len(x.finals))
	}
}

func (m *indexModel) anyID() spool.ID    { return m.ids[m.rng.IntN(len(m.ids))] }
func (m *indexModel) queue(n int) string { return fmt.Sprint("q", m.rng.IntN(n)) }
func (m *indexModel) class(n int) string { return fmt.Sprint("c", m.rng.IntN(n)) }

func (m *indexModel) put(id spool.ID) {
	e := &modelEntry{queue: m.queue(5), class: m.class(3)}
	e.id, e.due = id, int64(m.rng.IntN(1000))*1e9
	e.received, e.size, e.rev = e.due, int64(m.rng.IntN(100)), m.rng.Uint64()
	e.state, e.owned = spool.State(m.rng.IntN(3)), m.rng.IntN(3) == 0
	m.entries[id] = e
	m.x.put(e.item, []byte(e.queue), []byte(e.class))
}

// claim compares what a random request gets with what it should.
func (m *indexModel) claim() {
	m.t.Helper()
	req := &spool.ClaimRequest{Due: time.Unix(int64(m.rng.IntN(1000)), 0), Limit: m.rng.IntN(4)}
	if m.rng.IntN(2) == 0 {
		req.Queues = []string{m.queue(6), m.queue(6)}
	}
	if m.rng.IntN(2) == 0 {
		req.Except = []string{m.queue(5)}
	}
	if m.rng.IntN(2) == 0 {
		req.Class = m.class(4)
	}
	want, wantNext := m.expect(req)
	taken, next := m.x.claim(req)
	var got []int64
	for _, n := range taken {
		s := m.x.slot(n)
		got = append(got, s.due)
		m.entries[s.id].owned = true
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("%+v claimed entries due at %v, want %v", req, got, want)
	}
	if next != wantNext && (wantNext > instant(req.Due) || next > instant(req.Due)) {
		m.t.Fatalf("%+v: next is %d, want %d", req, next, wantNext)
	}
}

// expect returns the due times that a claim should find.
func (m *indexModel) expect(req *spool.ClaimRequest) (want []int64, next int64) {
	var final, due []int64
	for _, e := range m.entries {
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
	for len(want) < req.Limit && len(final) > 0 {
		want, final = append(want, final[0]), final[1:]
	}
	for len(want) < req.Limit && len(due) > 0 && due[0] <= instant(req.Due) {
		want, due = append(want, due[0]), due[1:]
	}
	next = never
	if len(due) > 0 {
		next = due[0]
	}
	if len(final) > 0 {
		next = instant(req.Due)
	}
	return want, next
}

func checkCounts(t *testing.T, step int, x *index, want int) {
	t.Helper()
	n := 0
	for _, q := range x.queues {
		queued := 0
		for _, g := range q.classes {
			for i := range g.states {
				n += g.states[i].entries
			}
			queued += g.states[spool.Queued].entries
		}
		for _, s := range q.ages {
			queued -= s.n
		}
		if queued != 0 {
			t.Fatalf("step %d: queue %s has %d entries more than it knows the age of", step, q.name, queued)
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
