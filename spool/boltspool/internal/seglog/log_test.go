package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

const dir = "/seg"

var spoolID = spool.NewID()

// newFS returns a file system in memory with a directory for a log.
func newFS(seed uint64) *vfstest.Crash {
	c := vfstest.NewCrash(rand.New(rand.NewPCG(seed, 2)))
	c.MakeParents(filepath.Join(dir, "x"))
	return c
}

// A written is a group as it was appended.
type written struct {
	place   Place
	payload []byte
	bodies  []Body
}

// A tester is a log and what was appended to it.
type tester struct {
	t      testing.TB
	fs     vfs.FS
	l      *Log
	size   int64
	groups []written
	damage []*Damage
	start  Start
}

func newTester(t testing.TB, fsys vfs.FS) *tester {
	r := &tester{t: t, fs: fsys, size: 8 << 10, start: Start{Place: Beginning, Number: 1}}
	r.open()
	return r
}

// open opens the log and compares what Replay hands out with what was appended.
func (r *tester) open() {
	r.t.Helper()
	got, err := r.replay()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(got) != len(r.groups) {
		r.t.Fatalf("got %d groups, want %d", len(got), len(r.groups))
	}
	for i, g := range got {
		if want := r.groups[i]; g.Place != want.place || !bytes.Equal(g.Payload, want.payload) || g.Err != nil {
			r.t.Fatalf("group %d: got %d bytes at %v, error %v, want %d at %v", i, len(g.Payload), g.Place, g.Err, len(want.payload), want.place)
		}
	}
	if err := r.l.Resume(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tester) replay() (got []Group, err error) {
	l, err := Open(Options{FS: r.fs, Dir: dir, Spool: spoolID, Size: r.size, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	r.l, r.damage = l, nil
	err = l.Replay(r.start, func(g Group) error {
		got = append(got, g)
		return nil
	}, func(d *Damage) error {
		r.damage = append(r.damage, d)
		return nil
	})
	return got, err
}

// group makes up a group.
func group(rng *rand.Rand, most int) written {
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	g := written{payload: noise(1 + rng.IntN(most))}
	for range rng.IntN(4) {
		b := noise(rng.IntN(most))
		g.bodies = append(g.bodies, Body{ID: spool.NewID(), Data: b, Sum: Checksum(b)})
	}
	return g
}

// append appends a group that must succeed.
func (r *tester) append(g written) {
	r.t.Helper()
	if err := r.try(g); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tester) try(g written) error {
	place, err := r.l.Append(g.payload, g.bodies)
	if err == nil {
		err = r.l.Sync()
	}
	if err == nil {
		g.place = place
		r.groups = append(r.groups, g)
		r.l.AddLive(place, 1)
	}
	return err
}

// read reads all bodies, and the payloads as parts of the log.
func (r *tester) read() {
	r.t.Helper()
	defer r.l.Reading()()
	for i, g := range r.groups {
		b := make([]byte, len(g.payload))
		if _, err := r.l.ReadAt(b, PayloadPlace(g.place, 0)); err != nil || !bytes.Equal(b, g.payload) {
			r.t.Fatalf("payload of group %d: error %v", i, err)
		}
		p := BodyPlace(g.place, len(g.payload))
		for _, body := range g.bodies {
			got, err := r.l.Body(p, body.ID, int64(len(body.Data)))
			if err != nil || !bytes.Equal(got, body.Data) {
				r.t.Fatalf("body of group %d: error %v", i, err)
			}
			if id, size, err := r.l.BodyID(p); err != nil || id != body.ID || size != int64(len(body.Data)) {
				r.t.Fatalf("at %v stands body %s of %d bytes, error %v", p, id, size, err)
			}
			if _, err := r.l.Body(p, spool.NewID(), int64(len(body.Data))); err == nil {
				r.t.Fatal("a body passed for another")
			}
			p = p.Plus(FrameSize(int64(len(body.Data))))
		}
	}
}

// TestLog appends, reads, and opens again, in memory and on the disk.
func TestLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for range 5 {
		for range 20 {
			r.append(group(rng, 1000))
		}
		r.read()
		r.l.Close()
		r.open()
		r.read()
	}
	if n := len(r.l.Usage()); n < 5 {
		t.Errorf("%d segments, want more", n)
	}
	if end, number := r.l.End(); end <= r.groups[99].place || number != 101 {
		t.Errorf("the log ends at %v with group %d", end, number)
	}
	huge := group(rng, 10)
	huge.bodies = []Body{{ID: spool.NewID(), Data: make([]byte, 5*r.size)}}
	huge.bodies[0].Sum = Checksum(huge.bodies[0].Data)
	r.append(huge) // a group of which one is longer than a segment should be
	r.append(group(rng, 10))
	r.open()
	r.read()
}

// TestReuse: the file of a segment becomes another, and nothing that stood in it
// is seen again.
func TestReuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for range 300 {
		r.append(group(rng, 300))
		if len(r.groups) < 40 {
			continue
		}
		for _, g := range r.groups[:20] {
			r.l.AddLive(g.place, -1)
		}
		r.groups = r.groups[20:]
		place, number := r.l.End()
		r.start = Start{Place: r.groups[0].place, Number: number - 20}
		if place.Segment() == r.start.Place.Segment() {
			continue
		}
		r.l.Reclaim(r.start.Place.Segment())
		r.read()
		r.l.Close()
		r.open()
		for _, g := range r.groups {
			r.l.AddLive(g.place, 1)
		}
	}
	if r.l.Spares() == 0 {
		t.Error("no file is kept to be used again")
	}
	if n := len(r.l.Usage()); n > 6 {
		t.Errorf("%d segments are left for 40 groups", n)
	}
}

// TestKeep: what somebody asks to stay, or is set aside, is not taken away.
func TestKeep(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for len(r.l.Usage()) < 4 {
		r.append(group(rng, 300))
	}
	for _, g := range r.groups {
		r.l.AddLive(g.place, -1)
	}
	let := r.l.Keep()
	if r.l.Reclaim(100) || len(r.l.Usage()) != 4 {
		t.Error("segments were taken away that are kept")
	}
	let()
	r.l.SetAside(1)
	if !r.l.Reclaim(3) || len(r.l.Usage()) != 3 { // 1 is damaged, 3 is behind the checkpoint, 4 is open
		t.Errorf("left are %+v, want segments 1, 3 and 4", r.l.Usage())
	}
	if _, err := r.fs.OpenFile(r.l.path(1), os.O_RDONLY, 0); err != nil {
		t.Errorf("the segment that was set aside: %v", err)
	}
	if !r.l.Reclaim(100) || len(r.l.Usage()) != 2 {
		t.Errorf("left are %+v, want segments 1 and 4", r.l.Usage())
	}
}

// TestReaders: a segment is not taken away from under a reader.
func TestReaders(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for len(r.l.Usage()) < 3 {
		r.append(group(rng, 300))
	}
	done := r.l.Reading()
	first := r.groups[0]
	reclaimed := make(chan bool)
	for _, g := range r.groups {
		r.l.AddLive(g.place, -1)
	}
	go func() { reclaimed <- r.l.Reclaim(3) }()
	b := make([]byte, len(first.payload))
	for range 100 {
		if _, err := r.l.ReadAt(b, PayloadPlace(first.place, 0)); err != nil || !bytes.Equal(b, first.payload) {
			t.Fatalf("a reader of a segment that is to be taken away: %v", err)
		}
	}
	done()
	if !<-reclaimed {
		t.Error("nothing was taken away")
	}
	defer r.l.Reading()()
	if _, err := r.l.ReadAt(b, PayloadPlace(first.place, 0)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a place in a segment that was taken away: %v", err)
	}
}

// TestNoSpace: an append that finds no space, wherever, leaves the log as it was,
// and nothing of it is ever seen.
func TestNoSpace(t *testing.T) {
	for _, kind := range []string{"create", "write", "allocate"} {
		for n := range 12 {
			t.Run(fmt.Sprint(kind, n), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, uint64(n)))
				f := vfstest.NewFault(newFS(1))
				r := newTester(t, f)
				for range n {
					r.append(group(rng, 1500))
				}
				for range 4 {
					f.ArmKind(kind, syscall.ENOSPC)
					if err := r.try(group(rng, 1500)); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
						t.Fatalf("got %v, want ErrNoSpace", err)
					}
					f.Arm(0, nil)
					if rng.IntN(2) == 0 { // and so is what comes next
						r.append(group(rng, 300))
					}
				}
				r.open()
				if len(r.damage) > 0 {
					t.Errorf("damage is reported: %v", r.damage)
				}
				r.read()
			})
		}
	}
}

