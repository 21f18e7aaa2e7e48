package spooltest

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A lookCall reads beside other calls.
type lookCall struct {
	f      *fixture
	body   spool.ID // of an entry that no call of the round changes; zero: none
	want   string
	before map[spool.ID]*spool.Entry // set when the others have returned

	entries []*spool.Entry
	err     error
}

// looking prepares a Scan, a Queues and the reading of a body.
func (r *run) looking(by *owner) *lookCall {
	r.count("look beside others")
	c := &lookCall{f: r.as(by)}
	if s := r.pick(func(*modelled) bool { return true }); s != nil {
		c.body, c.want = s.e.Body, r.m.bodies[s.e.Body]
	}
	return c
}

func (c *lookCall) do() {
	for e, err := range c.f.sp.Scan(c.f.ctx, spool.Query{}) {
		if c.err = err; err != nil {
			return
		}
		c.entries = append(c.entries, e)
	}
	for info, err := range c.f.sp.Queues(c.f.ctx) {
		if err == nil && info.Entries <= 0 {
			err = fmt.Errorf("got %+v from Queues", info)
		}
		if c.err = err; err != nil {
			return
		}
	}
	if !c.body.IsZero() {
		c.err = c.f.readBack(c.body, c.want)
	}
}

// readBack compares a stored body, from any goroutine.
func (f *fixture) readBack(id spool.ID, want string) error {
	b, err := f.sp.Open(f.ctx, id)
	if err != nil {
		return fmt.Errorf("opening a stored body: %w", err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil || string(got) != want {
		return fmt.Errorf("body %s of %d bytes: read %d bytes, which may be others, error %w", id, len(want), len(got), err)
	}
	return nil
}

// settle compares what Scan yielded with what each entry was before and after.
func (c *lookCall) settle(r *run) {
	r.ok(c.err, "a look beside other calls")
	got := make(map[spool.ID]bool)
	for i, e := range c.entries {
		if got[e.ID] = true; i > 0 && byID(e, c.entries[i-1])[0] == e {
			r.fail("Scan: %s does not come after the one before it", e.ID)
		}
		before, after := c.before[e.ID], r.m.entries[e.ID]
		switch {
		case before != nil && before.LastError == e.LastError:
			r.version("by Scan", e, before)
		case after != nil:
			want := after.e.Clone()
			want.Rev = e.Rev // from before it was claimed
			r.equal("by Scan", e, want)
		default:
			r.fail("Scan yielded what was not stored: %s", describe(e))
		}
	}
	for id := range c.before {
		if s := r.m.entries[id]; s != nil && !got[id] {
			r.fail("Scan did not yield what was stored all the time: %s", describe(s.e))
		}
	}
}

// check compares all that is stored with the model.
func (r *run) check() {
	r.t.Helper()
	r.count("check")
	f := r.as(r.by())
	var want []*spool.Entry
	for _, id := range r.m.ids() {
		want = append(want, r.m.entries[id].e)
	}
	got := f.stored()
	f.same("Scan", got, want)
	for i, e := range got {
		r.version("by Scan", e, want[i])
		if s := r.m.entries[e.ID]; s.owner != nil && s.e.Rev != e.Rev {
			r.fail("Scan: Rev of an owned entry is %d, want %d, as its owner knows it", e.Rev, s.e.Rev)
		}
	}
	if n := len(want); n > 0 {
		from := r.rng.IntN(n)
		queue := want[from].Queue
		some := slices.DeleteFunc(slices.Clone(want[from+1:]), func(e *spool.Entry) bool { return e.Queue != queue })
		f.same("Scan of one queue from somewhere on", f.scan(spool.Query{Queue: queue, After: want[from].ID}), some)
	}
	f.infos(r.m.infos()...)
	for _, e := range want {
		r.ok(f.readBack(e.Body, r.m.bodies[e.Body]), "check")
	}
	for body := range r.m.bodies {
		if !r.m.refers(body) {
			r.lost(body)
		}
	}
	for _, body := range r.gone {
		f.lacks(body, "to which no entry refers")
	}
	r.ok(f.sp.Health(), "Health")
}

// emptied removes everything, which leaves nothing.
func (r *run) emptied() {
	r.t.Helper()
	for id, s := range r.m.entries {
		by := s.owner
		if by == nil {
			by = r.owners[0]
			r.claimed(by, r.as(by).one(id))
		}
		r.ok(r.as(by).try(unit(spool.Remove, s.e)), "Remove")
		r.lost(s.e.Body)
	}
	clear(r.m.entries)
	clear(r.m.bodies)
	r.check()
}

// mark begins or ends the handlers of some entries.
func (r *run) mark() {
	by := r.by()
	starter, ok := by.sp.(spool.Starter)
	if !ok {
		return
	}
	for range 6 {
		s := r.owned(by)
		switch {
		case s == nil:
		case s.marked && r.chance(50):
			r.ended(by, s)
		case s.marked:
		default:
			r.count("started")
			starter.Started(s.e.ID)
			s.marked = true
		}
	}
}

// ended ends the handler of an entry, if it runs.
func (r *run) ended(by *owner, s *modelled) {
	if s.marked {
		by.sp.(spool.Starter).Ended(s.e.ID)
		s.marked = false
	}
}

// readOn opens a body, or reads one that was opened rounds ago, when it may be
// gone.
func (r *run) readOn() {
	if s := r.pick(func(*modelled) bool { return true }); s != nil && len(r.readers) < 8 {
		r.count("body held open")
		by := r.by()
		b, err := by.sp.Open(r.ctx, s.e.Body)
		r.ok(err, "Open of a stored body")
		r.readers = append(r.readers, modelReader{held{b, r.m.bodies[s.e.Body]}, by})
		return
	}
	if n := len(r.readers); n > 0 {
		i := r.rng.IntN(n)
		r.reads(r.readers[i].b, r.readers[i].want)
		r.readers = slices.Delete(r.readers, i, i+1)
	}
}

// readAll reads what is held open, and leaves it open.
func (r *run) readAll() {
	r.t.Helper()
	for _, h := range r.readers {
		_, err := h.b.Seek(0, io.SeekStart)
		r.ok(err, "Body.Seek to the start")
		got, err := io.ReadAll(h.b)
		if err != nil || string(got) != h.want {
			r.fail("a body of %d bytes that is held open reads %d bytes, which may be others, error %v", len(h.want), len(got), err)
		}
	}
}

// dropReaders closes the bodies that an owner opened. Those that are still read
// when it was closed read right, or answer ErrClosed.
func (r *run) dropReaders(by *owner, read bool) {
	r.t.Helper()
	r.readers = slices.DeleteFunc(r.readers, func(h modelReader) bool {
		if h.by != by {
			return false
		}
		if read {
			if err := h.sample(3); err != nil && !errors.Is(err, spool.ErrClosed) {
				r.fail("reading a body after the spool was closed: %v", err)
			}
		}
		h.b.Close()
		return true
	})
}
