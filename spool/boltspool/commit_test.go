package boltspool

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestLinger checks how long a group is collected, in virtual time.
func TestLinger(t *testing.T) {
	for _, test := range []struct {
		name            string
		commit          time.Duration
		clients         int // when the last group closed
		pending, arrive int // arrive one by one, 100 us apart
		want            time.Duration
	}{
		{"a single client", 4 * time.Millisecond, 1, 1, 0, 0},
		{"the first group", 0, 0, 1, 0, 0},
		{"all are back", 4 * time.Millisecond, 3, 3, 0, 0},
		{"more than before", 4 * time.Millisecond, 3, 5, 0, 0},
		{"one comes back", 4 * time.Millisecond, 2, 1, 1, 100 * time.Microsecond},
		{"some come back", 4 * time.Millisecond, 4, 1, 2, time.Millisecond},
		{"nobody comes back", 4 * time.Millisecond, 2, 1, 0, time.Millisecond},
		{"a slow disk", time.Second, 2, 1, 0, maxLinger},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := inbox{wake: make(chan struct{}, 1)}
				add := func() {
					if enough, err := in.add(&request{}); err != nil {
						t.Error(err)
					} else if enough {
						in.hint()
					}
				}
				for range test.pending {
					add()
				}
				go func() {
					for range test.arrive {
						time.Sleep(100 * time.Microsecond)
						add()
					}
				}()
				p := pacer{clients: test.clients, commit: test.commit}
				start := time.Now()
				p.linger(&in, test.pending)
				if took := time.Since(start); took != test.want {
					t.Errorf("the group was collected for %v, want %v", took, test.want)
				}
			})
		})
	}
}

func TestTakeLimits(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes int
		bytes   int64
		want    int
	}{
		{"changes", maxGroupChanges / 4, 0, 4},
		{"bytes", 1, maxGroupBytes / 2, 2},
		{"one that is too large goes alone", 1, 2 * maxGroupBytes, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := inbox{wake: make(chan struct{}, 1)}
			for range 10 {
				in.mu.pending = append(in.mu.pending, &request{changes: test.changes, bytes: test.bytes})
			}
			if n := len(in.take(nil)); n != test.want {
				t.Errorf("the group has %d requests, want %d", n, test.want)
			}
			if left, _ := in.state(); left != 10-test.want {
				t.Errorf("%d requests are left, want %d", left, 10-test.want)
			}
		})
	}
}

// TestWaitingLimits: bodies that are in memory anyway are no reason to refuse more.
func TestWaitingLimits(t *testing.T) {
	in := &newSpool("", Options{StageMemory: 10 << 20}).inbox
	fill := func(fresh bool) (bytes int64) {
		for {
			r := &request{fresh: fresh, bytes: 1 << 20}
			if _, err := in.add(r); err != nil {
				if !errors.Is(err, spool.ErrBusy) {
					t.Errorf("got %v, want ErrBusy", err)
				}
				return in.mu.bytes
			}
		}
	}
	if got, want := fill(true), int64(maxWaitingBytes+10<<20); got != want {
		t.Errorf("%d bytes of new mail wait, want %d", got, want)
	}
	if got, want := fill(false), int64(4*(maxWaitingBytes+10<<20)); got != want {
		t.Errorf("%d bytes wait, want %d", got, want)
	}
}

// TestLikeID: the index knows of the ID of a body its random half alone. That two
// are the same is next to impossible, and no reason to lose a message.
func TestLikeID(t *testing.T) {
	s := newTest(t, nil)
	first := storeOne(t, s, noise(100))
	w, err := s.Create(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	copy(w.(*writer).id[8:], first.Body[8:])
	if _, err := w.Write(noise(200)); err != nil {
		t.Fatal(err)
	}
	e := testEntry(w.ID())
	if err := w.Commit(t.Context(), e); err == nil {
		t.Errorf("a body was taken for another")
	}
	if b, err := readBody(t, s, first.Body); err != nil || !bytes.Equal(b, noise(100)) {
		t.Errorf("the other body: %d bytes, error %v", len(b), err)
	}
	removeAll(t, s, []*spool.Entry{first})
	if err := w.Commit(t.Context(), e); err != nil {
		t.Errorf("when the other is gone: %v", err)
	}
}