// TestNoSpaceThenNext: what an append that failed has left near the end of a
// segment is not taken for the group that stands in the next one.
func TestNoSpaceThenNext(t *testing.T) {
	f := vfstest.NewFault(newFS(1))
	r := newTester(t, f)
	r.append(written{payload: make([]byte, r.size-segmentHeader-frameHeader-700)})
	f.ArmKind("write", syscall.ENOSPC)
	failed := written{payload: make([]byte, 100), bodies: []Body{{ID: spool.NewID(), Data: make([]byte, 400)}}}
	if err := r.try(failed); !errors.Is(err, vfs.ErrNoSpace) {
		t.Fatalf("got %v, want ErrNoSpace", err)
	}
	for range 3 {
		r.append(written{payload: make([]byte, 1000)})
	}
	if n := len(r.l.Usage()); n != 2 {
		t.Fatalf("%d segments, want 2", n)
	}
	r.open()
}

// TestSecure: behind a group there is room for others, whatever becomes of the
// disk, also if it is larger than a segment should be.
func TestSecure(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	f := vfstest.NewFault(newFS(1))
	r := newTester(t, f)
	const keep = 3000
	for i := range 60 {
		if rng.IntN(3) == 0 {
			if err := r.l.Prepare(); err != nil {
				t.Fatal(err)
			}
		}
		first := written{payload: make([]byte, 700)}
		if i%4 == 3 {
			first.payload = make([]byte, rng.IntN(20_000))
		}
		if err := r.l.Secure(FrameSize(int64(len(first.payload))), keep); err != nil {
			t.Fatal(err)
		}
		f.Arm(0, nil)
		r.append(first)
		for range 3 {
			r.append(written{payload: make([]byte, 700)})
		}
		for _, op := range f.Ops() {
			if op[:8] == "allocate" || op[:6] == "create" {
				t.Fatalf("room was promised for %d bytes and more, and it took %q", len(first.payload), op)
			}
		}
		r.append(group(rng, 500))
	}
}

