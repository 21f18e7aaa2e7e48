package recordlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
	"github.com/deferredqueue/deferredqueue/spool"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// record makes the n-th record.
func record(n int, t queue.RecordType) queue.Record {
	return queue.Record{
		Type: t, ID: spool.ID{14: byte(n >> 8), 15: byte(n)}, Sender: "a@example.org", Recipients: []string{fmt.Sprintf("%d@example.com", n)},
		Queue: "example.com", Size: int64(n), Time: time.Date(2020, 1, 2, 3, 4, 5, n, time.UTC), Created: time.Date(2030, 1, 2, 3, 0, 0, 0, time.UTC),
		Response: queue.Response{Code: 250, Content: "OK"}, Meta: map[string]string{"tenant": "acme", "ehlo_domain": "x"}, Headers: map[string]string{"Subject": "hi", "X-A": "1"},
	}
}

func mustOpen(t *testing.T, dir string, o *Options) *Log {
	t.Helper()
	var opts Options
	if o != nil {
		opts = *o
	}
	opts.Logger = quiet()
	l, err := Open(dir, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func put(t *testing.T, l *Log, typ queue.RecordType, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := l.Record(t.Context(), record(n, typ)); err != nil {
			t.Fatal(err)
		}
	}
}

// numbers lists the sizes, which are numbers here, of what Read yields.
func numbers(t *testing.T, dir string, q *Query) (all []int) {
	t.Helper()
	for it, err := range Read(dir, q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, int(it.Record.Size))
	}
	return all
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

func TestWriteAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "records")
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Reception, 1, 2)
	put(t, l, queue.Delivery, 3) // takes the others with it
	if got := numbers(t, dir, nil); !slices.Equal(got, upTo(3)) {
		t.Errorf("while it is written: %v", got)
	}
	put(t, l, queue.TransientFailure, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for it, err := range Read(dir, nil) {
		if err != nil {
			t.Fatal(err)
		}
		want := record(int(it.Record.Size), it.Record.Type)
		if got := fmt.Sprint(it.Record); got != fmt.Sprint(want) {
			t.Errorf("got  %s\nwant %v", got, want)
		}
	}
	if got := numbers(t, dir, nil); !slices.Equal(got, upTo(4)) {
		t.Errorf("at the end: %v", got)
	}
	if err := l.Record(t.Context(), record(5, queue.Bounce)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	checkFinished(t, dir, 1)
}

// checkFinished checks that there are so many segments, all of them read-only.
func checkFinished(t *testing.T, dir string, want int) {
	t.Helper()
	names, err := segments(dir)
	if err != nil || len(names) != want {
		t.Errorf("segments %q, %v, want %d", names, err, want)
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != modeFinished {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSelection(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, &Options{
		Meta: []string{"ten*"}, Headers: []string{"SUBJECT"},
		Filter: func(r *queue.Record) bool { return r.Size != 2 },
		PerType: map[queue.RecordType]TypeOptions{
			queue.Reception: {Off: true}, queue.Bounce: {Suffix: "failed", Meta: []string{}}, queue.Expiration: {Suffix: "failed"},
		},
	})
	put(t, l, queue.Delivery, 1, 2)
	put(t, l, queue.Reception, 3)
	put(t, l, queue.Bounce, 4)
	put(t, l, queue.Expiration, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkFinished(t, dir, 2)
	var got []string
	for it, err := range Read(dir, nil) {
		if err != nil {
			t.Fatal(err)
		}
		_, suffix, _ := parseName(it.Mark.Segment)
		got = append(got, fmt.Sprintf("%d %s %s %v %v", it.Record.Size, it.Record.Type, suffix, it.Record.Meta, it.Record.Headers))
	}
	want := []string{"1 Delivery  map[tenant:acme] map[Subject:hi]", "4 Bounce failed map[] map[Subject:hi]", "5 Expiration failed map[tenant:acme] map[Subject:hi]"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestRotation(t *testing.T) {
	t.Run("by size", func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, dir, &Options{MaxBytes: 1000})
		put(t, l, queue.Delivery, upTo(10)...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		checkFinished(t, dir, 5)
		if got := numbers(t, dir, nil); !slices.Equal(got, upTo(10)) {
			t.Errorf("%v", got)
		}
	})
	t.Run("by time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, dir, &Options{MaxDuration: time.Hour})
			put(t, l, queue.Delivery, 1)
			time.Sleep(59 * time.Minute)
			put(t, l, queue.Delivery, 2)
			time.Sleep(2 * time.Minute) // nothing is written, and yet it is finished
			checkFinished(t, dir, 1)
			put(t, l, queue.Delivery, 3)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			checkFinished(t, dir, 2)
		})
	})
	t.Run("by hand", func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, dir, nil)
		put(t, l, queue.Reception, 1)
		if err := l.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkFinished(t, dir, 1)
		put(t, l, queue.Delivery, 2)
		if got := numbers(t, dir, nil); !slices.Equal(got, upTo(2)) {
			t.Errorf("%v", got)
		}
	})
}

