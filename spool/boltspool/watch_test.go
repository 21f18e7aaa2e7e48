package boltspool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
)

// TestWatch: what is left in a segment is not moved while it goes away by itself.
func TestWatch(t *testing.T) {
	const end = 1000
	start := time.Now()
	for _, tt := range []struct {
		name   string
		after  time.Duration // since the segment was seen with 200 bytes that are needed
		newest uint32        // segment; that was 7
		live   int64
		room   int64
		first  bool // it was not seen before
		idle   bool // whether it is left alone
	}{
		{name: "seen for the first time", live: 200, room: 5000, first: true, idle: true},
		{name: "again at once", after: time.Millisecond, newest: 7, live: 200, room: 5000, idle: true},
		{name: "a second later, as much", after: time.Second, newest: 7, live: 200, room: 5000},
		{name: "a second later, hardly less", after: time.Second, newest: 7, live: 160, room: 5000},
		{name: "a second later, less", after: time.Second, newest: 7, live: 149, room: 5000, idle: true},
		{name: "a segment later, as much", after: time.Millisecond, newest: 8, live: 200, room: 5000},
		{name: "a segment later, less", after: time.Millisecond, newest: 8, live: 149, room: 5000, idle: true},
		{name: "no room", live: 200, room: 799, first: true},
		{name: "just room", live: 200, room: 800, first: true, idle: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &watch{before: map[uint32]sighting{3: {200, start, 7}}, seen: map[uint32]sighting{}, now: start.Add(tt.after), newest: tt.newest, room: tt.room}
			if tt.first {
				clear(w.before)
			}
			if got := w.empties(seglog.Usage{Segment: 3, Live: tt.live, End: end}); got != tt.idle {
				t.Errorf("left alone: %v, want %v", got, tt.idle)
			}
			if _, watched := w.seen[3]; watched != tt.idle {
				t.Errorf("watched from now on: %v, want %v", watched, tt.idle)
			}
		})
	}
}

// TestWatchIdle: a spool in which nothing happens any more moves what is left.
func TestWatchIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTest(t, &Options{segmentSize: taleSegment})
		defer s.Close()
		small, filler := storeOne(t, s, noise(1000)), storeOne(t, s, noise(60_000))
		storeOne(t, s, noise(60_000))
		removeOne(t, s, filler)
		synctest.Wait()
		if got := s.Stats(); got.Moved != 0 {
			t.Errorf("%d bytes were moved at once", got.Moved)
		}
		time.Sleep(keeperRest)
		synctest.Wait()
		if got := s.Stats(); got.Moved < 1000 || got.Segments != 1 {
			t.Errorf("%+v, want that what was left was moved", got)
		}
		if _, err := readBody(t, s, small.Body); err != nil {
			t.Error(err)
		}
	})
}
