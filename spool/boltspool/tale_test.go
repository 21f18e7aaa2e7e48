package boltspool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A tale is a spool that one client fills and empties at random, with segments so
// small that they are taken away and emptied all the time, and what the client
// knows of it.
type tale struct {
	t    *testing.T
	s    *Spool
	opts Options
	rng  *rand.Rand

	live   map[spool.ID]*spool.Entry // as the spool must know it
	bodies map[spool.ID][]byte
	ended  map[spool.ID][2]uint32 // by what segments: one from the first to the last says so
}

const taleSegment = 64 << 10

func newTale(t *testing.T, seed uint64) *tale {
	t.Helper()
	l := &tale{
		t: t, opts: Options{segmentSize: taleSegment, Logger: quiet}, rng: rand.New(rand.NewPCG(seed, 1)),
		live: map[spool.ID]*spool.Entry{}, bodies: map[spool.ID][]byte{}, ended: map[spool.ID][2]uint32{},
	}
	l.s = openTest(t, fastDir(t), &l.opts)
	return l
}

// run does n things.
func (l *tale) run(n int) {
	l.t.Helper()
	for range n {
		l.step()
	}
}

func (l *tale) step() {
	l.t.Helper()
	switch k := l.rng.IntN(20); {
	case k < 6:
		l.store(l.size(), 1+l.rng.IntN(3))
	case k < 10:
		l.update()
	case k < 12:
		l.split()
	case k < 18:
		l.remove()
	case k == 18:
		l.tidy()
	default:
		if l.rng.IntN(4) == 0 {
			l.reopen(l.rng.IntN(2) == 0)
		}
	}
}

func (l *tale) size() int {
	sizes := [...]int{0, 1, 300, 300, 300, 4000, 4000, 20_000, taleSegment, maxSegmentBody + 1}
	if n := sizes[l.rng.IntN(len(sizes))]; n <= taleSegment || l.rng.IntN(4) == 0 {
		return n
	}
	return 4000
}

// pick returns any entry, nil if there is none.
func (l *tale) pick() *spool.Entry {
	if len(l.live) == 0 {
		return nil
	}
	ids := slices.SortedFunc(maps.Keys(l.live), compareIDs)
	return l.live[ids[l.rng.IntN(len(ids))]]
}

// apply makes one unit durable, and takes note of it.
func (l *tale) apply(u spool.Unit) {
	l.t.Helper()
	first := l.segment()
	if errs := l.s.Apply(l.t.Context(), u); errs != nil {
		l.t.Fatalf("Apply: %v", errs)
	}
	last := l.segment()
	for _, c := range u {
		if c.Op == spool.Remove {
			delete(l.live, c.Entry.ID)
			l.ended[c.Entry.ID] = [2]uint32{first, last}
		} else {
			l.live[c.Entry.ID] = c.Entry
		}
	}
}

// segment returns the one in which the log ends.
func (l *tale) segment() uint32 {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.s.mu.end.Place.Segment()
}

// mayReturn reports whether Rebuild may bring back what has ended.
func (l *tale) mayReturn(dir string, id spool.ID) bool {
	for n := l.ended[id][0]; n <= l.ended[id][1]; n++ {
		if !hasSegment(dir, n) {
			return true
		}
	}
	return false
}

// stage writes a body of n bytes that is like no other.
func (l *tale) stage(n int) spool.Writer {
	l.t.Helper()
	w, err := l.s.Create(l.t.Context(), int64(n))
	if err != nil {
		l.t.Fatal(err)
	}
	b := bytes.Repeat([]byte{byte(l.rng.IntN(256)), byte(l.rng.IntN(256)), '\n'}, n/3+1)[:n]
	if _, err := w.Write(b); err != nil {
		l.t.Fatal(err)
	}
	l.bodies[w.ID()] = b
	return w
}

// store inserts entries that share one body.
func (l *tale) store(size, n int) []*spool.Entry {
	l.t.Helper()
	w := l.stage(size)
	defer w.Abort()
	var u spool.Unit
	var entries []*spool.Entry
	for range n {
		e := l.entry(w.ID())
		entries = append(entries, e)
		u = append(u, spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true})
	}
	l.apply(u)
	return entries
}

func (l *tale) entry(body spool.ID) *spool.Entry {
	now := time.Unix(1_700_000_000+l.rng.Int64N(1000), l.rng.Int64N(1e9)).UTC()
	return &spool.Entry{
		ID: spool.NewID(), Body: body, Queue: fmt.Sprintf("queue%d", l.rng.IntN(3)), Class: fmt.Sprintf("class%d", l.rng.IntN(2)),
		Due: now.Add(time.Hour), Received: now,
		Envelope: spool.Envelope{Sender: "a@example.org", Recipients: []spool.Recipient{{Address: fmt.Sprintf("b%d@example.org", l.rng.IntN(100))}}},
		Meta:     map[string]string{"tenant": "t"}, Header: []byte("Received: by test\r\n"),
	}
}

