package spooltest

import (
	"fmt"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// unit makes a unit that by could apply, from entries that it owns.
func (r *run) unit(by *owner) (u spool.Unit) {
	crowded := len(r.m.entries) > modelEntries
	switch n := r.rng.IntN(100); {
	case crowded:
	case n < 20:
		r.count("message")
		return r.message(by)
	case n < 35:
		if u = r.split(by); u != nil {
			r.count("split")
			return u
		}
	case n < 45:
		if e := r.pick(func(*modelled) bool { return true }); e != nil {
			r.count("insert onto a stored body")
			return spool.Unit{{Op: spool.Insert, Entry: r.fresh(e.e.Body), Keep: r.chance(50)}}
		}
	}
	for range 1 + r.rng.IntN(3) {
		if s := r.owned(by); s != nil {
			u = append(u, r.change(by, s, crowded))
		}
		if r.chance(5) { // which succeeds
			r.count("remove what is not stored")
			u = append(u, spool.Change{Op: spool.Remove, Entry: r.entry(spool.NewID())})
		}
	}
	return u
}

// message makes a new body with some entries.
func (r *run) message(by *owner) (u spool.Unit) {
	w := r.stage(by)
	n := 1 + r.rng.IntN(4)
	if r.chance(2) {
		n = 40
	}
	for range n {
		u = append(u, spool.Change{Op: spool.Insert, Entry: r.fresh(w.ID()), Stage: w, Keep: r.chance(60)})
	}
	return u
}

// split makes one message into several: on a new body, and on the old one.
func (r *run) split(by *owner) (u spool.Unit) {
	s := r.owned(by)
	if s == nil {
		return nil
	}
	w := r.stage(by)
	next := s.e.Clone()
	c := spool.Change{Op: spool.Update, Entry: next, Keep: r.keep(by, s)}
	if r.chance(70) {
		next.Body, c.Stage = w.ID(), w
	}
	r.edit(next)
	u = append(u, c, spool.Change{Op: spool.Insert, Entry: r.fresh(w.ID()), Stage: w, Keep: r.chance(30)})
	for range r.rng.IntN(3) {
		u = append(u, spool.Change{Op: spool.Insert, Entry: r.fresh(s.e.Body), Keep: r.chance(30)})
	}
	r.rng.Shuffle(len(u), func(i, j int) { u[i], u[j] = u[j], u[i] })
	return u
}

// change makes a change of an entry that by owns.
func (r *run) change(by *owner, s *modelled, crowded bool) spool.Change {
	n := r.rng.IntN(100)
	if crowded {
		n /= 3
	}
	switch {
	case n < 25:
		r.count("remove")
		return spool.Change{Op: spool.Remove, Entry: s.e.Clone()}
	case n < 35:
		r.count("release")
		r.ended(by, s)
		return spool.Change{Op: spool.Release, Entry: s.e.Clone()}
	}
	r.count("update")
	next := s.e.Clone()
	c := spool.Change{Op: spool.Update, Entry: next, Keep: r.keep(by, s)}
	switch n := r.rng.IntN(100); {
	case n < 25:
		r.count("update with a new body")
		c.Stage = r.stage(by)
		next.Body = c.Stage.ID()
	case n < 45:
		if other := r.pick(func(o *modelled) bool { return o.e.Body != s.e.Body }); other != nil {
			r.count("update to another body")
			next.Body = other.e.Body
		}
	}
	r.edit(next)
	return c
}

// keep decides whether an update keeps an entry. One that is given up is no
// longer marked.
func (r *run) keep(by *owner, s *modelled) bool {
	if r.chance(65) {
		return true
	}
	r.ended(by, s)
	return false
}

// bad adds to a unit what its Spool must refuse, if there is something to add.
func (r *run) bad(by *owner, u spool.Unit) spool.Unit {
	c := spool.Change{Op: []spool.Op{spool.Update, spool.Remove, spool.Release}[r.rng.IntN(3)]}
	switch r.rng.IntN(5) {
	case 0: // a stale Rev
		if s := r.owned(by); s != nil {
			c.Entry = s.e.Clone()
			c.Entry.Rev--
		}
	case 1: // an entry that another owns
		if s := r.pick(func(s *modelled) bool { return s.owner != nil && s.owner != by }); s != nil {
			c.Entry = s.e.Clone()
		}
	case 2: // an ID that is stored
		if s := r.pick(func(*modelled) bool { return true }); s != nil {
			c.Op, c.Entry = spool.Insert, r.fresh(s.e.Body)
			c.Entry.ID = s.e.ID
		}
	case 3: // a body that is not stored
		c.Op, c.Entry = spool.Insert, r.fresh(spool.NewID())
		c.Entry.Skip = 0
		if n := len(r.gone); n > 0 {
			c.Entry.Body = r.gone[r.rng.IntN(n)]
		}
	case 4: // an entry that is not stored
		if s := r.pick(func(*modelled) bool { return true }); s != nil {
			c.Op, c.Entry = spool.Update, r.fresh(s.e.Body)
		}
	}
	if c.Entry == nil {
		return u
	}
	at := r.rng.IntN(len(u) + 1)
	return append(u[:at:at], append(spool.Unit{c}, u[at:]...)...)
}

// pick returns a stored entry that no call of this round is about yet, nil if
// there is none that suits.
func (r *run) pick(suits func(*modelled) bool) *modelled {
	ids := r.m.ids()
	if len(ids) == 0 {
		return nil
	}
	start := r.rng.IntN(len(ids))
	for i := range ids {
		id := ids[(start+i)%len(ids)]
		if s := r.m.entries[id]; !r.busy[id] && suits(s) {
			r.busy[id] = true
			return s
		}
	}
	return nil
}

// owned picks an entry that by owns.
func (r *run) owned(by *owner) *modelled {
	return r.pick(func(s *modelled) bool { return s.owner == by })
}

// stage makes a new body.
func (r *run) stage(by *owner) spool.Writer {
	size := r.rng.IntN(300)
	switch n := r.rng.IntN(100); {
	case n < 3:
		size = r.lengths[r.rng.IntN(len(r.lengths))]
	case n < 20:
		size = r.rng.IntN(20_000)
	}
	body := noise(size)
	w := r.as(by).create(body)
	r.m.bodies[w.ID()] = body
	return w
}

// fresh returns a new entry for a body.
func (r *run) fresh(body spool.ID) *spool.Entry {
	e := r.entry(body)
	e.Received = r.time()
	r.edit(e)
	return e
}

// edit changes everything of an entry that an Update may change, but for the
// body.
func (r *run) edit(e *spool.Entry) {
	r.token++
	e.LastError = fmt.Sprint("version ", r.token)
	e.Queue, e.Class = r.name("queue", 5), r.name("class", 4)
	e.Due = r.time()
	e.Expires = time.Time{}
	if r.chance(20) {
		e.Expires = r.time().AddDate(0, 0, 7)
	}
	e.State, e.Outcome = spool.Queued, nil
	switch n := r.rng.IntN(100); {
	case n < 8:
		e.State = spool.Held
	case n < 16:
		e.State, e.Outcome = spool.Final, []byte(noise(r.rng.IntN(500)))
	}
	e.Attempts, e.Interrupted = r.rng.IntN(5), r.rng.IntN(3)
	e.Header = []byte(noise(r.rng.IntN(3) * r.rng.IntN(1000)))
	e.Skip = min(int64(len(r.m.bodies[e.Body])), int64(r.rng.IntN(3)*r.rng.IntN(200)))
	e.Envelope.SMTPUTF8, e.Envelope.RequireTLS = r.chance(20), r.chance(20)
	e.Envelope.Recipients = nil
	for n := range r.rng.IntN(4) {
		e.Envelope.Recipients = append(e.Envelope.Recipients, spool.Recipient{Address: fmt.Sprintf("rcpt-%d@example.net", n)})
	}
	e.Meta = map[string]string{"token": e.LastError}
	if r.chance(30) {
		e.Meta["tenant"] = r.name("tenant", 3)
	}
}

// time returns a time within an hour of now, of which some are the same.
func (r *run) time() time.Time {
	return r.now.Add(time.Duration(r.rng.IntN(121)-60) * time.Minute)
}

func (r *run) name(what string, n int) string { return fmt.Sprint(what, " ", r.rng.IntN(n)) }
