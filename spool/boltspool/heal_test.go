package boltspool

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/checkpoint"
)

// spoilRecord changes the record of an entry in the index of a spool that nobody
// has open, as a damaged disk would. It reports whether there is one.
func spoilRecord(t *testing.T, dir string, id spool.ID, how func(key, value []byte) (k, v []byte)) (found bool) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, checkpoint.Name), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("entries"))
		value := bytes.Clone(b.Get(id[:]))
		if found = value != nil; !found {
			return nil
		}
		key, value := how(bytes.Clone(id[:]), value)
		return errors.Join(b.Delete(id[:]), b.Put(key, value))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return found
}

// spoils are ways in which a record can be damaged.
var spoils = map[string]func(key, value []byte) (k, v []byte){
	"first byte of the value": func(k, v []byte) ([]byte, []byte) { return k, flipped(v, 0) },
	"place":                   func(k, v []byte) ([]byte, []byte) { return k, flipped(v, 9) },
	"body":                    func(k, v []byte) ([]byte, []byte) { return k, flipped(v, 40) },
	"checksum":                func(k, v []byte) ([]byte, []byte) { return k, flipped(v, len(v)-1) },
	"value cut":               func(k, v []byte) ([]byte, []byte) { return k, v[:len(v)/2] },
	"value gone":              func(k, v []byte) ([]byte, []byte) { return k, nil },
	"end of the key":          func(k, v []byte) ([]byte, []byte) { return flipped(k, len(k)-1), v },
	"begin of the key":        func(k, v []byte) ([]byte, []byte) { return flipped(k, 0), v },
	"key longer":              func(k, v []byte) ([]byte, []byte) { return append(k, v[0]), v[1:] },
	"key shorter":             func(k, v []byte) ([]byte, []byte) { return k[:15], append([]byte{k[15]}, v...) },
}

func flipped(b []byte, at int) []byte {
	b[at] ^= 0x02
	return b
}

// TestHeal damages records of the index of a spool with a past, which must open as
// if nothing had been.
func TestHeal(t *testing.T) {
	for i, name := range slices.Sorted(maps.Keys(spoils)) {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, crash %v", name, crash), func(t *testing.T) {
				l := newTale(t, uint64(i))
				l.run(200)
				if crash {
					abandon(l.s)
				} else {
					l.s.Close()
				}
				l.spoilSome(spoils[name])

				verified, err := Verify(t.Context(), l.s.dir, &l.opts)
				if err != nil || verified.Healed == 0 || len(verified.Damaged) > 0 {
					t.Errorf("Verify: got %v, %v, want some records of the index that the log makes good, and no other damage", verified, err)
				}
				l.openHealed()
				l.run(50)
				l.s.Close()
				verified, err = Verify(t.Context(), l.s.dir, &l.opts)
				if err != nil || verified.Healed != 0 || len(verified.Damaged) > 0 || verified.Entries != len(l.live) {
					t.Errorf("Verify after the index was repaired: got %v, %v, want %d entries and no damage", verified, err, len(l.live))
				}
			})
		}
	}
}

// spoilSome damages the records of about a third of the entries, ended ones too.
func (l *tale) spoilSome(how func(key, value []byte) (k, v []byte)) {
	l.t.Helper()
	n := 0
	for _, id := range slices.Concat(slices.SortedFunc(maps.Keys(l.live), compareIDs), slices.SortedFunc(maps.Keys(l.ended), compareIDs)) {
		if l.rng.IntN(3) == 0 && spoilRecord(l.t, l.s.dir, id, how) {
			n++
		}
	}
	if n == 0 {
		l.t.Fatal("there is no record to be damaged")
	}
}

// openHealed opens a spool whose index was damaged, compares it with what is known,
// and its index with one that knows it from the log alone.
func (l *tale) openHealed() {
	l.t.Helper()
	l.s = openTest(l.t, l.s.dir, &l.opts)
	l.check(l.s)
	if n := l.s.Stats().SetAside; n != 0 {
		l.t.Errorf("%d things are set aside, want nothing", n)
	}
	if err := checkIndex(l.s); err != nil {
		l.t.Error(err)
	}
	l.claim()
}

