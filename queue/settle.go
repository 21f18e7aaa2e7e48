package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// poisonous is how many processes must have died while the handler of a
// message may have run before that counts as a failed attempt.
const poisonous = 2

// An outcome is what becomes of a message: what is stored in one step, and
// what is recorded once that is durable.
type outcome struct {
	unit    spool.Unit
	records []Record
	retries []RetryCause // one for each of its messages that is tried again
	entry   *spool.Entry // as it will be stored; nil if it is removed

	received []*spool.Entry // that come in with it: what was emitted
	told     []told         // of which notices are to be made
	notices  spool.Unit     // stored with unit, if there is room for them
	delayed  []*spool.Entry // of unit, of whose delay a notice tells
	delays   []Record       // of that
}

// settle carries out the verdict err of an attempt. It returns the entry if it
// is still owned here, which only an overdue job's is.
func (s *Scheduler) settle(j *job, err error) *spool.Entry {
	v := classify(err)
	if v.kind == split {
		var done bool
		if v, done = s.settleSplit(j, v); done {
			return nil
		}
	}
	if v.kind == success {
		o, failure := s.succeed(j)
		if failure == nil {
			if err := s.carryOutFor(j, o); err == nil {
				s.handOver(o.kept(), nil)
			} else {
				failure = &causeError{RetrySpool, err}
			}
		}
		if failure == nil || s.lost(failure) {
			return nil
		}
		v = classify(failure)
	}
	if s.saveJob(j) != nil {
		return nil
	}
	s.mu.Lock()
	overdue := j.overdue
	s.mu.Unlock()
	now := time.Now()
	o := s.verdict(j.entry.Clone(), v, s.termOf(j, now), now)
	s.notify(j.entry, &o, now)
	defer o.discard()
	final := o.entry.State == spool.Final
	o.unit[0].Keep = overdue || final
	switch err := s.carryOut(o); {
	case err != nil && s.lost(err):
	case err != nil && overdue:
		return j.entry
	case err != nil:
		s.putOff(j)
	case overdue && !final:
		return o.entry
	}
	return nil
}

// putOff has a message run again whose verdict the spool refused to store, for a
// reason that is neither its state nor the loss of ownership. Nothing of the
// attempt is kept; it must not stay owned and forgotten.
func (s *Scheduler) putOff(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(j.queue, j.entry, time.Now().Add(claimInterval))
	s.kick()
}

// kept returns the entries that the outcome has left owned here to go on: they
// are handed over once their records are written, so that what their next
// handler brings about is recorded after it.
func (o *outcome) kept() (entries []*spool.Entry) {
	for _, c := range o.unit {
		if c.Op != spool.Remove && c.Keep && c.Entry.State != spool.Final {
			entries = append(entries, c.Entry)
		}
	}
	return entries
}

// finals returns the entries that end with the outcome.
func (o *outcome) finals() (entries []*spool.Entry) {
	for _, c := range o.unit {
		if c.Op != spool.Remove && c.Entry.State == spool.Final {
			entries = append(entries, c.Entry)
		}
	}
	return entries
}

// lost reports whether err means that nothing more can be done about a message
// here: it is found again, as it was, when its ownership has ended.
func (s *Scheduler) lost(err error) bool {
	return s.hard.Err() != nil || errors.Is(err, spool.ErrFenced) || s.fatal(err) != nil
}

// verdict is the outcome of every result but success. e is as it was received,
// but for its history; it becomes what is stored.
func (s *Scheduler) verdict(e *spool.Entry, v verdict, t term, now time.Time) outcome {
	e.LastError = v.response.Content
	if e.Interrupted >= poisonous {
		e.Interrupted = 1
	} else {
		e.Interrupted = 0
	}
	o := outcome{unit: spool.Unit{{Op: spool.Update, Entry: e}}, entry: e}
	switch v.kind {
	case hold:
		e.State = spool.Held
		o.records = []Record{s.record(TransientFailure, e, now, v.response)}
	case reject:
		e.Attempts++
		s.final(&o, s.record(Bounce, e, now, v.response))
		o.tell(told{action: dsn.Failed, entry: e, response: v.response, said: v.said, status: v.response.Enhanced})
	case drop:
		s.final(&o, s.record(AdminBounce, e, now, v.response))
	default:
		e.Attempts++
		o.records = []Record{s.record(TransientFailure, e, now, v.response)}
		s.reschedule(&o, v, t, now)
	}
	return o
}

// A term is what a queue grants a message whose attempt has just failed.
type term struct {
	config Config
	end    time.Time // of its life; zero: none
	over   bool      // there is no further attempt
}

// termOf returns the term of a job if its attempt fails at now.
func (s *Scheduler) termOf(j *job, now time.Time) term {
	s.mu.Lock()
	t := term{config: j.queue.config}
	s.mu.Unlock()
	t.end = endOfLife(j.entry, t.config)
	expired := !t.end.IsZero() && !now.Before(t.end) && !s.clockPaused(now)
	t.over = expired || t.config.MaxAttempts > 0 && j.entry.Attempts+1 >= t.config.MaxAttempts
	return t
}

// reschedule says when a message that failed is tried again, or ends it.
func (s *Scheduler) reschedule(o *outcome, v verdict, t term, now time.Time) {
	e := o.entry
	if t.over {
		reason := fmt.Sprintf("expired after %d attempts in %v; last: %s", e.Attempts, now.Sub(e.Received).Round(time.Second), v.response.Content)
		expired := Response{Code: 551, Enhanced: [3]int{5, 4, 7}, Content: reason}
		s.final(o, s.record(Expiration, e, now, expired))
		o.tell(told{action: dsn.Failed, entry: e, response: v.response, said: v.said, status: expired.Enhanced})
		return
	}
	o.retries = []RetryCause{causeOf(v)}
	delay := v.after
	if delay == 0 {
		delay = t.config.Backoff.jittered(e.Attempts, s.random())
	}
	e.Due = now.Add(delay)
	if !t.end.IsZero() && e.Due.After(t.end) && t.end.After(now) {
		e.Due = t.end // the last attempt falls at the end of life
	}
	e.Due = cutDue(e.Due, now, t.config)
	s.delayed(o, v, t, now)
}

