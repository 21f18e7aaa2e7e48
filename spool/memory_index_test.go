package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestMemoryIndex compares claims with what a look at every entry gives, while
// entries come, move and go at random.
func TestMemoryIndex(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			m := NewMemory()
			body := insertMany(t, m, 1, r)[0].Body
			for range 300 {
				step(t, m, body, r)
				checkIndex(t, m)
			}
		})
	}
}

func randomEntry(body ID, r *rand.Rand) *Entry {
	return &Entry{
		ID: NewID(), Body: body,
		Queue: string(rune('a' + r.IntN(4))), Class: string(rune('k' + r.IntN(3))),
		State: []State{Queued, Queued, Queued, Queued, Held, Final}[r.IntN(6)],
		Due:   time.Unix(int64(r.IntN(100)), 0), Received: time.Unix(int64(r.IntN(100)), 0),
	}
}

// insertMany commits n entries onto a new body, owned.
func insertMany(t testing.TB, m *Memory, n int, r *rand.Rand) []*Entry {
	w, err := m.Create(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]*Entry, n)
	for i := range entries {
		entries[i] = randomEntry(w.ID(), r)
	}
	if err := w.Commit(context.Background(), entries...); err != nil {
		t.Fatal(err)
	}
	return entries
}

// step does something, and checks it if it is a claim.
func step(t *testing.T, m *Memory, body ID, r *rand.Rand) {
	var owned []*Entry
	for _, e := range m.store.entries {
		if e.owner == m {
			owned = append(owned, e.Entry.Clone())
		}
	}
	slices.SortFunc(owned, func(a, b *Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	var u Unit
	switch k := r.IntN(10); {
	case k < 4:
		u = Unit{{Op: Insert, Entry: randomEntry(body, r), Keep: r.IntN(3) == 0}}
	case k < 8 && len(owned) > 0:
		e := owned[r.IntN(len(owned))]
		next := randomEntry(body, r)
		next.ID, next.Rev = e.ID, e.Rev
		u = Unit{{Op: []Op{Update, Update, Remove, Release}[r.IntN(4)], Entry: next, Keep: r.IntN(3) == 0}}
		if len(m.store.entries) == 1 && u[0].Op == Remove {
			return // the body is needed
		}
	default:
		checkClaim(t, m, r)
		return
	}
	if err := errors.Join(m.Apply(context.Background(), u)...); err != nil {
		t.Fatal(err)
	}
}

func checkClaim(t *testing.T, m *Memory, r *rand.Rand) {
	req := ClaimRequest{Due: time.Unix(int64(r.IntN(100)), 0), Limit: r.IntN(5)}
	if r.IntN(2) == 0 {
		req.Queues = []string{"a", "b", "x", "a"}[r.IntN(3):]
	}
	if r.IntN(2) == 0 {
		req.Except = []string{"b", "c", "y"}[r.IntN(3):]
	}
	if r.IntN(2) == 0 {
		req.Class = string(rune('k' + r.IntN(4)))
	}
	want, wantNext := modelClaim(m, req)
	got, next, err := m.Claim(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	// Final entries are due in the order of Due as well, so IDs compare.
	if !slices.EqualFunc(got, want, func(a, b *Entry) bool { return a.ID == b.ID }) {
		t.Fatalf("Claim(%+v): got %v, want %v", req, got, want)
	}
	if !next.Equal(wantNext) {
		t.Fatalf("Claim(%+v): got next %v, want %v", req, next, wantNext)
	}
}

// modelClaim is Claim by a look at every entry.
func modelClaim(m *Memory, req ClaimRequest) (claimed []*Entry, next time.Time) {
	var free []*memEntry
	for _, e := range m.store.entries {
		selected := (req.Queues == nil || slices.Contains(req.Queues, e.Queue)) &&
			!slices.Contains(req.Except, e.Queue) && (req.Class == "" || e.Class == req.Class)
		if e.owner == nil && (e.State == Final || e.State == Queued && selected) {
			free = append(free, e)
		}
	}
	slices.SortFunc(free, func(a, b *memEntry) int {
		if a.State != b.State {
			return int(b.State) - int(a.State) // Final first
		}
		if a.before(b) {
			return -1
		}
		return 1
	})
	for _, e := range free {
		due := e.State == Final || !e.Due.After(req.Due)
		switch {
		case due && len(claimed) < req.Limit:
			claimed = append(claimed, e.Entry.Clone())
		case due:
			return claimed, passed
		default:
			return claimed, e.Due
		}
	}
	return claimed, time.Time{}
}

// checkIndex compares the index with the entries.
func checkIndex(t *testing.T, m *Memory) {
	t.Helper()
	type counts struct {
		entries int64
		waiting int
		oldest  time.Time
	}
	want := make(map[memKey]counts)
	for _, e := range m.store.entries {
		c := want[memKey{e.Queue, e.Class, e.State}]
		c.entries++
		if c.entries == 1 || e.Received.Before(c.oldest) {
			c.oldest = e.Received
		}
		if e.owner == nil {
			c.waiting++
		}
		want[memKey{e.Queue, e.Class, e.State}] = c
	}
	x := m.store.index
	x.age(m.store.entries)
	if len(x.groups) != len(want) {
		t.Fatalf("%d groups, want %d", len(x.groups), len(want))
	}
	queues, classes, finals := map[string]int{}, map[string]int{}, 0
	for k, c := range want {
		g := x.groups[k]
		if g == nil || g.entries != c.entries || len(g.waiting.items) != c.waiting || !g.oldest.Equal(c.oldest) {
			t.Fatalf("group %v: got %+v, want %+v", k, g, c)
		}
		switch {
		case c.waiting == 0:
		case k.state == Queued:
			queues[k.queue]++
			classes[k.class]++
		case k.state == Final:
			finals++
		}
	}
	if len(x.queues) != len(queues) || len(x.order.items) != len(queues) || len(x.classes) != len(classes) || len(x.finals.items) != finals {
		t.Fatalf("index holds %d queues, %d in order, %d classes, %d finals; want %d, %d, %d, %d",
			len(x.queues), len(x.order.items), len(x.classes), len(x.finals.items), len(queues), len(queues), len(classes), finals)
	}
	for name, n := range queues {
		if len(x.queues[name].groups.items) != n {
			t.Fatalf("queue %s: %d groups wait, want %d", name, len(x.queues[name].groups.items), n)
		}
	}
	for name, n := range classes {
		if len(x.classes[name].items) != n {
			t.Fatalf("class %s: %d groups wait, want %d", name, len(x.classes[name].items), n)
		}
	}
}

// TestMemoryMany claims, one by one, from very many entries in very many
// queues, beside one large queue that is left out: a Claim that looked at all
// of them would take minutes.
func TestMemoryMany(t *testing.T) {
	const many = 100_000
	ctx := context.Background()
	m := NewMemory()
	r := rand.New(rand.NewPCG(1, 1))
	entries := insertMany(t, m, many, r)
	for i, e := range entries {
		e.State, e.Queue, e.Class = Queued, fmt.Sprint("queue", i), fmt.Sprint("class", i%1000)
		if i%2 == 0 {
			e.Queue = "large"
		}
		if errs := m.Apply(ctx, Unit{{Op: Update, Entry: e}}); errs != nil {
			t.Fatal(errs)
		}
	}
	start := time.Now()
	req := ClaimRequest{Except: []string{"large"}, Due: time.Unix(1000, 0), Limit: 1}
	last := time.Time{}
	for n := range many / 2 {
		req.Class = ""
		if n%10 == 0 && n < many/10 { // while no class is used up
			req.Class = fmt.Sprint("class", n%1000+1)
		}
		got, _, err := m.Claim(ctx, req)
		if err != nil || len(got) != 1 {
			t.Fatalf("Claim %d: got %d entries, %v", n, len(got), err)
		}
		if req.Class == "" && got[0].Due.Before(last) {
			t.Fatalf("Claim %d: due %v after one due %v", n, got[0].Due, last)
		} else if req.Class == "" {
			last = got[0].Due
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("%d claims took %v", many/2, took)
	}
}

func BenchmarkMemoryClaim(b *testing.B) {
	ctx := context.Background()
	m := NewMemory()
	entries := insertMany(b, m, 100_000, rand.New(rand.NewPCG(1, 1)))
	for _, e := range entries {
		e.State = Queued
		m.Apply(ctx, Unit{{Op: Update, Entry: e}})
	}
	for b.Loop() {
		got, _, err := m.Claim(ctx, ClaimRequest{Due: time.Unix(1000, 0), Limit: 1})
		if err != nil || len(got) != 1 {
			b.Fatal(len(got), err)
		}
		m.Apply(ctx, Unit{{Op: Update, Entry: got[0]}})
	}
}