// TestDamage flips bits in every segment of a log of many groups: what was
// durable is found, or reported, and the rest is right.
func TestDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for range 40 {
		r.append(group(rng, 400))
	}
	end, _ := r.l.End()
	r.start.Synced = end
	found := 0
	for i := range 400 {
		g := r.groups[rng.IntN(len(r.groups))]
		at := rng.IntN(frameHeader + len(g.payload))
		off := g.place.Offset() + int64(at)
		undo := r.flip(g.place.Segment(), off)
		got, err := r.replay()
		if err != nil {
			t.Fatal(err)
		}
		bad := 0
		for _, h := range got {
			if h.Err != nil {
				bad++
			}
		}
		if len(got) < len(r.groups)-1 || bad+len(r.damage) != 1 {
			t.Fatalf("flip %d in the group at %v: %d of %d groups, %d bad, damage %v", i, g.place, len(got), len(r.groups), bad, r.damage)
		}
		if inPayload := at >= frameHeader; inPayload != (bad == 1) || inPayload && len(got) != len(r.groups) {
			t.Fatalf("flip %d at byte %d of the group at %v: %d groups, %d bad", i, at, g.place, len(got), bad)
		}
		if len(r.damage) == 1 {
			found++
			if segments := r.damage[0].Segments(); segments[0] > g.place.Segment() {
				t.Errorf("damage in segment %d is reported of %v", g.place.Segment(), segments)
			}
		}
		undo()
	}
	if found == 0 {
		t.Error("no damage made a group unreadable")
	}
	r.open()
}

