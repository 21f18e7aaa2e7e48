package seglog

import (
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/deferredqueue/deferredqueue/spool/boltspool/internal/vfs/vfstest"
)

var (
	long     = flag.Bool("long", false, "run the long form of the tests")
	seedFlag = flag.Uint64("seed", 0, "run crashes with this seed alone")
)

// TestPowerCut cuts the power of a log at random operations, thousands of times a
// second: every group whose Sync was nil is found, whole, in its order, and behind
// them at most the one that was being written.
func TestPowerCut(t *testing.T) {
	runs, base := 1500, rand.Uint64()
	if *long {
		runs = 60_000
	}
	if *seedFlag != 0 {
		runs, base = 1, *seedFlag
	}
	start, cuts := time.Now(), 0
	for i := range runs {
		cuts += crash(t, base+uint64(i))
		if t.Failed() {
			t.Fatalf("with -seed %d", base+uint64(i))
		}
	}
	t.Logf("%d power cuts, %.0f a second", cuts, float64(cuts)/time.Since(start).Seconds())
}

// TestPowerCutTeeth: without syncs groups are lost.
func TestPowerCutTeeth(t *testing.T) {
	for name, without := range map[string]func(fs *vfstest.Crash){
		"file": func(fs *vfstest.Crash) { fs.NoSync = true },
		"dir":  func(fs *vfstest.Crash) { fs.NoSyncDir = true },
	} {
		lost := false
		for seed := range uint64(50) {
			c := newCrasher(seed)
			without(c.fs)
			for range 3 {
				if c.live(); c.look() != nil {
					lost = true
				}
			}
		}
		if !lost {
			t.Errorf("a log that does not sync (%s) lost nothing", name)
		}
	}
}

func crash(t *testing.T, seed uint64) (cuts int) {
	c := newCrasher(seed)
	for life := range 4 {
		c.live()
		if err := c.look(); err != nil {
			t.Errorf("life %d: %v", life, err)
			return c.cuts
		}
	}
	return c.cuts
}

// A crasher is a log whose power is cut, and what of it must be found: groups,
// and behind them perhaps pending.
type crasher struct {
	rng     *rand.Rand
	fs      *vfstest.Crash
	r       *tester
	pending *written
	cuts    int
}

func newCrasher(seed uint64) *crasher {
	c := &crasher{rng: rand.New(rand.NewPCG(seed, 3)), fs: newFS(seed)}
	c.r = &tester{size: 6 << 10, start: Start{Place: Beginning, Number: 1}}
	return c
}

// live opens the log and appends to it, takes segments away and makes others
// ready, until the power is cut.
func (c *crasher) live() {
	c.fs.Cut(1 + c.rng.IntN(80))
	c.r.fs = c.fs
	err := c.open()
	for err == nil {
		switch c.rng.IntN(8) {
		case 0:
			c.forget()
		case 1:
			err = c.r.l.Prepare()
		case 2:
			err = c.r.l.Secure(500, 1000)
		default:
			g := group(c.rng, 700)
			if err = c.r.try(g); err != nil {
				c.pending = &g
			}
		}
	}
	if !errors.Is(err, vfstest.ErrPower) {
		c.r.groups = nil // look fails
	}
	if c.rng.IntN(5) > 0 {
		c.cuts++
		c.fs = c.fs.After()
	}
	c.fs.Cut(0)
}

func (c *crasher) open() error {
	_, err := c.r.replay()
	if err == nil {
		err = c.r.l.Resume()
	}
	for _, g := range c.r.groups {
		c.r.l.AddLive(g.place, 1)
	}
	return err
}

// forget needs some groups no longer, as after a checkpoint.
func (c *crasher) forget() {
	r := c.r
	n := c.rng.IntN(len(r.groups) + 1)
	for _, g := range r.groups[:n] {
		r.l.AddLive(g.place, -1)
	}
	end, number := r.l.End()
	if r.groups = r.groups[n:]; len(r.groups) > 0 {
		end, number = r.groups[0].place, number-uint64(len(r.groups))
	}
	r.start = Start{Place: end, Number: number}
	r.l.Reclaim(end.Segment())
}

// look compares what is found with what must be.
func (c *crasher) look() error {
	c.r.fs = c.fs
	got, err := c.r.replay()
	if err != nil {
		return err
	}
	groups, pending := c.r.groups, c.pending
	c.pending = nil
	if len(c.r.damage) > 0 {
		return c.r.damage[0]
	}
	switch {
	case len(got) == len(groups)+1 && pending != nil && string(got[len(groups)].Payload) == string(pending.payload):
		pending.place = got[len(groups)].Place
		c.r.groups = append(c.r.groups, *pending) // it counts from here on
		if err := c.r.l.Resume(); err != nil {
			return err
		}
	case len(got) != len(groups):
		return errors.New("groups are lost, or were never written")
	}
	for i, g := range c.r.groups {
		if got[i].Place != g.place || string(got[i].Payload) != string(g.payload) || got[i].Err != nil {
			return errors.New("a group differs")
		}
	}
	return c.bodies()
}

func (c *crasher) bodies() error {
	defer c.r.l.Reading()()
	for _, g := range c.r.groups {
		p := BodyPlace(g.place, len(g.payload))
		for _, b := range g.bodies {
			if got, err := c.r.l.Body(p, b.ID, int64(len(b.Data))); err != nil || string(got) != string(b.Data) {
				return errors.Join(err, errors.New("a body differs"))
			}
			p = p.Plus(FrameSize(int64(len(b.Data))))
		}
	}
	return nil
}
