package boltspool

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// TestBackupUnderLoad takes backups again and again, two at a time, while messages
// come, change and end, in segments that are soon full and emptied.
func TestBackupUnderLoad(t *testing.T) {
	opts := &Options{segmentSize: taleSegment, Logger: quiet}
	s := newTest(t, opts)
	c := startCrew(t, s, 4)
	var wg sync.WaitGroup
	copies := make([]crewCopy, 16)
	for i := range 2 {
		wg.Go(func() {
			for k := i; k < len(copies); k += 2 {
				copies[k] = c.backup(filepath.Join(fastDir(t), "copy"))
			}
		})
	}
	wg.Wait()
	c.end()
	for _, k := range copies {
		c.check(k, opts)
	}
	if t.Failed() {
		return
	}
	c.removeAll()
	storeOne(t, s, noise(taleSegment)) // the segment before is closed
	s.keeper.run(func() { s.keeper.work() })
	// Two spares, each up to a quarter longer than a segment, and one that a renewal has added.
	if st := s.Stats(); st.Segments > 2 || st.Entries != 1 || st.SpareBytes > 4*taleSegment {
		t.Errorf("space is not used again after the backups: %+v", st)
	}
	if big, _ := filepath.Glob(filepath.Join(s.dir, "big", "*", "*")); len(big) > 0 {
		t.Errorf("%d files stay to which nothing refers", len(big))
	}
	t.Logf("%+v", s.Stats())
}

// A crew works on a spool. Each of its workers does one unit after the other, and
// takes note of it: a copy must hold what came of its first units, of those at
// least that were acknowledged before the copy was begun, and of those at most that
// were begun before it was ready.
type crew struct {
	t       *testing.T
	s       *Spool
	workers []*crewWorker
	stop    atomic.Bool
	wg      sync.WaitGroup
}

func startCrew(t *testing.T, s *Spool, n int) *crew {
	c := &crew{t: t, s: s}
	for i := range n {
		w := &crewWorker{name: "worker" + strconv.Itoa(i), s: s, rng: rand.New(rand.NewPCG(uint64(i), 5)), families: map[int][]*spool.Entry{}}
		c.workers = append(c.workers, w)
		c.wg.Go(func() {
			for !c.stop.Load() {
				if err := w.step(); err != nil {
					t.Errorf("%s: %v", w.name, err)
					return
				}
			}
		})
	}
	return c
}

func (c *crew) end() {
	c.stop.Store(true)
	c.wg.Wait()
}

func (c *crew) removeAll() {
	for _, w := range c.workers {
		for id := range w.families {
			if err := w.apply(crewUnit{id: -1}, removes(w.families[id])); err != nil {
				c.t.Error(err)
			}
		}
	}
}

// A crewCopy is a backup with what it may hold.
type crewCopy struct {
	dir   string
	least []int        // units of each worker that it must hold
	units [][]crewUnit // that it may hold
}

func (c *crew) backup(dir string) crewCopy {
	k := crewCopy{dir: dir}
	for _, w := range c.workers {
		_, acked := w.state()
		k.least = append(k.least, acked)
	}
	if err := c.s.Backup(context.Background(), dir); err != nil {
		c.t.Error(err)
	}
	for _, w := range c.workers {
		units, _ := w.state()
		k.units = append(k.units, units)
	}
	return k
}