// endOfLife is when a message of a queue expires; zero: never.
func endOfLife(e *spool.Entry, c Config) time.Time {
	end := e.Expires
	if c.MaxAge > 0 {
		if byAge := e.Received.Add(c.MaxAge); end.IsZero() || byAge.Before(end) {
			end = byAge
		}
	}
	return end
}

// cutDue cuts a due time to what a queue's MaxAge makes sensible: a clock that
// was wrong for a moment must not put a message off for years.
func cutDue(due, now time.Time, c Config) time.Time {
	if c.MaxAge > 0 && due.After(now.Add(c.MaxAge)) {
		return now.Add(c.MaxAge)
	}
	return due
}

// maxOutcome is beyond what size a last record goes without metadata and headers: what
// is in the entry already could be too much for a spool six times over in JSON.
const maxOutcome = 1 << 20

// final makes an outcome the end of its message: the record is stored with the
// entry, and the entry is removed when it was taken.
func (s *Scheduler) final(o *outcome, r Record) {
	e := o.entry
	e.State = spool.Final
	out, err := json.Marshal(r)
	if len(out) > maxOutcome {
		r.Meta, r.Headers = nil, nil
		out, err = json.Marshal(r)
	}
	if err != nil { // a Record always marshals; were it not so, outcomeOf tells the rest
		s.log.Error("queue: encoding a record", "id", e.ID, "error", err)
	}
	e.Outcome = out
}

// record is newRecord with what a Scheduler knows. e is in the spool.
func (s *Scheduler) record(t RecordType, e *spool.Entry, now time.Time, resp Response) Record {
	r := newRecord(t, e, now, resp, s.opts.NodeID)
	r.Headers = s.recordHeaders(e, func() (spool.Body, error) { return s.spool.Open(s.hard, e.Body) })
	return r
}

// carryOut stores an outcome, records it, and removes what is final. The error
// is that of storing it.
func (s *Scheduler) carryOut(o outcome) error {
	if err := s.store(o); err != nil {
		return err
	}
	s.finish(o.finals()...)
	return nil
}

// store is the first of the two steps in which a message ends, and all of it
// for one that goes on.
func (s *Scheduler) store(o outcome) error {
	told, err := s.applyWith(o.unit, o.notices, o.patience(), o.untell)
	if err != nil {
		s.log.Error("queue: an outcome could not be stored", "id", o.unit[0].Entry.ID, "error", err)
		return err
	}
	s.times.retry(o.retries)
	s.recordAll(o.records)
	if !told {
		o.notices, o.delays = nil, nil
	}
	s.recordAll(o.delays)
	notices := entriesOf(o.notices)
	for _, e := range slices.Concat(o.received, notices) {
		s.recorder.write(s.reception(e))
	}
	for _, c := range o.unit {
		if c.Op != spool.Remove && !c.Keep {
			s.due(c.Entry)
		}
	}
	s.handOver(notices, nil)
	return nil
}

func (s *Scheduler) recordAll(records []Record) {
	for _, r := range records {
		s.recorder.write(r)
	}
}

// carryOutFor is carryOut for the success of a job whose message may not be
// stored. Where nothing of it remains it never is.
func (s *Scheduler) carryOutFor(j *job, o outcome) error {
	if len(o.unit) == 1 && o.unit[0].Op == spool.Remove && s.endKept(s.hard, j.body, j.entry) {
		s.recordAll(o.records)
		return nil
	}
	if err := s.saveJob(j); err != nil {
		return err
	}
	o.unit[0].Entry.Rev = j.entry.Rev
	return s.carryOut(o)
}

// due has a stored entry claimed when it falls due.
func (s *Scheduler) due(e *spool.Entry) {
	if e.State != spool.Queued {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.mu.queues[e.Queue]; q != nil {
		s.hint(q, e.Class, e.Due)
		if !e.Due.After(time.Now()) {
			s.noteBacklog(q, e.Class)
		}
	}
	s.claimAt(e.Due)
}

// finish records the stored outcomes of final entries and then removes these.
// When the scheduler gives up before a record was taken, the entry stays, and
// its outcome is recorded by the next one.
func (s *Scheduler) finish(entries ...*spool.Entry) {
	var unit spool.Unit
	for _, e := range entries {
		if s.recorder.write(s.outcomeOf(e)) {
			unit = append(unit, spool.Change{Op: spool.Remove, Entry: e})
		}
	}
	if len(unit) == 0 {
		return
	}
	if err := s.apply(unit); err != nil {
		s.log.Error("queue: removing what ended; it will be recorded again", "messages", len(unit), "id", unit[0].Entry.ID, "error", err)
	}
}

// outcomeOf returns the record of a final entry.
func (s *Scheduler) outcomeOf(e *spool.Entry) (r Record) {
	if err := json.Unmarshal(e.Outcome, &r); err != nil {
		s.log.Error("queue: the stored outcome of a message cannot be read; it is recorded as an AdminBounce", "id", e.ID, "error", err)
		return s.record(AdminBounce, e, time.Now(), Response{Code: 550, Content: "its stored outcome cannot be read"})
	}
	return r
}
