package boltspool

import (
	"bytes"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestHealMovedBody: of a body that was moved behind the checkpoint the checkpoint
// said only in a record that is damaged how long it is.
func TestHealMovedBody(t *testing.T) {
	opts := &Options{segmentSize: 64 << 10, manual: true, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	first := storeMany(t, s, 5000, 1)[0]
	passing := storeMany(t, s, 40_000, 1)
	storeMany(t, s, 40_000, 1)
	next := first.Clone()
	next.Attempts++
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
		t.Fatal(errs)
	}
	storeMany(t, s, 40_000, 1)
	work(t, s)
	second := testEntry(first.Body)
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Insert, Entry: second}}); errs != nil {
		t.Fatal(errs)
	}
	removeAll(t, s, passing)
	before, err := s.findBody(first.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.keeper.run(func() { s.keeper.collect() })
	if after, err := s.findBody(first.Body); err != nil || after.Place == before.Place {
		t.Fatalf("the body was not moved: at %v, error %v", after.Place, err)
	}
	abandon(s)
	if !spoilRecord(t, s.dir, first.ID, spoils["checksum"]) {
		t.Fatal("there is no record to be damaged")
	}

	s = openTest(t, s.dir, opts)
	defer s.Close()
	for e, err := range s.Scan(t.Context(), spool.Query{}) {
		if err != nil {
			t.Error(err)
			continue
		}
		if b, err := readBody(t, s, e.Body); err != nil {
			t.Errorf("entry %s: %v", e.ID, err)
		} else if e.Body == first.Body && (!bytes.Equal(b, noise(5000)) || e.Size != int64(5000+len(e.Header))) {
			t.Errorf("entry %s: a body of %d bytes, and a size of %d", e.ID, len(b), e.Size)
		}
	}
	if err := checkIndex(s); err != nil {
		t.Error(err)
	}
}