// Records that end nothing are on disk within the interval.
func TestFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := mustOpen(t, dir, &Options{FlushInterval: time.Minute})
		put(t, l, queue.Reception, 1)
		time.Sleep(59 * time.Second)
		if got := numbers(t, dir, nil); len(got) != 0 {
			t.Errorf("%v before the interval was over", got)
		}
		time.Sleep(2 * time.Second)
		if got := numbers(t, dir, nil); len(got) != 1 {
			t.Errorf("%v after the interval", got)
		}
		put(t, l, queue.Reception, 2)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := numbers(t, dir, nil); len(got) != 2 {
			t.Errorf("%v after Flush", got)
		}
	})
}

// Many at once share syncs, and each is acknowledged when it is on disk.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	fs := &countingFiles{}
	l, err := open(dir, must((&Options{Logger: quiet()}).withDefaults()), fs)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for n := range 64 {
		writers.Go(func() {
			for i := range 50 {
				if err := l.Record(t.Context(), record(n*50+i+1, queue.Bounce)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	got := numbers(t, dir, nil) // all are there before Close
	slices.Sort(got)
	if !slices.Equal(got, upTo(64*50)) {
		t.Errorf("%d records, want 3200, each once", len(got))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := fs.syncs; n > 64*50/2 {
		t.Errorf("%d syncs for 3200 records", n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type countingFiles struct {
	osFiles
	syncs int // the writer's
}

func (c *countingFiles) create(name string) (file, error) {
	f, err := c.osFiles.create(name)
	return &countingFile{f, c}, err
}

type countingFile struct {
	file
	c *countingFiles
}

func (f *countingFile) Sync() error {
	f.c.syncs++
	return f.file.Sync()
}

// A brokenFiles fails some calls.
type brokenFiles struct {
	osFiles
	mu   sync.Mutex
	fail string // the call that fails
}

func (b *brokenFiles) set(call string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = call
}

func (b *brokenFiles) check(call string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == call {
		return fmt.Errorf("%s: no space left on device", call)
	}
	return nil
}

func (b *brokenFiles) create(name string) (file, error) {
	if err := b.check("create"); err != nil {
		return nil, err
	}
	f, err := b.osFiles.create(name)
	return &brokenFile{f, b}, err
}

func (b *brokenFiles) syncDir(name string) error {
	return errors.Join(b.check("syncDir"), b.osFiles.syncDir(name))
}

type brokenFile struct {
	file
	b *brokenFiles
}

func (f *brokenFile) Write(p []byte) (int, error) {
	if err := f.b.check("write"); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f *brokenFile) Sync() error { return errors.Join(f.b.check("sync"), f.file.Sync()) }

// TestFailures: what fails is answered, what was taken is not lost, and it goes on when
// the disk does, whatever call had failed.
func TestFailures(t *testing.T) {
	for _, call := range []string{"create", "syncDir", "write", "sync"} {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprint(call, begun), func(t *testing.T) {
				dir := t.TempDir()
				fs := &brokenFiles{}
				l, err := open(dir, must((&Options{Logger: quiet(), FlushInterval: time.Hour}).withDefaults()), fs)
				if err != nil {
					t.Fatal(err)
				}
				if begun {
					put(t, l, queue.Delivery, 1)
				}
				put(t, l, queue.Reception, 2) // taken
				fs.set(call)
				for range 3 {
					err := l.Record(t.Context(), record(3, queue.Delivery))
					if (err == nil) != (begun && (call == "create" || call == "syncDir")) {
						t.Fatalf("got %v", err)
					}
				}
				fs.set("")
				put(t, l, queue.Reception, 4)
				put(t, l, queue.Delivery, 3)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				got := numbers(t, dir, nil)
				slices.Sort(got)
				want := upTo(4)
				if !begun {
					want = want[1:]
				}
				if once := slices.Compact(slices.Clone(got)); !slices.Equal(once, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if len(got) > 4+3*2 { // at most once more for each call that failed
					t.Errorf("too much is there again: %v", got)
				}
			})
		}
	}
}

func TestRecordContext(t *testing.T) {
	l := mustOpen(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(ctx, record(1, queue.Bounce)); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MaxBytes: -1}, {FlushInterval: -1}, {Level: 23}, {PerType: map[queue.RecordType]TypeOptions{queue.Bounce: {Suffix: "a/b"}}}} {
		if _, err := Open(t.TempDir(), &o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, err := Open("", nil); err == nil {
		t.Error("no directory was accepted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, nil); err == nil {
		t.Error("a file was accepted as a directory")
	}
}

// TestOrphans: the segments of a process that is gone are finished, and a directory has
// one writer.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Delivery, 1)
	if _, err := Open(dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Log: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := segments(dir)
	orphan := filepath.Join(dir, names[0])
	if err := os.Chmod(orphan, modeOpen); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir, nil)
	if info, err := os.Stat(orphan); err != nil || info.Mode().Perm() != modeFinished {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	put(t, again, queue.Delivery, 2)
	if got := numbers(t, dir, nil); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("%v", got)
	}
}

// TestTorn: a segment that is torn off anywhere can be read up to there.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Delivery, upTo(5)...) // each with a flush of its own
	l.Close()
	names, _ := segments(dir)
	data, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for n := range len(data) + 1 {
		count := 0
		ok := decode(bytes.NewReader(data[:n]), names[0], nil, func(it *Item, err error) bool {
			if err != nil {
				t.Errorf("at %d of %d bytes: %v", n, len(data), err)
				return true
			}
			if count++; int(it.Record.Size) != count {
				t.Errorf("at %d bytes: record %d is %d", n, count, it.Record.Size)
			}
			return true
		})
		if !ok || count < last {
			t.Errorf("at %d bytes there are %d records, there were %d before", n, count, last)
		}
		last = count
	}
	if last != 5 {
		t.Errorf("%d records in all of it", last)
	}
}

// TestDamage: what is damaged is reported, and the other segments are read.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Delivery, 1)
	l.Rotate(t.Context())
	put(t, l, queue.Delivery, 2)
	l.Close()
	names, _ := segments(dir)
	path := filepath.Join(dir, names[0])
	data, _ := os.ReadFile(path)
	os.Chmod(path, modeOpen)
	for i := range data {
		spoilt := slices.Clone(data)
		spoilt[i] ^= 0x10
		if err := os.WriteFile(path, spoilt, modeOpen); err != nil {
			t.Fatal(err)
		}
		second := false
		for it, err := range Read(dir, nil) {
			var damage *CorruptError
			if err != nil && (!errors.As(err, &damage) || damage.Mark.Segment != names[0]) {
				t.Errorf("byte %d: %v", i, err)
			}
			second = second || err == nil && it.Record.Size == 2
		}
		if !second {
			t.Errorf("byte %d: the other segment was not read", i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	for n := range 3 {
		l.Record(context.Background(), record(n, queue.Bounce))
	}
	l.Close()
	names, _ := segments(dir)
	data, err := os.ReadFile(filepath.Join(dir, names[0]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		decode(bytes.NewReader(data), names[0], nil, func(it *Item, err error) bool {
			if (it == nil) == (err == nil) {
				t.Error("neither record nor error, or both")
			}
			return true
		})
	})
}

// The lines are KumoMTA's log_record: what DESIGN's list of fields has.
func TestShape(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	put(t, l, queue.Delivery, 1)
	for it, err := range Read(dir, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"type", "id", "sender", "recipient", "queue", "site", "size", "response", "peer_address", "timestamp", "event_time",
			"created", "created_time", "num_attempts", "meta", "headers", "delivery_protocol", "reception_protocol", "nodeid", "session_id"} {
			if !bytes.Contains(it.JSON, []byte(`"`+field+`":`)) {
				t.Errorf("no %s in %s", field, it.JSON)
			}
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, typ := range []queue.RecordType{queue.Reception, queue.Delivery} {
		b.Run(string(typ), func(b *testing.B) {
			dir := b.TempDir()
			l, err := Open(dir, &Options{Logger: quiet()})
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(40)
			b.RunParallel(func(pb *testing.PB) {
				for n := 0; pb.Next(); n++ {
					if err := l.Record(b.Context(), record(n, typ)); err != nil {
						b.Error(err)
					}
				}
			})
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			var size int64
			names, _ := segments(dir)
			for _, name := range names {
				info, _ := os.Stat(filepath.Join(dir, name))
				size += info.Size()
			}
			b.ReportMetric(float64(size)/float64(b.N), "bytes/record")
		})
	}
}
