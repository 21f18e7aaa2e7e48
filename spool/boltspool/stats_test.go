package boltspool

import (
	"encoding/json"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
)

// TestStats does things one by one, and counts with it.
func TestStats(t *testing.T) {
	s := newTest(t, nil)
	if got, want := s.Stats(), (Stats{}); got != want {
		t.Errorf("a new spool: got %+v, want %+v", got, want)
	}
	check := func(what string, entries int, groups, changes int64) {
		t.Helper()
		want := recount(t, s)
		want.Groups, want.Changes, want.Segments = groups, changes, 1
		s.mu.Lock()
		want.SegmentBytes = s.mu.end.Place.Offset()
		s.mu.Unlock()
		want.Written = want.SegmentBytes - 32 // with which a segment begins
		got := s.Stats()
		if got.SpareBytes, got.Checkpoints = 0, 0; got != want || got.Entries != entries {
			t.Errorf("%s: got %+v, want %+v with %d entries", what, got, want, entries)
		}
	}
	a, b := storeOne(t, s, noise(1000)), storeOne(t, s, noise(maxSegmentBody+1))
	check("two messages", 2, 2, 2)
	updateOne(t, s, a)
	check("an update", 2, 3, 3)
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: a}, {Op: spool.Insert, Entry: testEntry(b.Body)}, {Op: spool.Insert, Entry: testEntry(b.Body)}}); errs != nil {
		t.Fatal(errs)
	}
	check("a split", 3, 4, 6)
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Release, Entry: b}}); errs != nil {
		t.Fatal(errs)
	}
	check("a release, which is not written", 3, 4, 6)
	before := s.Stats().Checkpoints
	checkpointNow(t, s)
	if got := s.Stats().Checkpoints; got != before+1 {
		t.Errorf("%d checkpoints, want one more than %d", got, before)
	}
	s.Close()
	after := s.Stats()
	for _, readOnly := range []bool{true, false} {
		s, err := Open(s.dir, &Options{ReadOnly: readOnly, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Stats()
		want := Stats{Entries: 3, Bytes: after.Bytes, LiveBytes: after.LiveBytes, Segments: 1, SegmentBytes: after.SegmentBytes, SpareBytes: got.SpareBytes}
		if got != want {
			t.Errorf("opened again, read only %v: got %+v, want %+v", readOnly, got, want)
		}
		s.Close()
	}
}

// recount returns what Stats says of what is stored, counted anew.
func recount(t *testing.T, s *Spool) (st Stats) {
	t.Helper()
	bodies := map[index.BodyRef]bool{}
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		at, _ := s.mu.index.Find(e.ID)
		body := s.mu.index.Body(at.Body)
		s.mu.Unlock()
		st.Entries++
		st.Bytes += at.Length
		st.LiveBytes += at.Length
		if bodies[at.Body] {
			continue
		}
		bodies[at.Body] = true
		if st.Bytes += body.Size; !body.File {
			st.LiveBytes += frameHeader + body.Size
		}
	}
	return st
}

// TestStatsRandom compares the figures with what is there, after everything that
// happens to a spool.
func TestStatsRandom(t *testing.T) {
	l := newTale(t, 3)
	for range 20 {
		l.run(20)
		l.tidy() // nothing is moved while it is counted
		got, want := l.s.Stats(), recount(t, l.s)
		if got.Entries != want.Entries || got.Bytes != want.Bytes || got.LiveBytes != want.LiveBytes || got.SetAside != 0 {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got.LiveBytes > got.SegmentBytes || got.Entries != len(l.live) {
			t.Errorf("with %d entries: impossible: %+v", len(l.live), got)
		}
	}
}

// TestStatsMoved: what is left in a segment is moved, and its space used again.
func TestStatsMoved(t *testing.T) {
	s := newTest(t, &Options{segmentSize: taleSegment, manual: true})
	small, filler := storeOne(t, s, noise(1000)), storeOne(t, s, noise(60_000))
	storeOne(t, s, noise(60_000))
	removeOne(t, s, filler)
	s.keeper.run(func() { s.keeper.work() })
	s.mu.Lock()
	at, _ := s.mu.index.Find(small.ID)
	s.mu.Unlock()
	if got := s.Stats(); got.Moved < 1000 || got.Moved > 1000+at.Length || got.SpareBytes == 0 || got.Segments != 1 {
		t.Errorf("got %+v, want the 1000 bytes of a body and its record to have been moved, and a spare", got)
	}
}

// TestStatsDamage: what is set aside is counted, and its entries are among the
// entries.
func TestStatsDamage(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	lost, bad, e := storeOne(t, s, noise(10)), storeOne(t, s, noise(10)), storeOne(t, s, noise(10))
	for _, victim := range []*spool.Entry{lost, bad} {
		name, off, err := entryFile(s, victim.ID)
		if err != nil {
			t.Fatal(err)
		}
		flip(t, name, off+25)
	}
	s.Close()
	spoilRecord(t, s.dir, lost.ID, spoils["place"])
	s = openTest(t, s.dir, nil)
	if _, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{bad.ID, e.ID}}); err == nil {
		t.Error("a damaged entry is not reported")
	}
	got := s.Stats()
	if got.Entries != 3 || got.SetAside != 2 {
		t.Errorf("got %+v, want 3 entries and 2 set aside", got)
	}
	text, err := json.Marshal(got)
	var back Stats
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || back != got {
		t.Errorf("as JSON: %s, error %v", text, err)
	}
}