// update changes an entry, and now and then gives it another body.
func (l *tale) update() {
	l.t.Helper()
	old := l.pick()
	if old == nil {
		return
	}
	e := old.Clone()
	e.Attempts++
	e.LastError = string(bytes.Repeat([]byte("no "), l.rng.IntN(30)))
	e.State = spool.State(l.rng.IntN(3))
	if l.rng.IntN(2) == 0 {
		e.Queue, e.Header = "other", append(e.Header, "X-Signed: yes\r\n"...)
	}
	c := spool.Change{Op: spool.Update, Entry: e, Keep: true}
	if l.rng.IntN(4) == 0 {
		w := l.stage(l.size())
		defer w.Abort()
		e.Body, c.Stage = w.ID(), w
	}
	l.apply(spool.Unit{c})
}

// split puts more entries on the body of one, which may end with that.
func (l *tale) split() {
	l.t.Helper()
	old := l.pick()
	if old == nil {
		return
	}
	u := spool.Unit{{Op: spool.Insert, Entry: l.entry(old.Body), Keep: true}, {Op: spool.Insert, Entry: l.entry(old.Body), Keep: true}}
	if l.rng.IntN(2) == 0 {
		u = append(u, spool.Change{Op: spool.Remove, Entry: old})
	}
	l.apply(u)
}

// remove ends entries.
func (l *tale) remove() {
	l.t.Helper()
	for range 1 + l.rng.IntN(3) {
		if e := l.pick(); e != nil {
			l.apply(spool.Unit{{Op: spool.Remove, Entry: e}})
		}
	}
}

// tidy has the keeper do all that it has to.
func (l *tale) tidy() {
	l.t.Helper()
	if !l.s.keeper.run(func() { l.s.keeper.work() }) {
		l.t.Fatal("the spool is closed")
	}
}

// reopen ends the spool, by a crash or not, and makes all entries its own again.
func (l *tale) reopen(crash bool) {
	l.t.Helper()
	if crash {
		abandon(l.s)
	} else if err := l.s.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.s = openTest(l.t, l.s.dir, &l.opts)
	l.check(l.s)
	l.claim()
}

func (l *tale) claim() {
	l.t.Helper()
	if len(l.live) == 0 {
		return
	}
	entries, _, err := l.s.Claim(l.t.Context(), spool.ClaimRequest{IDs: slices.Collect(maps.Keys(l.live))})
	if err != nil || len(entries) != len(l.live) {
		l.t.Fatalf("Claim: %d entries of %d, error %v", len(entries), len(l.live), err)
	}
	for _, e := range entries {
		l.live[e.ID] = e
	}
}

// check compares a spool with what is known: all is there that is live, byte for
// byte, and nothing that has ended.
func (l *tale) check(s *Spool) {
	l.t.Helper()
	if back := l.compare(s); len(back) > 0 {
		l.t.Errorf("%d entries came back that had ended: %v", len(back), back)
	}
}

// compare is check, and returns what has ended and is there.
func (l *tale) compare(s *Spool) (back []spool.ID) {
	l.t.Helper()
	found := map[spool.ID]bool{}
	for e, err := range s.Scan(l.t.Context(), spool.Query{}) {
		if err != nil {
			l.t.Errorf("Scan: %v", err)
			continue
		}
		found[e.ID] = true
		want := l.live[e.ID]
		if _, ended := l.ended[e.ID]; ended && want == nil {
			back = append(back, e.ID)
			continue
		}
		if err := l.same(s, e, want); err != nil {
			l.t.Errorf("entry %s: %v", e.ID, err)
		}
	}
	for id := range l.live {
		if !found[id] {
			l.t.Errorf("entry %s is lost", id)
		}
	}
	return back
}

func (l *tale) same(s *Spool, got, want *spool.Entry) error {
	if want == nil {
		return errors.New("nobody knows it")
	}
	a, b := got.Clone(), want.Clone()
	a.Rev, b.Rev = 0, 0
	if !reflect.DeepEqual(a, b) {
		return fmt.Errorf("got %+v, want %+v", a, b)
	}
	text, err := readBody(l.t, s, got.Body)
	if err == nil && !bytes.Equal(text, l.bodies[got.Body]) {
		err = fmt.Errorf("its body %s has %d bytes which are not the %d that were stored", got.Body, len(text), len(l.bodies[got.Body]))
	}
	return err
}

// hasSegment reports whether a segment is there.
func hasSegment(dir string, n uint32) bool {
	_, err := os.Stat(segmentFile(dir, n))
	return err == nil
}

// checkpointNow writes a checkpoint.
func checkpointNow(t *testing.T, s *Spool) {
	t.Helper()
	var err error
	if !s.keeper.run(func() { err = s.keeper.checkpoint() }) {
		err = context.Canceled
	}
	if err != nil {
		t.Fatal(err)
	}
}
