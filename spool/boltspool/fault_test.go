package boltspool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A ledger is what a client knows of a spool: what was acknowledged, and what
// was not and may be there or not.
type ledger struct {
	t      *testing.T
	s      *Spool
	bodies map[spool.ID][]byte
	acked  map[spool.ID]*spool.Entry // as it must be there
	unsure map[spool.ID]bool         // may differ from acked: ErrFailed
	passed bool                      // something was refused for a while
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, bodies: map[spool.ID][]byte{}, acked: map[spool.ID]*spool.Entry{}, unsure: map[spool.ID]bool{}}
}

// fastDir returns a new directory where a sync costs little, if there is one.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "boltspool")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	seed[0] = byte(n)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// outcome checks that err is one that a fault may cause, and reports success.
func (l *ledger) outcome(doing string, err error, ids ...spool.ID) bool {
	l.t.Helper()
	switch {
	case err == nil:
		return true
	case errors.Is(err, spool.ErrFailed):
		for _, id := range ids {
			l.unsure[id] = true
		}
	case errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrBusy):
		l.passed = true
	default:
		l.t.Errorf("%s: got %v, want ErrFailed, ErrFull or ErrBusy", doing, err)
	}
	return false
}

// store commits n entries that share one body, and tries again once if the
// spool is full.
func (l *ledger) store(size, n int) (entries []*spool.Entry) {
	l.t.Helper()
	for range 2 {
		if entries = l.tryStore(size, n); entries != nil || l.s.failed() != nil {
			break
		}
		l.s.setShort(shortBytes, false)
	}
	return entries
}

func (l *ledger) tryStore(size, n int) (entries []*spool.Entry) {
	l.t.Helper()
	w, err := l.s.Create(l.t.Context(), 0)
	if !l.outcome("Create", err) {
		return nil
	}
	defer w.Abort()
	b := noise(size)
	if _, err := w.Write(b); !l.outcome("Write", err) {
		return nil
	}
	var ids []spool.ID
	for range n {
		e := testEntry(w.ID())
		entries, ids = append(entries, e), append(ids, e.ID)
	}
	l.bodies[w.ID()] = b
	if !l.outcome("Commit", w.Commit(l.t.Context(), entries...), ids...) {
		return nil
	}
	for _, e := range entries {
		l.acked[e.ID] = e.Clone()
	}
	return entries
}

func testEntry(body spool.ID) *spool.Entry {
	now := time.Now()
	return &spool.Entry{ID: spool.NewID(), Body: body, Queue: "queue", Class: "class", Due: now, Received: now,
		Header: []byte("Received: by test\r\n")}
}

// change applies an Update to one and a Remove to another entry.
func (l *ledger) change(up, rm *spool.Entry) {
	l.t.Helper()
	next := up.Clone()
	next.Attempts++
	errs := l.s.Apply(l.t.Context(), spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}, spool.Unit{{Op: spool.Remove, Entry: rm}})
	if errs == nil {
		errs = make([]error, 2)
	}
	if l.outcome("Update", errs[0], up.ID) {
		l.acked[up.ID] = next
	}
	if l.outcome("Remove", errs[1], rm.ID) {
		delete(l.acked, rm.ID)
	}
}

// verify opens the spool anew and compares.
func (l *ledger) verify(dir string) {
	l.t.Helper()
	s := openTest(l.t, dir, &Options{fs: vfs.OS{}})
	found := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(l.t.Context(), spool.Query{}) {
		if err != nil {
			l.t.Fatalf("Scan: %v", err)
		}
		found[e.ID] = e
		if l.acked[e.ID] == nil && !l.unsure[e.ID] {
			l.t.Errorf("entry %s is there, and nobody was told so", e.ID)
		}
		l.readable(s, e)
	}
	for id, want := range l.acked {
		got := found[id]
		switch {
		case l.unsure[id]:
		case got == nil:
			l.t.Errorf("entry %s was acknowledged and is lost", id)
		case got.Attempts != want.Attempts:
			l.t.Errorf("entry %s has %d attempts, want %d", id, got.Attempts, want.Attempts)
		}
	}
	if err := checkIndex(s); err != nil {
		l.t.Error(err)
	}
	s.Close()
}