// TestHealNot damages the record of an entry in the index and in the log: it is set
// aside and reported after each opening, and no file is deleted.
func TestHealNot(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := openTest(t, fastDir(t), opts)
	dir := s.dir
	var victim *spool.Entry
	others := map[spool.ID]bool{}
	for i := range 12 {
		e := storeOne(t, s, noise(20_000))
		if i == 6 {
			victim = e
			continue
		}
		others[e.ID] = true
	}
	big := storeOne(t, s, noise(maxSegmentBody+1))
	others[big.ID] = true
	name, off, err := entryFile(s, victim.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flip(t, name, off+30)
	spoilRecord(t, dir, victim.ID, spoils["place"])
	files := spoolFiles(t, dir)

	for opening := range 3 {
		s = openTest(t, dir, opts)
		if got := damagedEntries(t, s); !slices.Equal(got, []spool.ID{victim.ID}) {
			t.Errorf("opening %d: Scan reports %v as damaged, want %v", opening, got, victim.ID)
		}
		entries, _, err := s.Claim(t.Context(), spool.ClaimRequest{Due: time.Now(), Limit: 100})
		if corrupt, ok := errors.AsType[*spool.CorruptError](err); !ok || corrupt.ID != victim.ID {
			t.Errorf("opening %d: Claim: got %v, want that entry %s is damaged", opening, err, victim.ID)
		}
		if _, _, err := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{victim.ID}}); err == nil {
			t.Errorf("opening %d: a Claim of the entry itself does not report it", opening)
		}
		if st := s.Stats(); st.SetAside != 1 || st.Entries != len(entries)+1 {
			t.Errorf("opening %d: Stats: got %+v, want 1 set aside, and %d entries", opening, st, len(entries)+1)
		}
		if opening == 1 { // nothing that was there needs its segment any more
			for _, e := range entries {
				if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Remove, Entry: e}}); errs != nil {
					t.Fatal(errs)
				}
			}
			for range 12 {
				storeOne(t, s, noise(20_000))
			}
		}
		s.keeper.run(func() { s.keeper.work() })
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("opening %d: a file was deleted: %v", opening, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// spoolFiles lists the segments and big files of a spool.
func spoolFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	for _, pattern := range []string{"seg/*.seg", "big/*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, names...)
	}
	return files
}