// check looks at a backup.
func (c *crew) check(k crewCopy, opts *Options) {
	c.t.Helper()
	dir := k.dir
	for _, readOnly := range []bool{true, false} {
		o := *opts
		o.ReadOnly = readOnly
		if verified, err := Verify(context.Background(), dir, &o); err != nil || len(verified.Damaged) > 0 || verified.Healed > 0 {
			c.t.Errorf("Verify of a backup: %v, %v, %v", verified, verified.Damaged, err)
		}
		copied, err := Open(dir, &o)
		if err != nil {
			c.t.Errorf("opening a backup, read only %v: %v", readOnly, err)
			return
		}
		found := c.read(copied)
		for i, w := range c.workers {
			if err := match(found[w.name], k.units[i], k.least[i]); err != nil {
				c.t.Errorf("a backup, opened read only %v: %s: %v", readOnly, w.name, err)
			}
		}
		if err := checkIndex(copied); err != nil {
			c.t.Error(err)
		}
		if err := copied.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// match says whether what was found is what some of the units leave, all up to one
// of them, and not fewer than least.
func match(found map[int]int, units []crewUnit, least int) error {
	state := map[int]int{}
	for n := 0; ; n++ {
		if n >= least && maps.Equal(state, found) {
			return nil
		}
		if n == len(units) {
			return fmt.Errorf("%d units, of which %d were acknowledged before, do not lead to what is there at any time: %v", n, least, found)
		}
		for family, version := range units[n] {
			if state[family] = version; version < 0 {
				delete(state, family)
			}
		}
	}
}

// read returns which version of what family of which worker is in a spool. All of a
// family must be of the same, with bodies as they were stored.
func (c *crew) read(s *Spool) map[string]map[int]int {
	c.t.Helper()
	found, members, bodies := map[string]map[int]int{}, map[string]int{}, map[spool.ID]bool{}
	for e, err := range s.Scan(context.Background(), spool.Query{}) {
		if err != nil {
			c.t.Error(err)
			continue
		}
		family, _ := strconv.Atoi(e.Meta["family"])
		if found[e.Queue] == nil {
			found[e.Queue] = map[int]int{}
		}
		if version, ok := found[e.Queue][family]; ok && version != e.Attempts {
			c.t.Errorf("%s, family %d: half of it has version %d and half %d", e.Queue, family, version, e.Attempts)
		}
		found[e.Queue][family] = e.Attempts
		members[e.Queue+e.Meta["family"]+"/"+e.Meta["of"]]++
		if bodies[e.Body] {
			continue
		}
		bodies[e.Body] = true
		if b, err := readBody(c.t, s, e.Body); err != nil || !bytes.Equal(b, crewBody(e.Body)) {
			c.t.Errorf("%s, family %d: the body has %d bytes, error %v, which are not the %d that were stored", e.Queue, family, len(b), err, len(crewBody(e.Body)))
		}
	}
	for name, n := range members {
		if filepath.Base(name) != strconv.Itoa(n) {
			c.t.Errorf("%s has %d members", name, n)
		}
	}
	return found
}

// A crewWorker stores families of messages that have a body in common, changes them
// and ends them.
type crewWorker struct {
	name     string
	s        *Spool
	rng      *rand.Rand
	families map[int][]*spool.Entry
	next     int

	mu struct {
		sync.Mutex
		units []crewUnit // that were begun
		acked int
	}
}

// A crewUnit says at which version it leaves families; -1: ended.
type crewUnit map[int]int

func (w *crewWorker) state() (units []crewUnit, acked int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.units[:len(w.mu.units):len(w.mu.units)], w.mu.acked
}

// crewBody returns the body that a worker stores under an ID.
func crewBody(id spool.ID) []byte {
	sizes := [...]int{0, 200, 200, 1000, 1000, 4000, 4000, 4000, 30_000, 100_000}
	n := sizes[id[15]%10]
	if id[14] < 4 {
		n = maxSegmentBody + 1
	}
	return bytes.Repeat(id[:], n/len(id)+1)[:n]
}

func (w *crewWorker) step() error {
	family := -1
	for id := range w.families {
		family = id // any, as the order of a map is
		break
	}
	switch k := w.rng.IntN(20); {
	case len(w.families) < 5 || k < 6 && len(w.families) < 30:
		return w.insert(nil, crewUnit{})
	case k < 12:
		return w.update(family)
	case k < 14: // one comes from another
		return w.insert(removes(w.families[family]), crewUnit{family: -1})
	default:
		return w.apply(crewUnit{family: -1}, removes(w.families[family]))
	}
}

func removes(entries []*spool.Entry) (u spool.Unit) {
	for _, e := range entries {
		u = append(u, spool.Change{Op: spool.Remove, Entry: e})
	}
	return u
}

func (w *crewWorker) stage() (spool.Writer, error) {
	stage, err := w.s.Create(context.Background(), 0)
	if err == nil {
		_, err = stage.Write(crewBody(stage.ID()))
	}
	return stage, err
}

func (w *crewWorker) insert(u spool.Unit, note crewUnit) error {
	stage, err := w.stage()
	if err != nil {
		return err
	}
	defer stage.Abort()
	n := 1 + w.rng.IntN(4)
	if w.rng.IntN(10) == 0 {
		n = 3 * publishPart // others get to the index while such a unit is published
	}
	w.next++
	note[w.next] = 0
	for range n {
		now := time.Now()
		u = append(u, spool.Change{Op: spool.Insert, Stage: stage, Keep: true, Entry: &spool.Entry{
			ID: spool.NewID(), Body: stage.ID(), Queue: w.name, Class: "class", Due: now, Received: now,
			Meta: map[string]string{"family": strconv.Itoa(w.next), "of": strconv.Itoa(n)},
		}})
	}
	return w.apply(note, u)
}

// update gives a family another version, and now and then another body.
func (w *crewWorker) update(family int) error {
	var stage spool.Writer
	if w.rng.IntN(3) == 0 {
		var err error
		if stage, err = w.stage(); err != nil {
			return err
		}
		defer stage.Abort()
	}
	note, u := crewUnit{}, spool.Unit{}
	for _, e := range w.families[family] {
		e = e.Clone()
		e.Attempts++
		note[family] = e.Attempts
		c := spool.Change{Op: spool.Update, Entry: e, Keep: true}
		if stage != nil {
			e.Body, c.Stage = stage.ID(), stage
		}
		u = append(u, c)
	}
	return w.apply(note, u)
}

func (w *crewWorker) apply(note crewUnit, u spool.Unit) error {
	w.mu.Lock()
	w.mu.units = append(w.mu.units, note)
	w.mu.Unlock()
	if errs := w.s.Apply(context.Background(), u); errs != nil {
		return errs[0]
	}
	w.mu.Lock()
	w.mu.acked = len(w.mu.units)
	w.mu.Unlock()
	for family := range note {
		delete(w.families, family)
	}
	for _, c := range u {
		if c.Op != spool.Remove {
			family, _ := strconv.Atoi(c.Entry.Meta["family"])
			w.families[family] = append(w.families[family], c.Entry)
		}
	}
	return nil
}
