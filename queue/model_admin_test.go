package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A modelAction is what an operator is doing.
type modelAction struct {
	by     *process
	name   string
	reason string
	filter Filter
	target string
	opts   RebindOptions
}

// A modelSuspension is what is stored of one.
type modelSuspension struct {
	since time.Time // stored; or when its Suspend returned
	until time.Time
	by    *process // whose Suspend has returned; nil: none
}

// selects is what a Filter of the model means.
func (a *modelAction) selects(e *spool.Entry) bool {
	f, states := a.filter, a.filter.States
	if states == nil {
		switch a.name {
		case "Release":
			states = []spool.State{spool.Held}
		case "Bounce", "Drop":
			states = []spool.State{spool.Queued, spool.Held}
		default:
			states = []spool.State{spool.Queued}
		}
	}
	has := func(r spool.Recipient) bool { return strings.Contains(r.Address, f.Recipient) }
	return slices.Contains(states, e.State) && (f.Queue == "" || f.Queue == e.Queue) && (f.Class == "" || f.Class == e.Class) &&
		(f.IDs == nil || slices.Contains(f.IDs, e.ID)) && e.Attempts >= f.MinAttempts && time.Since(e.Received) >= f.MinAge &&
		(f.Sender == "" || strings.Contains(e.Envelope.Sender, f.Sender)) && slices.ContainsFunc(e.Envelope.Recipients, has)
}

// explains reports whether the action may make e of old.
func (a *modelAction) explains(old, e *spool.Entry) bool {
	if !a.selects(old) || a.name != "Rebind" && (e.Attempts != old.Attempts || e.Queue != old.Queue) {
		return false
	}
	now := time.Now()
	switch a.name {
	case "Retry":
		return e.State == spool.Queued && !e.Due.After(now)
	case "Hold":
		return e.State == spool.Held && e.Due.Equal(old.Due) && strings.Contains(e.LastError, a.reason)
	case "Release":
		return e.State == spool.Queued && e.Due.Equal(old.Due)
	case "Rebind":
		return e.State == spool.Queued && e.Queue == a.target && e.Attempts == 0 && e.Meta["calls"] == old.Meta["calls"] &&
			(old.Queue != Deferred || a.opts.Unprocessed) && (e.Queue != Deferred || a.opts.Deferred)
	}
	return e.State == spool.Final && outcomeType(e) == AdminBounce && strings.Contains(string(e.Outcome), a.reason)
}

// operate has an operator do something, and does not always wait for it.
func (m *model) operate(p *process) {
	switch m.rng.IntN(10) {
	case 0:
		m.list(p)
		return
	case 1, 2:
		m.suspend(p)
		return
	}
	a := m.action(p)
	m.working.Go(func() { m.act(a) })
	if m.rng.IntN(2) == 0 {
		synctest.Wait()
	}
}

func (m *model) action(p *process) *modelAction {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	a := &modelAction{by: p, filter: m.someFilter()}
	a.name = []string{"Retry", "Hold", "Release", "Release", "Rebind", "Rebind", "Bounce", "Drop"}[m.rng.IntN(8)]
	a.reason = fmt.Sprintf("%s-%d.", a.name, m.count)
	if a.name == "Bounce" || a.name == "Drop" {
		a.filter.Recipient = fmt.Sprintf("m%d", m.rng.IntN(10)) // not everything
	}
	if a.name == "Rebind" {
		a.target = []string{"q0", "q1", "q2", "elsewhere.example", Deferred}[m.rng.IntN(5)]
		a.opts = RebindOptions{Deferred: m.rng.IntN(2) == 0, Unprocessed: m.rng.IntN(4) == 0}
	}
	return a
}

// someFilter is a Filter at random. mu is held.
func (m *model) someFilter() (f Filter) {
	switch m.rng.IntN(8) {
	case 0:
		f.All = true
	case 1:
		f.Queue = []string{Deferred, "q0", "q1", "d0.example"}[m.rng.IntN(4)]
	case 2:
		f.Class = fmt.Sprintf("c%d", m.rng.IntN(3))
	case 3:
		f.Sender = fmt.Sprintf("s%d", m.rng.IntN(3))
	case 4:
		f.Recipient = fmt.Sprintf("m%d", m.rng.IntN(10))
	case 5:
		f.MinAttempts = 1 + m.rng.IntN(2)
	case 6:
		f.MinAge = time.Duration(1+m.rng.IntN(100)) * time.Minute
	default:
		f.IDs = []spool.ID{spool.NewID()} // not there
		for _, id := range m.ids() {
			if m.rng.IntN(3) == 0 {
				f.IDs = append(f.IDs, id)
			}
		}
	}
	if m.rng.IntN(3) == 0 {
		f.States = [][]spool.State{{spool.Held}, {spool.Queued, spool.Held}}[m.rng.IntN(2)]
	}
	return f
}