// damagedEntries returns the entries that Scan reports.
func damagedEntries(t *testing.T, s *Spool) (ids []spool.ID) {
	t.Helper()
	for _, err := range s.Scan(t.Context(), spool.Query{}) {
		if corrupt, ok := errors.AsType[*spool.CorruptError](err); ok {
			ids = append(ids, corrupt.ID)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// TestHealStale: an older record of the log is no help when the last one, which the
// index meant, is damaged.
func TestHealStale(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	e := storeOne(t, s, noise(100))
	next := e.Clone()
	next.Queue = "next"
	if errs := s.Apply(t.Context(), spool.Unit{{Op: spool.Update, Entry: next}}); errs != nil {
		t.Fatal(errs)
	}
	name, off, err := entryFile(s, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flip(t, name, off+30)
	spoilRecord(t, s.dir, e.ID, spoils["place"])
	s = openTest(t, s.dir, nil)
	if got := damagedEntries(t, s); !slices.Equal(got, []spool.ID{e.ID}) {
		t.Errorf("Scan reports %v as damaged, want %v", got, e.ID)
	}
}

// TestHealDamagedLog: where the log is damaged that healing relies on, that is
// reported, since something newer may have stood there; once, however often it is
// looked at.
func TestHealDamagedLog(t *testing.T) {
	s := openTest(t, fastDir(t), nil)
	first, hidden, victim := storeOne(t, s, noise(100)), storeOne(t, s, noise(100)), storeOne(t, s, noise(100))
	name, off, err := entryFile(s, hidden.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, victimOff, err := entryFile(s, victim.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	flip(t, name, groupBefore(t, name, off))
	flip(t, name, victimOff+30)
	spoilRecord(t, s.dir, first.ID, spoils["place"])
	spoilRecord(t, s.dir, victim.ID, spoils["place"])
	for range 3 {
		s = openTest(t, s.dir, nil)
		if got := damagedEntries(t, s); !slices.Equal(got, []spool.ID{{}, victim.ID}) {
			t.Errorf("Scan reports %v as damaged, want a part of the log and %v", got, victim.ID)
		}
		entries, _, _ := s.Claim(t.Context(), spool.ClaimRequest{IDs: []spool.ID{first.ID, hidden.ID}})
		if len(entries) != 2 {
			t.Errorf("Claim: %d entries, want 2", len(entries))
		}
		s.Close()
	}
}

// groupBefore returns where the header of the group stands in which something is.
func groupBefore(t *testing.T, name string, off int64) int64 {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b[:off], []byte("DQFR"))
	if at < 0 {
		t.Fatal("no group")
	}
	return int64(at)
}

// TestIndexFlips flips single bits all over the index of a spool with a past. It
// opens and all is there, or it reports what is not, or it does not open and says
// that Rebuild helps. Rebuild does.
func TestIndexFlips(t *testing.T) {
	l := newTale(t, 99)
	l.run(250)
	l.s.Close()
	l.s = openTest(t, l.s.dir, &l.opts) // which takes segments away that the last checkpoint but one knew
	abandon(l.s)
	dir := l.s.dir
	name := filepath.Join(dir, checkpoint.Name)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	opened, healed, unhealed, refused := 0, 0, 0, 0
	var places []int
	for at := range 80 { // the two pages that say which others count
		places = append(places, at, os.Getpagesize()+at)
	}
	stride := 250
	if testing.Short() {
		stride *= 4
		t.Log("short form: a quarter of the places")
	}
	for at := 2 * os.Getpagesize(); at < used; at += 1 + l.rng.IntN(stride) {
		places = append(places, at)
	}
	for _, at := range places {
		bad := flipped(bytes.Clone(whole), at)
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, &Options{ReadOnly: true, Logger: quiet})
		if err != nil {
			if refused++; !strings.Contains(err.Error(), "Rebuild") {
				t.Errorf("byte %d: Open: got %v, want an error that names Rebuild", at, err)
			}
			if refused%2 == 0 {
				l.rebuildCopy(dir)
			}
			continue
		}
		opened++
		if s.healed > 0 {
			healed++
		}
		if n := len(s.mu.damaged) + len(s.mu.regions); n > 0 { // not even the ID is where it was
			if unhealed++; len(l.missing(s)) > n {
				t.Errorf("%d entries are lost, and %d damages reported", len(l.missing(s)), n)
			}
			l.rebuildCopy(dir)
		} else {
			l.check(s)
		}
		s.Close()
		if t.Failed() {
			t.Fatalf("the bit was at byte %d of %d", at, used)
		}
	}
	t.Logf("%d bytes: opened %d times, %d of them with the help of the log, %d with damage; refused %d times", used, opened, healed, unhealed, refused)
	if healed == 0 || opened == healed || refused == 0 && !testing.Short() { // few places lead to that
		t.Error("not everything was tried")
	}
}

// missing returns what is live and not there.
func (l *tale) missing(s *Spool) (ids []spool.ID) {
	found := map[spool.ID]bool{}
	for e := range s.Scan(l.t.Context(), spool.Query{}) {
		if e != nil {
			found[e.ID] = true
		}
	}
	for id := range l.live {
		if !found[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// rebuildCopy makes the index of a copy anew, and compares.
func (l *tale) rebuildCopy(dir string) {
	l.t.Helper()
	to := fastDir(l.t)
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		l.t.Fatal(err)
	}
	defer os.RemoveAll(to)
	l.rebuild(to)
}