func (l *ledger) readable(s *Spool, e *spool.Entry) {
	l.t.Helper()
	b, err := s.Open(l.t.Context(), e.Body)
	if err != nil {
		l.t.Errorf("body of entry %s: %v", e.ID, err)
		return
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, l.bodies[e.Body]) {
		l.t.Errorf("body of entry %s: got %d bytes and error %v, want the %d that were stored", e.ID, len(got), err, len(l.bodies[e.Body]))
	}
}

// work does a little of everything: small and big bodies, a new segment, shared
// bodies, updates and removes.
func (l *ledger) work(dir string, fsys vfs.FS) {
	s, err := Open(dir, &Options{SegmentSize: 2 << 20, Reserve: -1, Logger: slog.New(slog.DiscardHandler), fs: fsys})
	if err != nil {
		l.t.Logf("Open: %v", err)
		return // nothing was acknowledged
	}
	l.s = s
	defer func() { abandon(s) }()
	a := l.store(100, 2)
	b := l.store(900_000, 1)
	c := l.store(2_000_000, 1)
	d := l.store(900_000, 1)
	if a != nil && b != nil {
		l.change(a[0], b[0])
	}
	if c != nil && d != nil {
		l.change(d[0], c[0])
	}
	l.store(5000, 3)
	if f := l.store(900_000, 1); f != nil && a != nil {
		l.change(f[0], a[1])
	}
}

// TestFaultPoints lets each single operation fail, as a damaged disk or a full
// one would, and looks for every acknowledged message afterwards.
func TestFaultPoints(t *testing.T) {
	count := vfstest.NewFault(vfs.OS{})
	count.Arm(0, nil)
	l := newLedger(t)
	dir := filepath.Join(fastDir(t), "spool")
	l.work(dir, count)
	l.verify(dir)
	if len(l.acked) != 6 {
		t.Fatalf("without a fault %d entries were stored, want 6", len(l.acked))
	}
	ops := count.Ops()
	t.Logf("%d fault points", len(ops))
	first, step := 1, 1
	if testing.Short() {
		first, step = 1+rand.IntN(4), 4
		t.Log("short form: a quarter of them")
	}
	for _, cause := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
		for at := first; at <= len(ops); at += step {
			if cause == syscall.EMFILE && ops[at-1][:6] != "create" {
				continue
			}
			t.Run(fmt.Sprintf("%d-%v", at, cause), func(t *testing.T) {
				fsys := vfstest.NewFault(vfs.OS{})
				fsys.Arm(at, cause)
				l, dir := newLedger(t), filepath.Join(fastDir(t), "spool")
				l.work(dir, fsys)
				if fsys.Fired() == "" {
					t.Skip("the work took another course")
				}
				l.verify(dir)
				l.classify(cause, fsys.Fired())
				if t.Failed() {
					t.Logf("the fault was %v in %s", cause, fsys.Fired())
				}
			})
		}
	}
}

// classify checks which faults are final: all but a lack of space, or of
// descriptors, before any sync.
func (l *ledger) classify(cause syscall.Errno, where string) {
	l.t.Helper()
	if l.s == nil {
		return // it was not even opened
	}
	op, _, _ := strings.Cut(where, " ")
	final := cause == syscall.EIO
	switch op {
	case "sync", "datasync", "datasynced", "syncdir", "commit", "committed":
		final = true
	case "remove", "truncate", "fill":
		final = false // what is not deleted or cut is too much, and harmless, and nothing needs zeros
	}
	if strings.HasSuffix(where, "/running") {
		final = false // a mark costs no mail
	}
	if failed := l.s.failed() != nil; failed != final {
		l.t.Errorf("after the fault the spool has failed: %v, want %v", failed, final)
	}
}
