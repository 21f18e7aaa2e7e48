package commits

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/bench/measure"
)

// A fakeStore remembers the beginnings of bodies, and fails after so many.
type fakeStore struct {
	fail int
	mu   struct {
		sync.Mutex
		bodies  map[string]int
		records map[string]bool
		senders map[*Sender]int
		closed  bool
	}
}

func newFakeStore(fail int) *fakeStore {
	s := &fakeStore{fail: fail}
	s.mu.bodies, s.mu.records, s.mu.senders = map[string]int{}, map[string]bool{}, map[*Sender]int{}
	return s
}

var errFake = errors.New("fake: broken")

func (s *fakeStore) Commit(_ context.Context, from *Sender, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.records) == s.fail {
		return errFake
	}
	id, record := from.Record()
	if !bytes.HasPrefix(record, id[:]) {
		return errors.New("fake: a record without its ID")
	}
	s.mu.bodies[string(body[:16])] = len(body)
	s.mu.records[string(record)] = true
	s.mu.senders[from]++
	return nil
}

func (s *fakeStore) Close() error {
	s.mu.closed = true
	return nil
}

func TestRun(t *testing.T) {
	s := newFakeStore(-1)
	r, err := NewLoad(s, t.TempDir(), 3, 1000).Run(t.Context(), Phase{Duration: time.Hour, Bytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	if r.Messages != 100 || r.Latency.Count() != 100 || len(s.mu.records) != 100 || r.Elapsed <= 0 || r.Rate() <= 0 {
		t.Errorf("%d messages, %d latencies, %d records, want 100; in %v", r.Messages, r.Latency.Count(), len(s.mu.records), r.Elapsed)
	}
	if len(s.mu.bodies) < 99 { // two of 16 million may be the same
		t.Errorf("%d different bodies of 100", len(s.mu.bodies))
	}
	for _, size := range s.mu.bodies {
		if size != 1000 {
			t.Fatalf("a body of %d bytes, want 1000", size)
		}
	}
}

// TestDuration lets only the time end a phase.
func TestDuration(t *testing.T) {
	l := NewLoad(newFakeStore(-1), t.TempDir(), 3, 16)
	begin := time.Now()
	r, err := l.Run(t.Context(), Phase{Duration: 5 * time.Millisecond, Bytes: 1 << 40})
	if err != nil || r.Messages < 1 || time.Since(begin) < 5*time.Millisecond {
		t.Errorf("%+v in %v, %v", r, time.Since(begin), err)
	}
	for _, p := range []Phase{{Bytes: 1 << 40}, {Duration: time.Hour}, {}} { // as on a machine that has no time for it
		if r, err := l.Run(t.Context(), p); err != nil || r.Messages != 1 {
			t.Errorf("%+v: %+v, %v; want one message", p, r, err)
		}
	}
}

func TestRunFails(t *testing.T) {
	if r, err := NewLoad(newFakeStore(10), t.TempDir(), 3, 1000).Run(t.Context(), Phase{Duration: time.Hour, Bytes: 100_000}); !errors.Is(err, errFake) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestEntries checks that an entry is like a real one, and a record as large.
func TestEntries(t *testing.T) {
	a, b := NewSender(1), NewSender(2)
	e := a.Entry([16]byte{1})
	if e.ID == a.Entry(e.Body).ID || e.Body != [16]byte{1} || e.Class == b.class || len(e.Meta) < 10 || e.Due.IsZero() {
		t.Errorf("%+v", e)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(e.Header), "\r\n"), "\r\n") {
		if len(line) > 78 || line == "" {
			t.Errorf("line %q", line)
		}
	}
	if _, r := a.Record(); len(r) < 880 || len(r) > 920 {
		t.Errorf("a record of %d bytes, want 900", len(r))
	}
}

func TestServe(t *testing.T) {
	s := newFakeStore(-1)
	var out bytes.Buffer
	in := strings.NewReader(`{"Committers":2,"Size":1000,"Warmup":{"Duration":1000000000,"Bytes":10000}}` + "\n" + `{"Duration":1000000000,"Bytes":20000}` + "\n")
	if err := Serve(in, &out, func(Config) (Store, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	var result Result
	replies := decode(t, &out)
	if len(replies) != 2 || replies[0].Error != "" || json.Unmarshal(replies[1].Value, &result) != nil || result.Messages != 20 {
		t.Errorf("%+v, %d messages", replies, result.Messages)
	}
	if len(s.mu.records) != 30 || !s.mu.closed {
		t.Errorf("%d messages with warming up, want 30; closed: %v", len(s.mu.records), s.mu.closed)
	}
}

func TestServeFails(t *testing.T) {
	for name, open := range map[string]func(Config) (Store, error){
		"open":   func(Config) (Store, error) { return nil, errFake },
		"commit": func(Config) (Store, error) { return newFakeStore(0), nil },
	} {
		var out bytes.Buffer
		in := strings.NewReader(`{"Committers":1,"Size":16,"Warmup":{"Duration":1000000000,"Bytes":10000}}` + "\n")
		if err := Serve(in, &out, open); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if replies := decode(t, &out); len(replies) != 1 || !strings.Contains(replies[0].Error, errFake.Error()) {
			t.Errorf("%s: %+v", name, replies)
		}
	}
}

func decode(t *testing.T, r io.Reader) (replies []measure.Reply) {
	t.Helper()
	for dec := json.NewDecoder(r); ; {
		var reply measure.Reply
		if err := dec.Decode(&reply); errors.Is(err, io.EOF) {
			return replies
		} else if err != nil {
			t.Fatal(fmt.Errorf("a reply: %w", err))
		}
		replies = append(replies, reply)
	}
}
