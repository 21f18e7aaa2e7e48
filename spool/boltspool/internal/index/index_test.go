package index

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// A modelEntry is an entry in the plain list that an index is compared with.
type modelEntry struct {
	Item
	body spool.ID
	rev  seglog.Place
}

// A model does the same to an index and to a list.
type model struct {
	t       *testing.T
	rng     *rand.Rand
	x       *Index
	live    map[uint32]int64
	entries map[spool.ID]*modelEntry
	bodies  map[spool.ID]Body
	ids     []spool.ID
	place   seglog.Place
	saved   map[spool.ID]Saved // by the snapshots so far
}

func newModel(t *testing.T) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(1, 2)), x: New(), live: map[uint32]int64{},
		entries: map[spool.ID]*modelEntry{}, bodies: map[spool.ID]Body{}, saved: map[spool.ID]Saved{}, place: seglog.At(1, 32),
	}
	m.x.Live = func(p seglog.Place, bytes int64) { m.live[p.Segment()] += bytes }
	return m
}

// next returns a place that was never given.
func (m *model) next() seglog.Place {
	m.place = m.place.Plus(1000)
	if m.place.Offset() > 50_000 {
		m.place = seglog.At(m.place.Segment()+1, 32)
	}
	return m.place
}

// TestModel compares the index with a plain list over random changes.
func TestModel(t *testing.T) {
	m := newModel(t)
	for step := range 8_000 {
		switch op := m.rng.IntN(20); {
		case op < 2 && len(m.ids) > 0:
			m.put(m.anyID())
		case op < 8 || len(m.ids) == 0:
			m.put(spool.NewID())
		case op < 12:
			m.remove(m.rng.IntN(len(m.ids)))
		case op < 14:
			m.release()
		case op < 15:
			m.moveEntry()
		case op < 16:
			m.moveBody()
		case op < 17 && m.rng.IntN(20) == 0:
			m.snapshot()
		default:
			m.claim()
		}
		if step%100 == 0 {
			m.check(step)
		}
	}
	for len(m.ids) > 0 {
		m.remove(0)
	}
	m.check(-1)
	if x := m.x; x.Len()+len(x.queues)+len(x.due)+len(x.finals)+len(x.files)+len(x.revs)+x.bodies.n != 0 || x.Bytes() != 0 {
		t.Errorf("an index without entries still holds something: %+v", x)
	}
}

func (m *model) anyID() spool.ID    { return m.ids[m.rng.IntN(len(m.ids))] }
func (m *model) queue(n int) string { return fmt.Sprint("q", m.rng.IntN(n)) }
func (m *model) class(n int) string { return fmt.Sprint("c", m.rng.IntN(n)) }

func (m *model) put(id spool.ID) {
	e := &modelEntry{Item: Item{
		ID: id, Place: m.next(), Length: 1 + m.rng.IntN(3000), Size: int64(m.rng.IntN(100)),
		State: spool.State(m.rng.IntN(3)), Owned: m.rng.IntN(3) == 0, Queue: m.queue(5), Class: m.class(12),
	}}
	e.Due = time.Unix(int64(m.rng.IntN(1000)), 0)
	e.Received, e.rev = e.Due, e.Place
	e.body, e.Body = m.body()
	if m.entries[id] == nil {
		m.ids = append(m.ids, id)
	}
	m.entries[id] = e
	m.x.Put(&e.Item)
	for _, id := range m.x.Sweep() {
		if !m.bodies[id].File {
			m.t.Fatalf("body %s counts as a file", id)
		}
	}
	m.forget()
}

// body returns a body, one that is shared at times.
func (m *model) body() (spool.ID, BodyRef) {
	if len(m.ids) > 0 && m.rng.IntN(3) == 0 {
		id := m.entries[m.anyID()].body
		ref, ok := m.x.FindBody(id)
		if !ok {
			m.t.Fatalf("body %s is not found", id)
		}
		return id, ref
	}
	id := spool.NewID()
	b := Body{Size: int64(m.rng.IntN(5000))}
	if m.rng.IntN(4) == 0 {
		b.File, b.Sum = true, m.rng.Uint32()
	} else {
		b.Place = m.next()
	}
	m.bodies[id] = b
	return id, m.x.AddBody(id, b)
}

