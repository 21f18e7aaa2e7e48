package seglog_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/seglog"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
)

// A life opens a log, appends a group, and returns how many groups it has found, and
// where the log then ends.
func life(t *testing.T, opts seglog.Options, start seglog.Start, appends bool) (groups int, end seglog.Start) {
	t.Helper()
	l, err := seglog.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	report := func(d *seglog.Damage) error {
		t.Errorf("damage is reported that was not done: %v", d)
		return nil
	}
	if err := l.Replay(start, func(seglog.Group) error { groups++; return nil }, report); err != nil {
		t.Fatal(err)
	}
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	if appends {
		if _, err := l.Append([]byte("payload"), nil); err != nil {
			t.Fatal(err)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	end.Place, end.Number = l.End()
	end.Synced = end.Place
	return groups, end
}

func numberOptions(t *testing.T) seglog.Options {
	return seglog.Options{FS: vfs.OS{}, Dir: t.TempDir(), Spool: spool.NewID(), Size: 2 << 20, Log: slog.New(slog.DiscardHandler)}
}

// TestNumbersRise: a checkpoint may say that the log goes on in a segment that was not
// begun, while those before it are gone. What comes next must not stand before it.
func TestNumbersRise(t *testing.T) {
	for behind := range int64(2) { // 1: that segment is gone, too
		opts := numberOptions(t)
		start := seglog.Start{Place: seglog.At(3, seglog.Beginning.Offset()+1000*behind), Number: 7}
		if n, end := life(t, opts, start, true); n != 0 || end.Place < start.Place {
			t.Errorf("%d groups, the log ends at %v, before %v", n, end.Place, start.Place)
		}
		if n, _ := life(t, opts, start, false); n != 1 {
			t.Errorf("%d groups are found, want the one that was stored", n)
		}
	}
}

// TestBegunBehindDamage: a segment that was only begun behind one that is damaged does
// not stand between that and what is written next.
func TestBegunBehindDamage(t *testing.T) {
	opts := numberOptions(t)
	start := seglog.Start{Place: seglog.Beginning, Number: 1}
	_, end := life(t, opts, start, true)
	first, err := os.OpenFile(filepath.Join(opts.Dir, seglog.SegmentName(1)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.WriteAt([]byte{'X'}, end.Place.Offset()-3); err != nil { // in its payload
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(opts.Dir, seglog.SegmentName(2)), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	start.Synced = end.Place
	setAside := func(appends bool) (groups int) {
		l, err := seglog.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		apply := func(g seglog.Group) error {
			groups++
			if g.Err != nil {
				l.SetAside(g.Place.Segment())
			}
			return nil
		}
		if err := l.Replay(start, apply, func(d *seglog.Damage) error { t.Errorf("%v", d); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		if appends {
			if _, err := l.Append([]byte("payload"), nil); err != nil {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		return groups
	}
	if n := setAside(true); n != 1 {
		t.Errorf("%d groups before, want 1", n)
	}
	if n := setAside(false); n != 2 {
		t.Errorf("%d groups are found, want the damaged one and the one behind it", n)
	}
}