// ids lists what is stored in the order of the IDs. mu is held.
func (m *model) ids() (ids []spool.ID) {
	for id := range m.live {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

func (m *model) act(a *modelAction) {
	m.mu.Lock()
	m.actions[a] = true
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin := a.by.sched.Admin()
	var r Result
	var err error
	switch a.name {
	case "Retry":
		r, err = admin.Retry(ctx, a.filter, a.reason)
	case "Hold":
		r, err = admin.Hold(ctx, a.filter, a.reason)
	case "Release":
		r, err = admin.Release(ctx, a.filter, a.reason)
	case "Rebind":
		r, err = admin.Rebind(ctx, a.filter, a.target, a.reason, &a.opts)
	case "Bounce":
		r, err = admin.Bounce(ctx, a.filter, a.reason)
	case "Drop":
		r, err = admin.Drop(ctx, a.filter, a.reason)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.actions, a)
	if !m.faults && !m.deaths && !a.by.ended() && err != nil && a.name != "Rebind" {
		m.t.Errorf("%s %+v: %+v, %v", a.name, a.filter, r, err)
	}
}

// list makes sure that what is there all the time is listed once.
func (m *model) list(p *process) {
	m.mu.Lock()
	before := m.ids()
	m.mu.Unlock()
	seen := map[spool.ID]bool{}
	var after spool.ID
	for {
		page, err := p.sched.Admin().List(m.t.Context(), Filter{}, after, 3)
		if err != nil {
			if !m.is(&p.faulty) {
				m.t.Errorf("List: %v", err)
			}
			return
		}
		if len(page) == 0 {
			break
		}
		for _, info := range page {
			if compareIDs(info.ID, after) <= 0 || seen[info.ID] {
				m.t.Errorf("%s is listed twice, or not in its place", info.ID)
			}
			after, seen[info.ID] = info.ID, true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range before {
		if m.live[id] != nil && !seen[id] {
			m.t.Errorf("%s is stored, and not listed", id)
		}
	}
}

func (m *model) suspend(p *process) {
	name := []string{Deferred, "q0", "q1", "d0.example"}[m.rng.IntN(4)]
	opts := SuspendOptions{Reason: "because"}
	if m.rng.IntN(2) == 0 {
		opts.Until = time.Now().Add(time.Duration(1+m.rng.IntN(10_000)) * time.Second)
	}
	stop := m.rng.IntN(3) > 0
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if !stop {
		_ = p.sched.Admin().Resume(ctx, name)
		return
	}
	if p.sched.Admin().Suspend(ctx, name, opts) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.suspended[name]; ok && s.until.Equal(opts.Until.Round(0)) {
		m.suspended[name] = modelSuspension{since: time.Now(), until: s.until, by: p}
	}
}

// noteSuspension follows what is stored of suspensions. mu is held.
func (m *model) noteSuspension(p *process, c spool.Change) {
	name := c.Entry.Meta["queue"]
	if c.Op == spool.Remove {
		delete(m.suspended, name)
		return
	}
	m.suspended[name] = modelSuspension{since: time.Now(), until: c.Entry.Expires}
}

// checkSuspended makes sure that nothing of a suspended queue is started: by the
// process that suspended it, by those that began later, and by others after a while.
func (m *model) checkSuspended(p *process, msg *Message) {
	s, ok := m.suspended[msg.Queue]
	now := time.Now()
	if !ok || p.ended() || !s.until.IsZero() && !s.until.After(now) || !now.After(s.since) {
		return
	}
	if s.by == p || p.began.After(s.since) || !m.faults && now.Sub(s.since) > suspensionInterval {
		m.t.Errorf("%s is started in %s, which is suspended since %v", msg.ID, msg.Queue, now.Sub(s.since))
	}
}

func (m *model) resumeAll(p *process) {
	list, err := p.sched.Admin().Suspensions(m.t.Context())
	if err != nil {
		m.t.Error(err)
	}
	for _, s := range list {
		if err := p.sched.Admin().Resume(m.t.Context(), s.Queue); err != nil && !errors.Is(err, spool.ErrNotFound) {
			m.t.Error(err)
		}
	}
}
