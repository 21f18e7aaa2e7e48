package boltspool

import (
	"errors"
	"flag"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/internal/testdisk"
	"github.com/deferredqueue/deferredqueue/spool"
)

var (
	long  = flag.Bool("long", false, "run the long forms of tests; they need root and loop devices")
	share = flag.Float64("share", 1, "how much the long forms try of what they leave to chance: 0.25 is a quarter")
)

// tries returns how often the long form of a test tries what it leaves to chance.
func tries(all int) int { return max(1, int(math.Ceil(float64(all)**share))) }

// TestFullDisk fills a real file system, empties the spool while it is full, and
// goes on when there is room. The short form, without -long, is TestFull and
// TestNoSpace.
func TestFullDisk(t *testing.T) {
	if !*long {
		t.Log("short form: see TestFull and TestNoSpace; with -long on a real disk")
		return
	}
	for _, test := range []struct {
		name         string
		size         int
		reserve, mib int64
	}{
		{name: "small bodies", size: 20_000, reserve: 4 << 20, mib: 48},
		{name: "big bodies", size: 1_500_000, reserve: 4 << 20, mib: 48},
		{name: "no reserve", size: 20_000, reserve: -1, mib: 32},
		{name: "no reserve, big", size: 1_500_000, reserve: -1, mib: 32},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk, err := testdisk.New(t, test.mib)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(disk, "spool")
			s := openTest(t, dir, &Options{Reserve: test.reserve})
			l := newLedger(t)
			l.s = s
			entries := fillDisk(t, l, test.size)
			t.Logf("%d messages of %d bytes on a disk of %d MiB", len(entries), test.size, test.mib)
			abandon(s) // and a restart finds the disk as full
			s = openTest(t, dir, &Options{Reserve: test.reserve})
			l.s = s
			entries, _, err = s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: len(entries)})
			if err != nil || len(entries) != len(l.acked) {
				t.Fatalf("after a restart %d entries were claimed, want %d; error %v", len(entries), len(l.acked), err)
			}
			emptyDisk(t, l, entries)
			for s.Health() != nil {
				expectHint(t, s, "there is room again")
			}
			// Without a reserve it may be the next message that finds out that there is none.
			for try := 0; l.tryStore(test.size, 1) == nil; try++ {
				if try == 3 || test.reserve > 0 {
					t.Fatal("the spool does not accept again, although there is room")
				}
				for s.Health() != nil {
					expectHint(t, s, "there is room again")
				}
			}
			s.Close()
			l.verify(dir)
		})
	}
}

// fillDisk stores messages until the spool is full.
func fillDisk(t *testing.T, l *ledger, size int) (entries []*spool.Entry) {
	t.Helper()
	for len(entries) < 10_000 {
		e := l.tryStore(size, 1)
		if e == nil {
			break
		}
		entries = append(entries, e...)
	}
	if err := l.s.failed(); err != nil || !l.passed || len(entries) < 10 {
		t.Fatalf("after %d messages the disk is not full; failed: %v", len(entries), err)
	}
	// Without a reserve the state may have ended: the big body that was refused
	// has left room for small ones.
	if err := l.s.Health(); !errors.Is(err, spool.ErrFull) && l.s.opts.Reserve > 0 {
		t.Fatalf("after %d messages Health is %v, want ErrFull", len(entries), err)
	}
	return entries
}

// emptyDisk updates every entry, as failing attempts do, and removes it, with
// records that grow, all while the disk is full.
func emptyDisk(t *testing.T, l *ledger, entries []*spool.Entry) {
	t.Helper()
	for _, e := range entries {
		next := e.Clone()
		next.Attempts++
		next.LastError = string(noise(200))
		if errs := l.s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}); errs != nil {
			t.Fatalf("Update on a full disk: %v", errs)
		}
		*e = *next
		l.acked[e.ID] = next
	}
	for _, e := range entries {
		if errs := l.s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
			t.Fatalf("Remove on a full disk: %v", errs)
		}
		delete(l.acked, e.ID)
	}
}