// forget drops the bodies to which nothing refers.
func (m *model) forget() {
	used := map[spool.ID]bool{}
	for _, e := range m.entries {
		used[e.body] = true
	}
	for id := range m.bodies {
		if !used[id] {
			delete(m.bodies, id)
		}
		if _, ok := m.x.FindBody(id); ok != used[id] {
			m.t.Fatalf("body %s is found: %v, want %v", id, ok, used[id])
		}
	}
}

func (m *model) remove(i int) {
	id := m.ids[i]
	m.x.Remove(id)
	m.x.Sweep()
	delete(m.entries, id)
	m.ids = slices.Delete(m.ids, i, i+1)
	m.forget()
}

func (m *model) release() {
	e := m.entries[m.anyID()]
	if got := m.x.Release(e.ID); got != e.Owned {
		m.t.Fatalf("Release said %v of an entry whose owned is %v", got, e.Owned)
	}
	if e.Owned {
		e.Owned, e.rev = false, e.Place // who owns it next gets to know where it is now
	}
}

func (m *model) moveEntry() {
	e := m.entries[m.anyID()]
	to := m.next()
	if m.x.MoveEntry(e.ID, e.Place+1, to, 1) {
		m.t.Fatal("an entry moved from where it was not")
	}
	e.Length = 1 + m.rng.IntN(3000)
	if !m.x.MoveEntry(e.ID, e.Place, to, e.Length) {
		m.t.Fatal("an entry did not move")
	}
	e.Place = to
	if !e.Owned {
		e.rev = to
	}
}

func (m *model) moveBody() {
	id := m.entries[m.anyID()].body
	var refs []spool.ID
	for _, e := range m.entries {
		if e.body == id {
			refs = append(refs, e.ID)
		}
	}
	b, to := m.bodies[id], m.next()
	if m.x.MoveBody(id, b.Place, to, refs[1:]) || m.x.MoveBody(id, b.Place+1, to, refs) {
		m.t.Fatal("a body moved that should not")
	}
	if moved := m.x.MoveBody(id, b.Place, to, refs); moved == b.File {
		m.t.Fatalf("MoveBody said %v of a body in a file: %v", moved, b.File)
	}
	if !b.File {
		b.Place = to
		m.bodies[id] = b
	}
}

// snapshot keeps what a checkpoint would, or takes it back.
func (m *model) snapshot() {
	s := m.x.Snapshot()
	if m.rng.IntN(3) == 0 {
		m.x.Undo(s)
		return
	}
	for _, id := range s.Removed {
		delete(m.saved, id)
	}
	for _, v := range s.Puts {
		m.saved[v.ID] = v
	}
	m.loaded()
}

// loaded compares an index that is loaded from the snapshots.
func (m *model) loaded() {
	y, live := New(), map[uint32]int64{}
	y.Live = func(p seglog.Place, bytes int64) { live[p.Segment()] += bytes }
	y.Expect(m.rng.IntN(2*len(m.saved) + 1)) // what is said of a file that is damaged may be wrong
	for _, v := range m.saved {
		y.Load(&v)
	}
	if err := y.Check(live); err != nil {
		m.t.Fatalf("loaded from snapshots: %v", err)
	}
	if y.Len() != m.x.Len() || y.Bytes() != m.x.Bytes() || y.Dirty() != 0 {
		m.t.Fatalf("loaded from snapshots: %d entries, %d bytes, %d dirty, want %d, %d, 0", y.Len(), y.Bytes(), y.Dirty(), m.x.Len(), m.x.Bytes())
	}
	for id, e := range m.entries {
		got, ok := y.Find(id)
		if want, _ := m.x.Find(id); !ok || got.Place != want.Place || got.Size != want.Size || got.State != want.State || got.Length != want.Length {
			m.t.Fatalf("loaded from snapshots: got %+v, want %+v", got, want)
		}
		ref, _ := y.FindBody(e.body)
		b := y.Body(ref)
		b.Refs = 0
		if b != m.bodies[e.body] {
			m.t.Fatalf("loaded from snapshots: body %+v, want %+v", b, m.bodies[e.body])
		}
	}
}

