package boltspool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs"
	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

// A crowd is several clients of one spool on a file system that is simulated, and
// its keeper, all at the same time. Each life has other options, and ends as that
// of a sim.
type crowd struct {
	dir     string
	rng     *rand.Rand
	fs      *vfstest.Crash
	clients []*sim
	fault   syscall.Errno
	damage  bool // a bit of the log turns now and then

	harmed  bool              // there is damage
	suspect map[spool.ID]bool // entries of which damage was reported, or may have been
	cuts    int               // that took place, as the following
	faults  int
	flips   int
	reports int // of damage

	backups atomic.Int64 // that were looked at
	copies  struct {
		sync.Mutex
		list []copied // of the present life
	}
}

func newCrowd(dir string, seed uint64, clients int) *crowd {
	first := newSim(dir, seed)
	c := &crowd{dir: dir, rng: first.rng, fs: first.fs, suspect: map[spool.ID]bool{}}
	for i := range clients {
		m := &sim{
			dir: dir, rng: rand.New(rand.NewPCG(seed, uint64(i+10))), fs: first.fs, bodies: map[spool.ID][]byte{},
			entries: map[spool.ID]*spool.Entry{}, maybe: map[spool.ID]bool{}, done: map[spool.ID]bool{},
		}
		c.clients = append(c.clients, m)
	}
	return c
}

