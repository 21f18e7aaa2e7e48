package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A fillFS notes what is filled.
type fillFS struct {
	vfs.FS
	filled *[]string
	err    error
}

type fillFile struct {
	vfs.File
	fs fillFS
}

func (f fillFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return fillFile{file, f}, nil
}

func (f fillFile) Fill(off, n int64) error {
	if f.fs.err != nil {
		*f.fs.filled = append(*f.fs.filled, "failed")
		return f.fs.err
	}
	*f.fs.filled = append(*f.fs.filled, fmt.Sprintf("%d+%d", off, n))
	return f.File.Fill(off, n)
}

// filling returns a tester with segments of a size, and what is filled in them.
func filling(t *testing.T, size int64, err error) (r *tester, filled *[]string) {
	filled = new([]string)
	r = &tester{t: t, fs: fillFS{newFS(1), filled, err}, size: size, start: Start{Place: Beginning, Number: 1}}
	r.open()
	return r, filled
}

// TestFill: small groups find zeros before them that were written a MiB at a time,
// up to what is allocated, and all that was appended stays what it was.
func TestFill(t *testing.T) {
	const frame = frameHeader + 30_000
	r, filled := filling(t, 3<<20, nil)
	for range 120 { // 3.6 MB
		r.append(written{payload: make([]byte, 30_000)})
	}
	const first = segmentHeader + frame
	const second = segmentHeader + (first+fillAhead-segmentHeader+frame-1)/frame*frame // behind the first group beyond that
	if want := []string{fmt.Sprintf("%d+%d", first, fillAhead), fmt.Sprintf("%d+%d", second, fillAhead)}; !slices.Equal((*filled)[:2], want) {
		t.Errorf("filled %v, want at first %v", *filled, want)
	}
	if n := len(*filled); n != 5 { // three in the first segment, of which the last ends with it
		t.Errorf("filled %v", *filled)
	}
	r.open()
	r.read()
	r.append(written{payload: make([]byte, 1000)})
	r.open()
	r.read()
}

// TestFillNot: large groups are not worth it, and none is where it cannot be done
// or nothing is allocated.
func TestFillNot(t *testing.T) {
	r, filled := filling(t, 8<<20, nil)
	for range 30 {
		r.append(written{payload: make([]byte, maxFilled)})
	}
	if len(*filled) > 0 {
		t.Errorf("filled %v behind large groups", *filled)
	}
	r.append(written{payload: make([]byte, 100)})
	if len(*filled) != 1 {
		t.Errorf("filled %v behind a small one", *filled)
	}
	r.open()
	r.read()

	r, filled = filling(t, 4<<20, errors.ErrUnsupported)
	for range 90 {
		r.append(written{payload: make([]byte, 30_000)})
	}
	if n := len(*filled); n == 0 || n > 3 {
		t.Errorf("tried %d times where it is of no use, want once for what is allocated at a time", n)
	}
	r.open()
	r.read()
}

// TestFillAgain: in a file that was a segment nothing is filled.
func TestFillAgain(t *testing.T) {
	r, filled := filling(t, 256<<10, nil)
	for range 8 {
		for r.l.cur == nil || r.l.off < 230<<10 {
			r.append(written{payload: make([]byte, 10_000)})
		}
		for _, u := range r.l.Usage() {
			r.l.AddLive(At(u.Segment, segmentHeader), -u.Live)
		}
		r.groups = nil
		if err := r.l.rotate(); err != nil {
			t.Fatal(err)
		}
		r.start.Place, r.start.Number = r.l.End()
		r.l.Reclaim(r.start.Place.Segment())
	}
	if len(*filled) > 3 { // the first of them were made, and the others had been segments
		t.Errorf("filled %v", *filled)
	}
}

// TestFillFails: whatever becomes of it, groups are appended.
func TestFillFails(t *testing.T) {
	fsys := vfstest.NewFault(newFS(1))
	r := newTester(t, fsys)
	fsys.ArmKind("fill", errors.New("no"))
	for range 50 {
		r.append(written{payload: make([]byte, 500)})
	}
	if want := "fill " + filepath.Join(dir, SegmentName(1)); fsys.Fired() != want {
		t.Errorf("failed: %q, want %q", fsys.Fired(), want)
	}
	r.open()
	r.read()
}