func (m *model) check(step int) {
	m.t.Helper()
	if err := m.x.Check(m.live); err != nil {
		m.t.Fatalf("step %d: %v", step, err)
	}
	seen := map[spool.ID]bool{}
	for from := uint32(0); ; {
		from = m.x.Each(from, func(v *Visit) {
			e := m.entries[v.ID]
			if e == nil || v.Queue != e.Queue || v.Place != e.Place || seen[v.ID] {
				m.t.Fatalf("step %d: Each shows %+v", step, v)
			}
			seen[v.ID] = true
		})
		if from == 0 {
			break
		}
	}
	if len(seen) != len(m.entries) {
		m.t.Fatalf("step %d: Each shows %d entries, want %d", step, len(seen), len(m.entries))
	}
	for id, e := range m.entries {
		got, ok := m.x.Find(id)
		if !ok || got.Rev != uint64(e.rev) || got.Owned != e.Owned || got.Place != e.Place || got.Size != e.Size {
			m.t.Fatalf("step %d: got %+v, want %+v", step, got, e)
		}
	}
}

// claim compares what a random request gets with what it should.
func (m *model) claim() {
	m.t.Helper()
	req := &spool.ClaimRequest{Due: time.Unix(int64(m.rng.IntN(1000)), 0), Limit: m.rng.IntN(4)}
	if m.rng.IntN(2) == 0 {
		req.Queues = []string{m.queue(6), m.queue(6)}
	}
	if m.rng.IntN(2) == 0 {
		req.Except = []string{m.queue(5)}
	}
	if m.rng.IntN(2) == 0 {
		req.Class = m.class(13)
	}
	want, wantNext := m.expect(req)
	taken, next := m.x.Claim(req)
	var got []time.Time
	for _, e := range taken {
		got = append(got, m.entries[e.ID].Due)
		m.entries[e.ID].Owned = true
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		m.t.Fatalf("%+v claimed entries due at %v, want %v", req, got, want)
	}
	if !next.Equal(wantNext) && (wantNext.After(req.Due) || next.After(req.Due) || next.IsZero() || wantNext.IsZero()) {
		m.t.Fatalf("%+v: next is %v, want %v", req, next, wantNext)
	}
}

// expect returns the due times that a claim should find.
func (m *model) expect(req *spool.ClaimRequest) (want []time.Time, next time.Time) {
	var final, due []time.Time
	for _, e := range m.entries {
		switch {
		case e.Owned:
		case e.State == spool.Final:
			final = append(final, e.Due)
		case e.State == spool.Queued && (req.Queues == nil || slices.Contains(req.Queues, e.Queue)) &&
			!slices.Contains(req.Except, e.Queue) && (req.Class == "" || req.Class == e.Class):
			due = append(due, e.Due)
		}
	}
	slices.SortFunc(final, time.Time.Compare)
	slices.SortFunc(due, time.Time.Compare)
	for len(want) < req.Limit && len(final) > 0 {
		want, final = append(want, final[0]), final[1:]
	}
	for len(want) < req.Limit && len(due) > 0 && !due[0].After(req.Due) {
		want, due = append(want, due[0]), due[1:]
	}
	if len(due) > 0 {
		next = due[0]
	}
	if len(final) > 0 {
		next = req.Due
	}
	return want, next
}

func TestInstant(t *testing.T) {
	for _, test := range []struct {
		t       time.Time
		want    int64
		seconds uint32
	}{
		{time.Time{}, math.MinInt64, 0},
		{time.Unix(0, 0), 0, 0},
		{time.Unix(1, 5), 1e9 + 5, 1},
		{time.Unix(-1, 5), -1e9 + 5, 0},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), never - 1, math.MaxUint32},
	} {
		if got := instant(test.t); got != test.want {
			t.Errorf("instant(%v) is %d, want %d", test.t, got, test.want)
		}
		if got := seconds(test.t); got != test.seconds {
			t.Errorf("seconds(%v) is %d, want %d", test.t, got, test.seconds)
		}
		if fromSeconds(seconds(test.t)).After(test.t.Add(1)) {
			t.Errorf("%v is said to be later", test.t)
		}
	}
	if fromInstant(math.MinInt64).IsZero() {
		t.Error("the earliest instant became the zero time, which says that there is none")
	}
}