// flip flips a bit of a segment.
func (r *tester) flip(segment uint32, off int64) (undo func()) {
	f, err := r.fs.OpenFile(filepath.Join(dir, SegmentName(segment)), os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		r.t.Fatal(err)
	}
	f.WriteAt([]byte{b[0] ^ 4}, off)
	return func() { f.WriteAt(b, off) }
}

// TestGaps reads all of a log of which segments are gone: what is left of it, and
// damage within a segment is told from its end.
func TestGaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	for len(r.l.Usage()) < 6 {
		r.append(group(rng, 300))
	}
	r.start = Start{}
	r.open()
	gone := map[uint32]bool{1: true, 3: true, 4: true}
	for n := range gone {
		if err := r.fs.Remove(filepath.Join(dir, SegmentName(n))); err != nil {
			t.Fatal(err)
		}
	}
	var left []written
	for _, g := range r.groups {
		if !gone[g.place.Segment()] {
			left = append(left, g)
		}
	}
	r.groups = left
	r.open()
	if len(r.damage) > 0 {
		t.Errorf("segments that are gone are reported: %v", r.damage)
	}
	r.flip(r.groups[1].place.Segment(), r.groups[1].place.Offset()+3)
	r.groups = append(r.groups[:1:1], r.groups[2:]...)
	r.open()
	if len(r.damage) != 1 {
		t.Errorf("damage: %v, want one", r.damage)
	}
}

// A deafFS has files that cannot be read from some offset on.
type deafFS struct{ vfs.FS }

type deafFile struct{ vfs.File }

func (f deafFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	return deafFile{file}, err
}

func (f deafFile) ReadAt(p []byte, off int64) (int, error) {
	if from, to := int64(4096), int64(8192); off < to && off+int64(len(p)) > from {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// TestUnreadable: sectors that cannot be read are damage like any other.
func TestUnreadable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newTester(t, newFS(1))
	r.size = 64 << 10
	r.open()
	for range 40 {
		r.append(group(rng, 300))
	}
	r.start.Synced, _ = r.l.End()
	r.fs = deafFS{r.fs}
	got, err := r.replay()
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, g := range r.groups {
		end := g.place.Plus(FrameSize(int64(len(g.payload))))
		if end.Offset() <= 4096 || g.place.Offset() >= 8192 {
			whole++
		}
	}
	if len(got) < whole || len(r.damage) == 0 {
		t.Errorf("got %d groups, damage %v, want the %d that can be read", len(got), r.damage, whole)
	}
}

// TestManyOpen reads more segments than are kept open, from several sides.
func TestManyOpen(t *testing.T) {
	r := newTester(t, newFS(1))
	r.size = 1000
	r.open()
	for len(r.groups) < maxOpen+200 {
		r.append(written{payload: make([]byte, 900)})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, i := range rand.Perm(len(r.groups)) {
				done := r.l.Reading()
				if _, err := r.l.ReadAt(make([]byte, 900), PayloadPlace(r.groups[i].place, 0)); err != nil {
					t.Error(err)
				}
				done()
			}
		})
	}
	wg.Wait()
	if n := len(*r.l.files.Load()); n > maxOpen+4 {
		t.Errorf("%d files are open", n)
	}
	r.append(written{payload: make([]byte, 10)})
}

func TestReadAtEnd(t *testing.T) {
	r := newTester(t, newFS(1))
	r.append(written{payload: []byte("x")})
	defer r.l.Reading()()
	if _, err := r.l.ReadAt(make([]byte, 10), At(1, MaxOffset)); err != io.EOF {
		t.Errorf("behind the end: %v, want io.EOF", err)
	}
	if _, err := r.l.Body(r.groups[0].place, spool.ID{}, 1); err == nil {
		t.Error("a group passed for a body")
	}
	if _, err := r.l.Append(make([]byte, 10), make([]Body, 0)); err != nil {
		t.Error(err)
	}
}
