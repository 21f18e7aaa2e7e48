package recordlog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func TestQuery(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, &Options{PerType: map[queue.RecordType]TypeOptions{queue.Bounce: {Suffix: "b"}}})
	put(t, l, queue.Reception, 1, 2)
	put(t, l, queue.Delivery, 3)
	l.Rotate(t.Context())
	put(t, l, queue.Bounce, 4)
	put(t, l, queue.Delivery, 5)
	l.Close()
	at := func(n int) time.Time { return record(n, "").Time }
	for _, tt := range []struct {
		name string
		q    Query
		want []int
	}{
		{"all", Query{}, []int{1, 2, 3, 5, 4}},
		{"types", Query{Types: []queue.RecordType{queue.Bounce, queue.Reception}}, []int{1, 2, 4}},
		{"ID", Query{ID: spool.ID{15: 2}}, []int{2}},
		{"queue", Query{Queue: "EXAMPLE.com"}, []int{1, 2, 3, 5, 4}},
		{"another queue", Query{Queue: "example"}, nil},
		{"sender", Query{Sender: "A@example.org"}, []int{1, 2, 3, 5, 4}},
		{"recipient", Query{Recipient: "3@Example.com"}, []int{3}},
		{"time", Query{From: at(2), To: at(5)}, []int{2, 3, 4}},
		{"later", Query{From: time.Now().Add(time.Hour)}, nil},
		{"filter", Query{Filter: func(r *queue.Record) bool { return r.Size > 3 }}, []int{5, 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := numbers(t, dir, &tt.q)
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	for _, err := range Read(filepath.Join(dir, "missing"), nil) {
		if err == nil {
			t.Error("a missing directory was read")
		}
	}
}

// TestReadByID: what was finished before an ID was made is not even opened; what was
// written since, and a while before, is.
func TestReadByID(t *testing.T) {
	begin := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	for hour := range 10 {
		for _, suffix := range []string{"", "b"} {
			name := filepath.Join(dir, segmentName(begin.Add(time.Duration(hour)*time.Hour), suffix))
			if err := os.WriteFile(name, []byte("no zstd at all"), modeFinished); err != nil {
				t.Fatal(err)
			}
		}
	}
	made := func(at time.Time) (id spool.ID) {
		binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16|0x7000)
		return id
	}
	for _, tt := range []struct {
		name string
		q    Query
		want int // hours of which the segments are read
	}{
		{"from the beginning", Query{ID: made(begin.Add(-time.Hour))}, 10},
		{"from the middle", Query{ID: made(begin.Add(5*time.Hour + 30*time.Minute))}, 6}, // 4 to 9
		{"later", Query{ID: made(begin.Add(48 * time.Hour))}, 1},                         // what may be written yet
		{"of a clock that was ahead", Query{ID: made(begin.Add(48 * time.Hour)), From: begin}, 10},
		{"without a time", Query{ID: spool.ID{0: 0xff, 15: 1}}, 10},
	} {
		read := map[string]bool{}
		for _, err := range Read(dir, &tt.q) {
			damage, ok := errors.AsType[*CorruptError](err)
			if !ok {
				t.Fatal(err)
			}
			read[damage.Mark.Segment] = true
		}
		if len(read) != 2*tt.want {
			t.Errorf("%s: %d segments were read, want %d: %v", tt.name, len(read), 2*tt.want, read)
		}
	}
}

// A cursor goes on where it stood, in every stream.
func TestCursor(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, &Options{PerType: map[queue.RecordType]TypeOptions{queue.Bounce: {Suffix: "b"}}})
	put(t, l, queue.Delivery, 1, 2)
	put(t, l, queue.Bounce, 3, 4)
	l.Rotate(t.Context())
	put(t, l, queue.Delivery, 5)
	put(t, l, queue.Bounce, 6)
	l.Close()
	want := numbers(t, dir, nil)
	for stop := range len(want) + 1 {
		cursor, got := Cursor{}, []int(nil)
		for it := range Read(dir, nil) {
			if len(got) == stop {
				break
			}
			got = append(got, int(it.Record.Size))
			cursor.Advance(it.Mark)
		}
		kept, err := json.Marshal(cursor)
		if err != nil {
			t.Fatal(err)
		}
		var again Cursor
		if err := json.Unmarshal(kept, &again); err != nil {
			t.Fatal(err)
		}
		got = append(got, numbers(t, dir, &Query{After: again})...)
		slices.Sort(got)
		if !slices.Equal(got, upTo(6)) {
			t.Errorf("stopped after %d: %v", stop, got)
		}
	}
}

