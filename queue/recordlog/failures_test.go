package recordlog

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/queue"
)

// A smallDisk has only so much room; what is deleted or cut off comes back.
type smallDisk struct {
	osFiles
	mu   sync.Mutex
	room int64
}

type smallFile struct {
	file
	disk *smallDisk
	size int64
}

func (d *smallDisk) create(name string) (file, error) {
	f, err := d.osFiles.create(name)
	return &smallFile{file: f, disk: d}, err
}

func (d *smallDisk) remove(name string) error {
	if info, err := os.Stat(name); err == nil {
		d.add(info.Size())
	}
	return d.osFiles.remove(name)
}

func (d *smallDisk) add(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += n
}

func (f *smallFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	n := min(int64(len(p)), f.disk.room)
	f.disk.room -= n
	f.disk.mu.Unlock()
	f.size += n
	written, err := f.file.Write(p[:n])
	if n < int64(len(p)) && err == nil {
		err = errors.New("no space left on device")
	}
	return written, err
}

func (f *smallFile) Truncate(size int64) error {
	f.disk.add(f.size - size)
	f.size = size
	return f.file.Truncate(size)
}

func noisyRecord(n int, typ queue.RecordType) queue.Record {
	r, b := record(n, typ), make([]byte, 2000)
	rand.Read(b)
	r.Meta = map[string]string{"x": hex.EncodeToString(b)}
	return r
}

// TestSmallDisk: attempts on a full disk leave neither segments nor parts of records
// there, so that the room that comes is used for what waits, each record once.
func TestSmallDisk(t *testing.T) {
	for _, begun := range []bool{false, true} {
		dir, d := t.TempDir(), &smallDisk{room: 1 << 20}
		l := must(open(dir, must((&Options{Logger: quiet(), FlushInterval: 10 * time.Millisecond}).withDefaults()), d))
		first := 0
		if begun {
			put(t, l, queue.Delivery, 1)
			first = 1
		}
		d.mu.Lock()
		d.room = 0
		d.mu.Unlock()
		const n = 100 // 200 KB of what cannot be compressed
		for i := range n {
			if err := l.Record(t.Context(), noisyRecord(first+i+1, queue.Reception)); err != nil && i == 0 {
				t.Fatal(err)
			}
		}
		for try := 0; l.Flush(t.Context()) != nil; try++ {
			if try == 100 {
				t.Fatalf("begun: %v: 1 MB became free, and 200 KB are not written", begun)
			}
			d.add(10 << 10)
		}
		names := must(segments(dir))
		if len(names) > 2 {
			t.Errorf("begun: %v: %d segments", begun, len(names))
		}
		d.add(10 << 10)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		got := numbers(t, dir, nil)
		if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) || len(got) == 0 {
			t.Errorf("begun: %v: %d records, some of them twice: %v", begun, len(got), got)
		}
	}
}

// A halfBroken makes no segments of one suffix.
type halfBroken struct{ osFiles }

func (h halfBroken) create(name string) (file, error) {
	if strings.HasSuffix(name, "-b"+nameExt) {
		return nil, fs.ErrPermission
	}
	return h.osFiles.create(name)
}

// TestOtherStreamFails: what fails of one suffix is no matter for those whose records have
// another.
func TestOtherStreamFails(t *testing.T) {
	dir := t.TempDir()
	o := &Options{Logger: quiet(), FlushInterval: 10 * time.Millisecond, PerType: map[queue.RecordType]TypeOptions{queue.Reception: {Suffix: "b"}}}
	l := must(open(dir, must(o.withDefaults()), halfBroken{}))
	if err := l.Record(t.Context(), record(1, queue.Reception)); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Flush: %v", err)
	}
	if err := l.Record(t.Context(), record(1, queue.Reception)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another record of that suffix: %v", err)
	}
	put(t, l, queue.Bounce, 2)
	if got := numbers(t, dir, nil); !slices.Equal(got, []int{2}) {
		t.Errorf("read %v, want the one of the other suffix, once", got)
	}
	if err := l.Close(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Close: %v", err)
	}
}

// TestArchivedClockBack: names go on rising when the last segment was archived and the
// clock was set back before the log was opened again.
func TestArchivedClockBack(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	ahead := time.Now().Add(48 * time.Hour)
	l.names.times[""] = ahead // as a clock that was wrong has it
	put(t, l, queue.Bounce, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names := must(segments(dir))
	if err := os.Rename(filepath.Join(dir, names[0]), filepath.Join(t.TempDir(), names[0])); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, nil)
	put(t, l, queue.Bounce, 2)
	if got := numbers(t, dir, &Query{After: Cursor{"": Mark{Segment: names[0], Line: 1}}}); !slices.Equal(got, []int{2}) {
		t.Errorf("read %v, want [2], in %v behind %v", got, must(segments(dir)), names)
	}
	for _, torn := range []string{"", `{"":"20`, "null", "[1]"} { // of a power cut
		f := must(os.CreateTemp(t.TempDir(), "LOCK"))
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		n := readNames(f)
		if err := n.begun("x", ahead); err != nil || !readNames(f).last("x").Equal(ahead) {
			t.Errorf("%q: %v, %v", torn, err, readNames(f).times)
		}
		f.Close()
	}
}

// TestFromClockBack: a segment is named after the records of the one before, so that a
// query for what came later finds those.
func TestFromClockBack(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, nil)
	r := record(1, queue.Bounce)
	r.Time = time.Now().Add(time.Hour)
	if err := errors.Join(l.Record(t.Context(), r), l.Rotate(t.Context())); err != nil {
		t.Fatal(err)
	}
	put(t, l, queue.Bounce, 2)
	if got := numbers(t, dir, &Query{From: time.Now().Add(time.Minute)}); !slices.Equal(got, []int{1}) {
		t.Errorf("read %v, want [1]", got)
	}
}