func (c *crowd) options(fsys vfs.FS) *Options {
	full := c.rng.IntN(5) == 0
	return &Options{
		fs: fsys, index: simIndex{c.fs, fsys, full}, segmentSize: int64(8<<10 + c.rng.IntN(48<<10)), manual: full || c.rng.IntN(2) == 0,
		StageMemory: []int64{36 << 10, -1, 1 << 20}[c.rng.IntN(3)], Reserve: -1, ReserveInodes: -1,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// run lives some lives, and looks at what each has left.
func (c *crowd) run(lives int) error {
	for life := range lives {
		c.fs.Cut(1 + c.rng.IntN(250))
		if err := c.live(); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		killed := c.rng.IntN(2) == 0
		if !killed {
			c.cuts++
			c.fs = c.fs.After()
		}
		c.fs.Cut(0)
		if err := c.lookAtCopies(); err != nil {
			return fmt.Errorf("after life %d (killed %v): %w", life, killed, err)
		}
		if killed && c.rng.IntN(3) == 0 && c.knowsEnd() {
			c.flip()
		}
		for n := range c.rng.IntN(3) + 1 {
			if err := c.look(n > 0 && c.rng.IntN(4) == 0); err != nil {
				return fmt.Errorf("after life %d (killed %v): %w", life, killed, err)
			}
		}
		if c.rng.IntN(4) == 0 {
			c.flip()
		}
	}
	return nil
}

// knowsEnd reports whether all that is in the log is known to be durable. A process
// that died before it said so had told nobody, but the clients here outlive it.
func (c *crowd) knowsEnd() bool {
	o := c.options(c.fs)
	o.ReadOnly = true
	s, err := Open(c.dir, o)
	if err != nil {
		return false
	}
	defer s.Close()
	left, err := readMarks(c.fs, s.marksName())
	return err == nil && left.synced == s.mu.end.Place
}

// flip damages a bit of a segment, durably.
func (c *crowd) flip() {
	dir := filepath.Join(c.dir, "seg")
	files, err := c.fs.ReadDir(dir)
	if err != nil || len(files) == 0 || !c.damage {
		return
	}
	f, err := c.fs.OpenFile(filepath.Join(dir, files[c.rng.IntN(len(files))].Name()), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size == 0 {
		return
	}
	b, off := make([]byte, 1), c.rng.Int64N(size)
	if _, err := f.ReadAt(b, off); err != nil {
		return
	}
	b[0] ^= 1 << c.rng.IntN(8)
	if _, err := f.WriteAt(b, off); err == nil && f.Sync() == nil {
		c.harmed = true
		c.flips++
	}
}

// live opens the spool, and all work with it until the power is cut.
func (c *crowd) live() error {
	faulty := vfstest.NewFault(c.fs)
	defer func() {
		if faulty.Fired() != "" {
			c.faults++
		}
	}()
	if c.fault != 0 {
		faulty.Arm(1+c.rng.IntN(200), c.fault)
	}
	s, err := Open(c.dir, c.options(faulty))
	if errors.Is(err, vfstest.ErrPower) || err != nil && faulty.Fired() != "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("Open: %w", err)
	}
	defer abandon(s)
	if err := c.claimAll(s); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, len(c.clients))
	for i, m := range c.clients {
		m.s, m.fault = s, c.fault
		all.Go(func() {
			for range 40 {
				if s.failed() != nil {
					return
				}
				if errs[i] = c.step(m); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if c.rng.IntN(3) == 0 {
		if err := s.Close(); err != nil && !errors.Is(err, vfstest.ErrPower) && faulty.Fired() == "" {
			return fmt.Errorf("Close: %w", err)
		}
	}
	return nil
}

// claimAll gives each entry to the client that stored it.
func (c *crowd) claimAll(s *Spool) error {
	for _, m := range c.clients {
		m.owned, m.order = map[spool.ID]*spool.Entry{}, nil
	}
	entries, _, err := s.Claim(context.Background(), spool.ClaimRequest{Due: time.Now().Add(time.Hour), Limit: 10000})
	var corrupt *spool.CorruptError
	if err != nil && !errors.Is(err, spool.ErrFailed) && !(c.harmed && errors.As(err, &corrupt)) {
		return fmt.Errorf("Claim: %w", err)
	}
	for _, e := range entries {
		for _, m := range c.clients {
			if m.entries[e.ID] != nil && !c.suspect[e.ID] {
				m.own(e)
			}
		}
	}
	return nil
}

func (c *crowd) step(m *sim) error {
	switch op := m.rng.IntN(22); {
	case op < 7:
		return m.insert()
	case op < 10:
		return m.update()
	case op < 13:
		return m.remove()
	case op < 15:
		return m.split()
	case op < 17:
		return c.release(m)
	case op < 18:
		return c.read(m)
	case op < 19:
		return c.scanAll(m)
	case op < 20:
		return c.backup(m)
	default:
		m.s.keeper.run(func() {
			if m.rng.IntN(2) == 0 {
				if err := m.s.keeper.checkpoint(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
					m.s.fail(err)
				}
			}
			m.s.keeper.work()
		})
	}
	return nil
}

// split does what a Split does: an entry changes, others are new on its body and on
// a new one, and another ends.
func (m *sim) split() error {
	some := m.some(2)
	if len(some) == 0 {
		return nil
	}
	e := some[0]
	next := e.Clone()
	next.Attempts += 100
	u := unsure{[]*spool.Entry{e}, []*spool.Entry{next}}
	unit := spool.Unit{{Op: spool.Update, Entry: next, Keep: true}}
	add := func(e *spool.Entry, stage spool.Writer) {
		unit = append(unit, spool.Change{Op: spool.Insert, Entry: e, Stage: stage, Keep: true})
		u.before, u.after = append(u.before, nil), append(u.after, e)
	}
	add(testEntry(e.Body), nil)
	if w := m.stage(); w != nil {
		defer w.Abort()
		add(testEntry(w.ID()), w)
		add(testEntry(w.ID()), w)
		if m.rng.IntN(2) == 0 {
			next.Body = w.ID()
			unit[0].Stage = w
		}
	}
	if len(some) > 1 {
		unit = append(unit, spool.Change{Op: spool.Remove, Entry: some[1]})
		u.before, u.after = append(u.before, some[1]), append(u.after, nil)
	}
	return m.apply(unit, u)
}

// release gives an entry back, and claims it again.
func (c *crowd) release(m *sim) error {
	for _, e := range m.some(1) {
		err := errors.Join(m.s.Apply(context.Background(), spool.Unit{{Op: spool.Release, Entry: e}})...)
		if err != nil {
			if errors.Is(err, spool.ErrFailed) {
				return nil
			}
			return fmt.Errorf("Release: %w", err)
		}
		got, _, err := m.s.Claim(context.Background(), spool.ClaimRequest{IDs: []spool.ID{e.ID}})
		var corrupt *spool.CorruptError
		switch {
		case errors.Is(err, spool.ErrFailed), c.harmed && errors.As(err, &corrupt):
			delete(m.owned, e.ID)
		case err != nil || len(got) != 1 || !sameEntry(got[0], e) || got[0].Rev < e.Rev:
			return fmt.Errorf("claimed again: %v, error %w, want %v", got, err, e)
		default:
			m.own(got[0])
			m.entries[e.ID] = got[0]
			if got[0].Rev != e.Rev { // it was moved: what is stale is fenced
				stale := e.Clone()
				errs := m.s.Apply(context.Background(), spool.Unit{{Op: spool.Remove, Entry: stale}})
				if len(errs) != 1 || !errors.Is(errs[0], spool.ErrFenced) && !errors.Is(errs[0], spool.ErrFailed) {
					return fmt.Errorf("Remove at an old Rev: %v", errs)
				}
			}
		}
	}
	return nil
}

func (c *crowd) read(m *sim) error {
	for _, e := range m.some(3) {
		if err := m.readable(m.s, e); err != nil {
			var corrupt *spool.CorruptError
			if errors.Is(err, spool.ErrFailed) || c.harmed && errors.As(err, &corrupt) {
				continue
			}
			return err
		}
	}
	return nil
}

func crowds(t *testing.T, fault syscall.Errno, damage bool) {
	dir := filepath.Join(fastDir(t), "spool")
	runs, base := uint64(15), rand.Uint64()
	if *long {
		runs = uint64(tries(150))
	}
	if *simSeed != 0 {
		runs, base = 1, *simSeed
	}
	var cuts, faults, flips, reports int
	var backups int64
	for i := range runs {
		c := newCrowd(dir, base+i, 1+int((base+i)%4))
		c.fault, c.damage = fault, damage
		if err := c.run(6); err != nil {
			t.Fatalf("with -simseed %d: %.2000v", base+i, err)
		}
		cuts, faults, flips, reports = cuts+c.cuts, faults+c.faults, flips+c.flips, reports+c.reports
		backups += c.backups.Load()
	}
	t.Logf("%d power cuts, %d faults, %d bits damaged, which made %d reports, %d backups", cuts, faults, flips, reports, backups)
	if *simSeed == 0 && (backups == 0 || fault != 0 && faults == 0 || damage && reports == 0) {
		t.Error("nothing failed")
	}
}

// TestPowerCutCrowd is TestPowerCut with several clients and the keeper at the same
// time, which no seed repeats exactly.
func TestPowerCutCrowd(t *testing.T) { crowds(t, 0, false) }

// TestEIOCrowd is that with an operation that fails in each life.
func TestEIOCrowd(t *testing.T) { crowds(t, syscall.EIO, false) }

// TestENOSPCCrowd is that with one that finds no space.
func TestENOSPCCrowd(t *testing.T) { crowds(t, syscall.ENOSPC, false) }

// TestPowerCutDamage is that with bits of the log that turn. What is lost by that is
// reported, and nothing else is lost.
func TestPowerCutDamage(t *testing.T) { crowds(t, 0, true) }
