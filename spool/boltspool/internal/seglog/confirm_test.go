package seglog

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// TestConfirm: a group that is found behind the last one that was durable is
// durable from then on, whatever became of its sync: a failed one leaves it where
// only memory has it, and so does a process that dies. A segment with damage
// elsewhere makes no difference.
func TestConfirm(t *testing.T) {
	for _, end := range []string{"kill", "failed sync"} {
		for _, damaged := range []bool{false, true} {
			fs, rng := newFS(1), rand.New(rand.NewPCG(1, 1))
			fault := vfstest.NewFault(fs)
			r := newTester(t, fault)
			for range 5 {
				r.append(group(rng, 300))
			}
			if damaged {
				flipBit(t, fs, r.groups[2].place)
				r.groups = append(r.groups[:2:2], r.groups[3:]...)
			}
			last := group(rng, 300)
			var err error
			if last.place, err = r.l.Append(last.payload, last.bodies); err != nil {
				t.Fatal(err)
			}
			if end == "failed sync" {
				fault.ArmKind("datasync", syscall.EIO)
				if err := r.l.Sync(); !errors.Is(err, syscall.EIO) {
					t.Fatalf("the sync that was to fail: %v", err)
				}
			}
			r.groups = append(r.groups, last)
			r.open()
			for range 10 {
				r.fs = fs.After()
				r.open()
				r.read()
			}
			if damaged != (len(r.damage) > 0) {
				t.Errorf("damaged: %v, reported: %v", damaged, r.damage)
			}
		}
	}
}

// flipBit damages a byte of the log.
func flipBit(t *testing.T, fs *vfstest.Crash, p Place) {
	t.Helper()
	f, err := fs.OpenFile(filepath.Join(dir, SegmentName(p.Segment())), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, p.Offset()); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, p.Offset()); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestTornBehindDamage: a torn group is not cut off where a segment is damaged.
// The next segment goes on with its number, and it counts, whoever reads the log
// again, from where it began or all of it.
func TestTornBehindDamage(t *testing.T) {
	for _, start := range []Start{{Place: Beginning, Number: 1}, {}} {
		fs, rng := newFS(1), rand.New(rand.NewPCG(1, 1))
		r := newTester(t, fs)
		for range 5 {
			r.append(group(rng, 300))
		}
		torn := group(rng, 300)
		torn.bodies = append(torn.bodies, Body{ID: spoolID, Data: []byte("body"), Sum: Checksum([]byte("body"))})
		r.append(torn)
		torn = r.groups[5]
		flipBit(t, fs, r.groups[2].place)
		flipBit(t, fs, BodyPlace(torn.place, len(torn.payload)))
		r.groups = append(r.groups[:2:2], r.groups[3:5]...)
		r.open()
		for range 3 {
			r.append(group(rng, 300))
		}
		r.start = start
		for range 2 {
			r.open()
			r.read()
			if len(r.damage) != 1 {
				t.Errorf("damage: %v, want that to one group", r.damage)
			}
			r.append(group(rng, 300))
		}
	}
}
