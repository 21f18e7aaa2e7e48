package boltspool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A sim is a spool on a file system that is simulated, and what a client knows of
// it.
type sim struct {
	dir string
	rng *rand.Rand
	fs  *vfstest.Crash
	s   *Spool

	fault        syscall.Errno // that an operation of each life fails with; 0: none
	cuts, faults int           // that took place

	bodies  map[spool.ID][]byte
	entries map[spool.ID]*spool.Entry // that are stored for certain, as they are
	owned   map[spool.ID]*spool.Entry // of these, by the present spool
	order   []spool.ID                // of the owned, and of some that no longer are
	unsure  []unsure
	maybe   map[spool.ID]bool // entries of unsure
	done    map[spool.ID]bool // removed for certain
}

// An unsure is a unit of which nobody knows whether it was stored.
type unsure struct {
	before, after []*spool.Entry // of the same entries; nil for what is not there
}

func newSim(dir string, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &sim{
		dir: dir, rng: rng, fs: vfstest.NewCrash(rng), bodies: map[spool.ID][]byte{},
		entries: map[spool.ID]*spool.Entry{}, maybe: map[spool.ID]bool{}, done: map[spool.ID]bool{},
	}
	m.fs.MakeParents(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil { // for the lock, which is not simulated
		panic(err)
	}
	return m
}

func (m *sim) options(fsys vfs.FS) *Options {
	return &Options{
		fs: fsys, index: simIndex{m.fs, fsys, false}, segmentSize: 24 << 10, manual: true, StageMemory: 36 << 10, Reserve: -1,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// run lives some lives, each of which ends with a power cut or the death of the
// process, and looks at what is left. After a death another process may go on before the
// power is cut.
func (m *sim) run() error {
	for life := range 3 {
		for again := true; again; again = m.rng.IntN(3) == 0 {
			m.fs.Cut(1 + m.rng.IntN(120))
			if err := m.live(); err != nil {
				return fmt.Errorf("life %d: %w", life, err)
			}
		}
		if m.rng.IntN(6) > 0 { // else the process died and the power stayed
			m.cuts++
			m.fs = m.fs.After()
			simIndex{fs: m.fs}.cut(m.dir, m.rng)
		}
		m.fs.Cut(0)
		if err := m.look(); err != nil {
			return fmt.Errorf("after life %d: %w", life, err)
		}
	}
	return nil
}

// live opens the spool and works with it until the power is cut.
func (m *sim) live() error {
	faulty := vfstest.NewFault(m.fs)
	defer func() {
		if faulty.Fired() != "" {
			m.faults++
		}
	}()
	if m.fault != 0 {
		faulty.Arm(1+m.rng.IntN(120), m.fault)
	}
	s, err := Open(m.dir, m.options(faulty))
	if errors.Is(err, vfstest.ErrPower) || err != nil && faulty.Fired() != "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	m.s = s
	defer abandon(s)
	if err := m.compare(s); err != nil {
		return err
	}
	m.owned, m.order = map[spool.ID]*spool.Entry{}, nil
	if err := m.claimAll(); err != nil {
		return err
	}
	for range 60 {
		if s.failed() != nil {
			return nil
		}
		if err := m.step(); err != nil {
			return err
		}
	}
	if m.rng.IntN(2) == 0 { // sometimes it closes in time
		if err := s.Close(); err != nil && !errors.Is(err, vfstest.ErrPower) && faulty.Fired() == "" {
			return fmt.Errorf("Close: %w", err)
		}
	}
	return nil
}

func (m *sim) claimAll() error {
	entries, _, err := m.s.Claim(context.Background(), spool.ClaimRequest{Due: time.Now().Add(time.Hour), Limit: 1000})
	if err != nil && !errors.Is(err, spool.ErrFailed) {
		return fmt.Errorf("Claim: %w", err)
	}
	for _, e := range entries {
		m.own(e)
	}
	return nil
}

func (m *sim) own(e *spool.Entry) {
	if m.owned[e.ID] == nil {
		m.order = append(m.order, e.ID)
	}
	m.owned[e.ID] = e
}

func (m *sim) step() error {
	switch op := m.rng.IntN(12); {
	case op < 5:
		return m.insert()
	case op < 7:
		return m.update()
	case op < 10:
		return m.remove()
	case op < 11:
		m.s.keeper.run(func() { m.s.keeper.work() })
	default:
		m.s.keeper.run(func() {
			err := m.s.keeper.checkpoint()
			if err == nil {
				m.s.keeper.work()
			} else if !errors.Is(err, vfs.ErrNoSpace) {
				m.s.fail(err)
			}
		})
	}
	return nil
}

var simSizes = []int{0, 1, 100, 3000, 4096, 9000, 9000, 20_000}

// stage stages a new body, nil if that failed.
func (m *sim) stage() *writer {
	w, err := m.s.Create(context.Background(), 0)
	if err != nil {
		return nil
	}
	b := make([]byte, simSizes[m.rng.IntN(len(simSizes))])
	for i := range b {
		b[i] = byte(m.rng.Uint32())
	}
	m.bodies[w.ID()] = b
	if _, err := w.Write(b); err != nil {
		w.Abort()
		return nil
	}
	return w.(*writer)
}

// insert stores a message of one to three entries.
func (m *sim) insert() error {
	w := m.stage()
	if w == nil {
		return nil
	}
	defer w.Abort()
	u := unsure{}
	var unit spool.Unit
	for range 1 + m.rng.IntN(3) {
		e := testEntry(w.ID())
		e.Attempts, e.LastError = m.rng.IntN(3), fmt.Sprint("said to ", e.ID)
		e.Header = bytes.Repeat([]byte("X: y\r\n"), m.rng.IntN(200))
		unit = append(unit, spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true})
		u.before, u.after = append(u.before, nil), append(u.after, e)
	}
	return m.apply(unit, u)
}

// some returns up to n entries that are owned.
func (m *sim) some(n int) (entries []*spool.Entry) {
	m.order = slices.DeleteFunc(m.order, func(id spool.ID) bool { return m.owned[id] == nil })
	for _, i := range m.rng.Perm(len(m.order))[:min(n, len(m.order))] {
		entries = append(entries, m.owned[m.order[i]])
	}
	return entries
}

// update changes entries, at times together with a new body.
func (m *sim) update() error {
	u := unsure{}
	var unit spool.Unit
	for _, e := range m.some(1 + m.rng.IntN(2)) {
		next := e.Clone()
		next.Attempts += 10
		c := spool.Change{Op: spool.Update, Entry: next, Keep: true}
		if m.rng.IntN(3) == 0 {
			if w := m.stage(); w != nil {
				defer w.Abort()
				c.Stage, next.Body = w, w.ID()
			}
		}
		unit = append(unit, c)
		u.before, u.after = append(u.before, e), append(u.after, next)
	}
	return m.apply(unit, u)
}

func (m *sim) remove() error {
	u := unsure{}
	var unit spool.Unit
	for _, e := range m.some(1 + m.rng.IntN(6)) {
		unit = append(unit, spool.Change{Op: spool.Remove, Entry: e})
		u.before, u.after = append(u.before, e), append(u.after, nil)
	}
	return m.apply(unit, u)
}

func (m *sim) apply(unit spool.Unit, u unsure) error {
	err := errors.Join(m.s.Apply(context.Background(), unit)...)
	for i := range u.before {
		var id spool.ID
		if u.before[i] != nil {
			id = u.before[i].ID
		} else {
			id = u.after[i].ID
		}
		switch {
		case m.passing(err): // certainly not
		case err != nil:
			m.maybe[id] = true
			delete(m.owned, id)
		case u.after[i] == nil:
			delete(m.owned, id)
			delete(m.entries, id)
			m.done[id] = true
		default:
			m.own(u.after[i])
			m.entries[id] = u.after[i]
		}
	}
	switch {
	case err == nil, m.passing(err):
	case errors.Is(err, spool.ErrFailed):
		m.unsure = append(m.unsure, u)
	default:
		return fmt.Errorf("Apply: %w", err)
	}
	return nil
}

// passing reports whether nothing was applied for want of space. Then there is
// space again.
func (m *sim) passing(err error) bool {
	if m.fault != syscall.ENOSPC || !errors.Is(err, spool.ErrFull) {
		return false
	}
	m.s.setShort(shortBytes, false)
	return true
}

// look opens the spool and compares.
func (m *sim) look() error {
	s, err := Open(m.dir, m.options(m.fs))
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	defer s.Close()
	return m.compare(s)
}

func (m *sim) compare(s *Spool) error {
	if err := checkIndex(s); err != nil {
		return err
	}
	found := map[spool.ID]*spool.Entry{}
	for e, err := range s.Scan(context.Background(), spool.Query{}) {
		if err != nil {
			return fmt.Errorf("Scan: %w", err)
		}
		found[e.ID] = e
		switch {
		case m.done[e.ID]:
			return fmt.Errorf("entry %s was removed, and is there", e.ID)
		case m.entries[e.ID] == nil && !m.maybe[e.ID]:
			return fmt.Errorf("entry %s was never stored, and is there", e.ID)
		}
		if err := m.readable(s, e); err != nil {
			return err
		}
	}
	for id, want := range m.entries {
		if !m.maybe[id] && !sameEntry(found[id], want) {
			return fmt.Errorf("entry %s: got %+v, want %+v", id, found[id], want)
		}
	}
	return m.resolve(found)
}

func (m *sim) readable(s *Spool, e *spool.Entry) error {
	b, err := s.Open(context.Background(), e.Body)
	if err != nil {
		return fmt.Errorf("body of entry %s: %w", e.ID, err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, m.bodies[e.Body]) {
		return fmt.Errorf("body of entry %s: %d bytes, error %w, want %d", e.ID, len(got), err, len(m.bodies[e.Body]))
	}
	return nil
}

func sameEntry(a, b *spool.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ID == b.ID && a.Body == b.Body && a.Attempts == b.Attempts && a.LastError == b.LastError && bytes.Equal(a.Header, b.Header)
}

// resolve finds out what became of the units of which nobody knew: each whole or
// not at all. From now on it is known.
func (m *sim) resolve(found map[spool.ID]*spool.Entry) error {
	for _, u := range m.unsure {
		before, after := true, true
		for i := range u.before {
			var id spool.ID
			if u.before[i] != nil {
				id = u.before[i].ID
			} else {
				id = u.after[i].ID
			}
			before = before && sameEntry(found[id], u.before[i])
			after = after && sameEntry(found[id], u.after[i])
			if delete(m.entries, id); found[id] != nil {
				m.entries[id] = found[id]
			} else {
				m.done[id] = true
			}
		}
		if !before && !after {
			return fmt.Errorf("half of a unit is there: before %+v, after %+v", u.before, u.after)
		}
	}
	m.unsure = nil
	clear(m.maybe)
	return nil
}
