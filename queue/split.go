package queue

import (
	"fmt"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A group is the recipients of a message that a Split gives equal verdicts.
type group struct {
	verdict verdict
	rcpts   []int // as indexes, in the order of the envelope as it was received
}

// settleSplit carries out a Split: what becomes of each group is stored in one
// unit. done is false if nothing of it was, and v is then the verdict on the
// whole message.
func (s *Scheduler) settleSplit(j *job, v verdict) (whole verdict, done bool) {
	groups, err := groupParts(v, len(j.entry.Envelope.Recipients))
	if err != nil {
		return classify(err), false
	}
	if len(groups) == 1 {
		return groups[0].verdict, false
	}
	// Whatever the groups are, one of them does not succeed and needs its body.
	if s.saveJob(j) != nil {
		return v, true
	}
	now := time.Now()
	passed, groups := s.pass(j, groups)
	if len(groups) == 1 {
		return groups[0].verdict, false
	}
	o := s.divide(j, groups, passed, now)
	s.notify(j.entry, &o, now)
	defer o.discard()
	if err := s.store(o); err != nil { // as a reason to try all of it again, unless nothing can be done here
		return classify(&causeError{RetrySpool, err}), s.lost(err)
	}
	s.handOver(o.kept(), nil)
	s.finish(o.finals()...)
	return v, true
}

// groupParts groups the recipients of a message by their verdicts, in the order
// of the first recipient of each group.
func groupParts(v verdict, recipients int) ([]group, error) {
	if len(v.parts) != recipients {
		return nil, errMiscounted(v, recipients)
	}
	var groups []group
	place := map[verdictKey]int{}
	for i, err := range v.parts {
		part := classifyPart(err)
		at, ok := place[part.key()]
		if !ok {
			at = len(groups)
			place[part.key()] = at
			groups = append(groups, group{verdict: part})
		}
		groups[at].rcpts = append(groups[at].rcpts, i)
	}
	return groups, nil
}

// A verdictKey is what makes two verdicts equal: all that the message, and who
// reads its records, could tell them apart by.
type verdictKey struct {
	kind     verdictKind
	response Response
	after    time.Duration
}

func (v verdict) key() verdictKey { return verdictKey{v.kind, v.response, v.after} }

func errMiscounted(v verdict, recipients int) error {
	return &causeError{RetryInvalid, fmt.Errorf("queue: a Split with %d verdicts for %d recipients; return one for each", len(v.parts), recipients)}
}

// pass is succeed for the group that the handler was successful for, if there is
// one. If it cannot move on, that is a transient failure, and it may join the
// group of another one.
func (s *Scheduler) pass(j *job, groups []group) (passed outcome, regrouped []group) {
	at := slices.IndexFunc(groups, func(g group) bool { return g.verdict.kind == success })
	if at < 0 {
		return passed, groups
	}
	err := j.message.narrow(groups[at].rcpts)
	if err == nil {
		passed, err = s.succeed(j)
	}
	if err == nil {
		return passed, groups
	}
	failed := group{classify(err), groups[at].rcpts}
	groups = slices.Clone(groups)
	same := slices.IndexFunc(groups, func(g group) bool { return g.verdict.key() == failed.verdict.key() })
	if same < 0 {
		groups[at] = failed
		return outcome{}, groups
	}
	groups[same].rcpts = slices.Sorted(slices.Values(slices.Concat(groups[same].rcpts, failed.rcpts)))
	groups = slices.Delete(groups, at, at+1)
	slices.SortFunc(groups, func(a, b group) int { return a.rcpts[0] - b.rcpts[0] })
	return outcome{}, groups
}

// narrow leaves only these recipients in the working copy: as the handler left
// them, and in what was received. A handler that changes their number does not
// say which of them it means.
func (m *Message) narrow(rcpts []int) error {
	if m.entry.Queue == Deferred {
		if got, want := len(m.Envelope.Recipients), len(m.entry.Envelope.Recipients); got != want {
			return &causeError{RetryInvalid, fmt.Errorf("queue: a Split with %d recipients left in an envelope of %d; change their addresses, not their number", got, want)}
		}
		m.Envelope.Recipients = recipientsAt(m.Envelope.Recipients, rcpts)
	}
	m.entry = part(m.entry, rcpts)
	return nil
}

// part returns e for some of its recipients, as a copy that shares nothing with it.
func part(e *spool.Entry, rcpts []int) *spool.Entry {
	c := *e
	c.Envelope.Recipients = recipientsAt(e.Envelope.Recipients, rcpts)
	return c.Clone()
}

func recipientsAt(all []spool.Recipient, rcpts []int) []spool.Recipient {
	picked := make([]spool.Recipient, len(rcpts))
	for i, at := range rcpts {
		picked[i] = all[at]
	}
	return picked
}

// divide returns the outcome of a message in groups; passed is that of the one
// that succeeded. The change to the message itself is the first of the unit:
// there always is one, so that a spool that is full takes the rest with it.
func (s *Scheduler) divide(j *job, groups []group, passed outcome, now time.Time) (all outcome) {
	t := s.termOf(j, now)
	keeps := keepsID(groups, t)
	for i, g := range groups {
		var o outcome
		if g.verdict.kind == success {
			o = passed
			if i != keeps {
				o.rename(spool.NewID())
			}
		} else {
			e, op := part(j.entry, g.rcpts), spool.Update
			if i != keeps {
				e.ID, e.Rev, op = spool.NewID(), 0, spool.Insert
			}
			o = s.verdict(e, g.verdict, t, now)
			o.unit[0].Op, o.unit[0].Keep = op, e.State == spool.Final
		}
		if i == keeps {
			all.unit = slices.Concat(o.unit, all.unit)
		} else {
			all.unit = append(all.unit, o.unit...)
		}
		all.records = append(all.records, o.records...)
		all.retries = append(all.retries, o.retries...)
		all.received = append(all.received, o.received...)
		all.told = append(all.told, o.told...)
	}
	return all
}

// keepsID returns the group that keeps the ID of the message: the first one that
// is tried again, because the ID is what its handler knows it by; else the first
// one that is held; else the first one.
func keepsID(groups []group, t term) int {
	retried := func(g group) bool { return g.verdict.kind == transient && !t.over }
	held := func(g group) bool { return g.verdict.kind == hold }
	if at := slices.IndexFunc(groups, retried); at >= 0 {
		return at
	}
	return max(slices.IndexFunc(groups, held), 0)
}

// rename gives a success another ID than that of its message.
func (o *outcome) rename(id spool.ID) {
	o.records[0].ID = id
	c := o.unit[0]
	if c.Op == spool.Remove { // nothing was stored under that ID
		o.unit = o.unit[1:]
		return
	}
	c.Op, c.Entry.ID, c.Entry.Rev = spool.Insert, id, 0
	o.unit[0] = c
}
