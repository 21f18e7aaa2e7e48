package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/index"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

func saved(n int) index.Saved {
	v := index.Saved{
		ID: spool.NewID(), Due: int64(n) * 1e9, Received: uint32(n), Place: seglog.At(7, int64(n)), Length: 60, Size: 5000,
		State: spool.Held, Queue: fmt.Sprintf("c:t@example%d.com", n), Class: "-",
		BodyKey: rand.Uint64(), BodyPlace: seglog.At(7, 4000), BodySize: 4100,
	}
	if n%2 == 1 {
		v.BodyFile, v.BodyPlace = spool.NewID(), 77
	}
	return v
}

func TestSaved(t *testing.T) {
	for n := range 2 {
		v := saved(n)
		b := appendSaved(nil, &v)
		var got index.Saved
		if err := parseSaved(v.ID[:], b, &got, names{}); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("got %+v and error %v, want %+v", got, err, v)
		}
		for i := range 8 * len(b) {
			bad := bytes.Clone(b)
			bad[i/8] ^= 1 << (i % 8)
			if parseSaved(v.ID[:], bad, &got, names{}) == nil {
				t.Errorf("bit %d flipped: no error", i)
			}
		}
		for n := range b {
			if parseSaved(v.ID[:], b[:n], &got, names{}) == nil {
				t.Errorf("cut to %d bytes: no error", n)
			}
		}
		other := spool.NewID()
		if parseSaved(other[:], b, &got, names{}) == nil {
			t.Error("the record of another entry: no error")
		}
		if got, ok := Matches(v.ID, b); !ok || !reflect.DeepEqual(got, v) {
			t.Error("a record does not match its ID")
		}
	}
}

func FuzzSaved(f *testing.F) {
	id := spool.NewID()
	for n := range 2 {
		v := saved(n)
		f.Add(appendSaved(nil, &v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= sumSize { // beyond the checksum, to the fields
			b = bytes.Clone(b[:len(b)-sumSize])
			sum := seglog.Update(seglog.Checksum(id[:]), b)
			b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		}
		var v, again index.Saved
		if parseSaved(id[:], b, &v, names{}) != nil {
			return
		}
		if err := parseSaved(id[:], appendSaved(nil, &v), &again, names{}); err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("got %+v, and after encoding it again %+v and error %v", v, again, err)
		}
	})
}

func FuzzState(f *testing.F) {
	s := State{Spool: spool.NewID(), Place: seglog.At(3, 4), Number: 5, Opening: spool.NewID(), Entries: 6}
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseState(b); err == nil && !bytes.Equal(s.append(nil), b) {
			t.Errorf("%x became %+v", b, s)
		}
	})
}

// A ledger is what a file must say.
type ledger map[spool.ID]index.Saved

func (l ledger) apply(c *Change) {
	for _, id := range c.Snap.Removed {
		delete(l, id)
	}
	for _, v := range c.Snap.Puts {
		l[v.ID] = v
	}
}

func (l ledger) compare(t *testing.T, f *File, state State) {
	t.Helper()
	if got, err := f.State(); err != nil || got != state {
		t.Errorf("its state is %+v, error %v, want %+v", got, err, state)
	}
	got := ledger{}
	err := f.Load(func(v *index.Saved) {
		got[v.ID] = *v
	}, func(key, _ []byte, err error) {
		t.Errorf("record %x: %v", key, err)
	})
	if err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("it holds %d entries, error %v, want %d", len(got), err, len(l))
	}
}

func newFile(t *testing.T, fsys vfs.FS) (f *File, dir string, state State) {
	t.Helper()
	dir = t.TempDir()
	state = State{Spool: spool.NewID(), Number: 1}
	if err := Create(fsys, dir, state); err != nil {
		t.Fatal(err)
	}
	return openFile(t, fsys, dir), dir, state
}