// TestFollow: what is there, what comes, over segments that end, and ones of other
// suffixes, until it is enough.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, &Options{MaxBytes: 2000, FlushInterval: 10 * time.Millisecond, PerType: map[queue.RecordType]TypeOptions{queue.Bounce: {Suffix: "b"}}})
	put(t, l, queue.Delivery, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for n := 2; n <= 40; n++ {
			typ := []queue.RecordType{queue.Delivery, queue.Bounce, queue.Reception}[n%3]
			if err := l.Record(t.Context(), record(n, typ)); err != nil {
				t.Error(err)
			}
		}
	}()
	var got []int
	cursor := Cursor{}
	for it, err := range Follow(ctx, dir, nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, int(it.Record.Size))
		if _, suffix, _ := parseName(it.Mark.Segment); it.Mark.Segment < cursor[suffix].Segment {
			t.Errorf("%v comes behind %v", it.Mark, cursor[suffix])
		}
		cursor.Advance(it.Mark)
		if len(got) == 40 {
			break
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, upTo(40)) {
		t.Errorf("%v", got)
	}
	put(t, l, queue.Delivery, 41)
	for it, err := range Follow(ctx, dir, &Query{After: cursor}) {
		if err != nil || it.Record.Size != 41 {
			t.Errorf("goes on with %+v, %v", it, err)
		}
		break
	}
	if ctx.Err() != nil {
		t.Error("it took a minute")
	}
	cancel()
	for range Follow(ctx, dir, &Query{After: cursor}) {
		t.Error("something came after the end of the context")
	}
}

// A segment that a crash has left is followed to its end once it is finished.
func TestFollowOrphan(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Delivery, 1)
	names, _ := segments(dir)
	data, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	if err := os.WriteFile(filepath.Join(crashed, names[0]), data[:len(data)-1], modeOpen); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var writer sync.WaitGroup
	writer.Go(func() {
		next, err := Open(crashed, &Options{Logger: quiet()})
		if err != nil {
			t.Error(err)
			return
		}
		defer next.Close()
		if err := next.Record(t.Context(), record(2, queue.Delivery)); err != nil {
			t.Error(err)
		}
	})
	came := false
	for it, err := range Follow(ctx, crashed, nil) {
		if err != nil {
			t.Error(err)
		}
		if came = err == nil && it.Record.Size == 2; came {
			break
		}
	}
	writer.Wait() // the record may be read before its writer is told
	if !came {
		t.Error("the record after the crash did not come")
	}
}

// TestClockSetBack: what is written after the clock was set back stands behind what was
// written before, for readers with a cursor too.
func TestClockSetBack(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Bounce, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names := must(segments(dir))
	ahead := segmentName(time.Now().Add(48*time.Hour), "") // by a clock that was wrong
	if err := os.Rename(filepath.Join(dir, names[0]), filepath.Join(dir, ahead)); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, nil)
	for _, n := range []int{2, 3} {
		put(t, l, queue.Bounce, n)
		if err := l.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := numbers(t, dir, nil); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("read %v", got)
	}
	cursor := Cursor{"": Mark{Segment: ahead, Line: 1}}
	if got := numbers(t, dir, &Query{After: cursor}); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("after %s: read %v in %v", ahead, got, must(segments(dir)))
	}
}

// TestFollowAdvances: whoever follows may advance the cursor that he began with.
func TestFollowAdvances(t *testing.T) {
	const n = 200
	dir := t.TempDir()
	types := []queue.RecordType{queue.Delivery, queue.Bounce, queue.Expiration, queue.AdminBounce}
	o := &Options{MaxBytes: 1, PerType: map[queue.RecordType]TypeOptions{}}
	for i, typ := range types {
		o.PerType[typ] = TypeOptions{Suffix: fmt.Sprint(i)}
	}
	l := mustOpen(t, dir, o)
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for i := range n {
			if err := l.Record(t.Context(), record(i+1, types[i%len(types)])); err != nil {
				t.Error(err)
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cursor, got := Cursor{}, []int{}
	for it, err := range Follow(ctx, dir, &Query{After: cursor}) {
		if err != nil {
			t.Fatal(err)
		}
		cursor.Advance(it.Mark)
		if got = append(got, int(it.Record.Size)); len(got) == n {
			break
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, upTo(n)) {
		t.Errorf("%d records, or others than were written", len(got))
	}
}

// TestListing: a list of segments that are made meanwhile has all that are older than
// any that it has.
func TestListing(t *testing.T) {
	const old, more = 2000, 2000
	dir := t.TempDir()
	name := func(i int) string { return segmentName(time.Date(2030, 1, 1, 0, 0, 0, i*1000, time.UTC), "") }
	put := func(i int) {
		if err := os.WriteFile(filepath.Join(dir, name(i)), nil, modeFinished); err != nil {
			t.Error(err)
		}
	}
	for i := range old {
		put(i)
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for i := range more {
			put(old + i)
		}
	})
	for n := 0; n < old+more; {
		names, err := segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		if n = len(names); names[n-1] != name(n-1) {
			t.Fatalf("%d segments, the last is %s, and not %s", n, names[n-1], name(n-1))
		}
	}
}