// TestTable compares a table with a map, with hashes that collide.
func TestTable(t *testing.T) {
	for _, spread := range []uint64{1, 7, 1 << 20, math.MaxUint64} {
		rng := rand.New(rand.NewPCG(3, spread))
		hashes := map[uint32]uint64{}
		tab := table{hash: func(n uint32) uint64 { return hashes[n] }}
		for n := range uint32(5000) {
			if m := rng.Uint32N(n + 1); rng.IntN(3) == 0 && n > 0 {
				if h, ok := hashes[m]; ok {
					if got, ok := tab.find(h, func(n uint32) bool { return n == m }); !ok || got != m {
						t.Fatalf("spread %d: %d is not found", spread, m)
					}
					tab.remove(m)
					delete(hashes, m)
					if _, ok := tab.find(h, func(n uint32) bool { return n == m }); ok {
						t.Fatalf("spread %d: %d is found after its removal", spread, m)
					}
				}
				continue
			}
			hashes[n] = rng.Uint64() % spread * 0x9E3779B97F4A7C15
			tab.add(n)
		}
		for n, h := range hashes {
			if _, ok := tab.find(h, func(m uint32) bool { return m == n }); !ok {
				t.Fatalf("spread %d: %d of %d is not found", spread, n, len(hashes))
			}
		}
	}
}

// TestExpect: what is expected, and a little more, makes no shard grow, and takes no more
// than growing would have.
func TestExpect(t *testing.T) {
	const n = 100_000
	rng := rand.New(rand.NewPCG(1, 1))
	hashes := make([]uint64, n)
	tab := table{hash: func(n uint32) uint64 { return hashes[n] }}
	tab.expect(n * 10 / 11)
	size := len(tab.shards[0].tags)
	for i := range hashes {
		hashes[i] = rng.Uint64()
		tab.add(uint32(i))
	}
	grown := 0 // there are a tenth more than was expected
	for i := range tab.shards {
		if len(tab.shards[i].tags) != size {
			grown++
		}
	}
	if grown > 0 || size*shards > 2*n {
		t.Errorf("%d of %d shards have grown, from %d places each", grown, shards, size)
	}
	for i, h := range hashes {
		if got, ok := tab.find(h, func(m uint32) bool { return m == uint32(i) }); !ok || got != uint32(i) {
			t.Fatalf("%d is not found", i)
		}
	}
}

// fill returns an index of n entries with bodies of their own.
func fill(n int) *Index {
	x := New()
	now := time.Now()
	var id spool.ID
	for i := range n {
		id = spool.NewID()
		binary.BigEndian.PutUint64(id[:], uint64(i))
		place := seglog.At(uint32(1+i/10000), 32+int64(i%10000)*5000)
		x.Put(&Item{
			ID: id, Due: now.Add(time.Duration(i*7919%n) * time.Millisecond), Received: now, Place: place, Length: 900, Size: 1000,
			Body: x.AddBody(id, Body{Place: place.Plus(1000), Size: 4000}), Queue: fmt.Sprintf("example%d.com", i%1000), Class: "tenant",
		})
		if i%1000 == 999 {
			x.Sweep()
			x.Snapshot()
		}
	}
	return x
}

// TestMemory bounds what an entry with a body of its own costs.
func TestMemory(t *testing.T) {
	const n = 400_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := fill(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perEntry := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes per entry", perEntry)
	if perEntry > 120 {
		t.Errorf("an entry costs %.0f bytes, want 120 at most", perEntry)
	}
	runtime.KeepAlive(x)
}

// BenchmarkClaim claims one of many entries and releases it.
func BenchmarkClaim(b *testing.B) {
	x := fill(1_000_000)
	req := &spool.ClaimRequest{Due: time.Now().Add(time.Hour), Limit: 1}
	for b.Loop() {
		taken, _ := x.Claim(req)
		x.Release(taken[0].ID)
	}
}

// BenchmarkPut puts a new entry with a body of its own beside many, and removes it.
func BenchmarkPut(b *testing.B) {
	x := fill(1_000_000)
	queue, class := "example7.com", "tenant"
	now := time.Now()
	for b.Loop() {
		id := spool.NewID()
		x.Put(&Item{
			ID: id, Due: now, Received: now, Place: seglog.At(1, 32), Length: 900, Size: 1000, Owned: true,
			Body: x.AddBody(id, Body{Place: seglog.At(1, 1032), Size: 4000}), Queue: queue, Class: class,
		})
		x.Remove(id)
		x.Sweep()
	}
}

// TestLength: what is counted of a record is hardly more than it has, however long
// it is.
func TestLength(t *testing.T) {
	for _, n := range []int{1, 15, 16, 17, 1000, 512<<10 - 16, 512<<10 - 15, 512 << 10, 1 << 20, 5<<20 + 1, 64 << 20} {
		if got := lengthOf(n).bytes(); got < int64(n) || got >= int64(n)+max(16, int64(n)/100) {
			t.Errorf("a record of %d bytes counts as %d", n, got)
		}
	}
}