func openFile(t *testing.T, fsys vfs.FS, dir string) *File {
	t.Helper()
	f, err := Open(fsys, dir, false, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// changes returns a Change with some puts, and the removal of some of l.
func changes(l ledger, state *State, puts, removes int) *Change {
	c := &Change{Snap: &index.Snapshot{}}
	for n := range puts {
		c.Snap.Puts = append(c.Snap.Puts, saved(n))
	}
	for id := range l {
		if removes--; removes < 0 {
			break
		}
		c.Snap.Removed = append(c.Snap.Removed, id)
	}
	state.Place, state.Number, state.Entries = state.Place+100, state.Number+1, uint64(len(l)+puts-len(c.Snap.Removed))
	c.State = *state
	return c
}

func TestWrite(t *testing.T) {
	f, dir, state := newFile(t, vfs.OS{})
	l := ledger{}
	l.compare(t, f, state)
	for range 5 {
		c := changes(l, &state, 300, 200)
		if err := f.Write(c); err != nil {
			t.Fatal(err)
		}
		l.apply(c)
	}
	l.compare(t, f, state)
	if err := f.Write(&Change{State: state, Snap: &index.Snapshot{}, Damage: [][]byte{[]byte("one"), []byte("two")}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = openFile(t, vfs.OS{}, dir)
	l.compare(t, f, state)
	var texts []string
	if err := f.Damage(func(text []byte) { texts = append(texts, string(text)) }); err != nil || fmt.Sprint(texts) != "[one two]" {
		t.Errorf("notes of damage: %q, error %v", texts, err)
	}
}

// TestWriteFails lets a Write fail at each of its operations: without space
// nothing changes and the next one succeeds; behind a commit that failed the old
// or the new state is found.
func TestWriteFails(t *testing.T) {
	for _, test := range []struct {
		kind  string
		err   error
		space bool
	}{
		{"allocate", syscall.ENOSPC, true}, {"allocate", syscall.EIO, false}, {"sync", syscall.EIO, false},
		{"commit", syscall.EIO, false}, {"committed", syscall.EIO, false},
	} {
		t.Run(test.kind, func(t *testing.T) {
			fsys := vfstest.NewFault(vfs.OS{})
			f, dir, state := newFile(t, fsys)
			l := ledger{}
			c := changes(l, &state, 100, 0)
			if err := f.Write(c); err != nil {
				t.Fatal(err)
			}
			l.apply(c)
			before := state
			c = changes(l, &state, 40_000, 50) // more than is allocated
			fsys.ArmKind(test.kind, test.err)
			if test.space {
				fsys.Arm(1, test.err)
			}
			err := f.Write(c)
			if test.space {
				if err != nil { // the second allocation asks for less
					t.Errorf("Write: %v", err)
				}
				l.apply(c)
				l.compare(t, f, state)
				return
			}
			if err == nil || errors.Is(err, vfs.ErrNoSpace) {
				t.Errorf("Write: got %v, want a final error", err)
			}
			f.Close()
			f = openFile(t, vfs.OS{}, dir)
			if got, _ := f.State(); got == state {
				l.apply(c)
				before = state
			}
			l.compare(t, f, before)
		})
	}
}

func TestCopyTo(t *testing.T) {
	f, _, state := newFile(t, vfs.OS{})
	l := ledger{}
	c := changes(l, &state, 1000, 0)
	if err := f.Write(c); err != nil {
		t.Fatal(err)
	}
	l.apply(c)
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.CopyTo(out)
	if err := errors.Join(err, out.Close()); err != nil || got != state {
		t.Errorf("the copy has the state %+v, error %v, want %+v", got, err, state)
	}
	g, err := Open(vfs.OS{}, dir, true, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	l.compare(t, g, state)
}

func TestCompact(t *testing.T) {
	f, dir, state := newFile(t, vfs.OS{})
	l := ledger{}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, Name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	compact := func() {
		t.Helper()
		if err := errors.Join(f.Close(), Compact(vfs.OS{}, dir)); err != nil {
			t.Fatal(err)
		}
		f = openFile(t, vfs.OS{}, dir)
		l.compare(t, f, state)
	}
	write := func(puts, removes int) {
		t.Helper()
		c := changes(l, &state, puts, removes)
		if err := f.Write(c); err != nil {
			t.Fatal(err)
		}
		l.apply(c)
	}
	write(80_000, 0)
	large := size()
	compact()
	if got := size(); got != large {
		t.Errorf("a file that is full was compacted, from %d to %d bytes", large, got)
	}
	write(0, 75_000)
	compact()
	if got := size(); got > large/4 {
		t.Errorf("a file that is mostly free has %d of %d bytes", got, large)
	}
	write(10, 0)
	l.compare(t, f, state)
}

// TestOpenRefuses: what cannot be trusted, or is in use, is not opened.
func TestOpenRefuses(t *testing.T) {
	f, dir, _ := newFile(t, vfs.OS{})
	if _, err := Open(vfs.OS{}, dir, false, time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("a file in use: got %v, want ErrLocked", err)
	}
	f.Close()
	name := filepath.Join(dir, Name)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, 3 * 4096} {
		if err := os.WriteFile(name, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(vfs.OS{}, dir, false, time.Second); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: got %v, want ErrDamaged", n, err)
		}
	}
	os.Remove(name)
	if _, err := Open(vfs.OS{}, dir, false, time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: got %v", err)
	}
}
