package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

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
	entry   *spool.Entry // as it will be stored; nil if it is removed
}

// settle carries out the verdict err of an attempt. It returns the entry if it
// is still owned here, which only an overdue job's is.
func (s *Scheduler) settle(j *job, err error) *spool.Entry {
	v := classify(err)
	if v.kind == split {
		v = wholeSplit(v, len(j.entry.Envelope.Recipients))
	}
	if v.kind == success {
		o, failure := s.succeed(j.message)
		if failure == nil {
			failure = s.carryOutFor(j, o)
		}
		if failure == nil {
			s.handOver(o.kept(), nil)
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
	o := s.verdict(j, v, time.Now())
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

// wholeSplit is the verdict of a Split on the whole message: success if every
// recipient has it, else a transient failure. Nothing is lost by that; what
// succeeded for some recipients is repeated.
func wholeSplit(v verdict, recipients int) verdict {
	if len(v.parts) != recipients {
		return classify(fmt.Errorf("queue: a Split with %d verdicts for %d recipients; return one for each", len(v.parts), recipients))
	}
	if !slices.ContainsFunc(v.parts, func(err error) bool { return err != nil }) {
		return classify(nil)
	}
	return classify(fmt.Errorf("queue: a Split is not carried out per recipient by this version; the whole message is tried again: %s", v.response.Content))
}

// kept returns the entries that the outcome has left owned here: they are
// handed over once their records are written, so that what their next handler
// brings about is recorded after it.
func (o *outcome) kept() (entries []*spool.Entry) {
	for _, c := range o.unit {
		if c.Op != spool.Remove && c.Keep {
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

// verdict is the outcome of every result but success. The entry is as it was
// received, but for its history.
func (s *Scheduler) verdict(j *job, v verdict, now time.Time) outcome {
	e := j.entry.Clone()
	e.LastError = v.response.Content
	e.Interrupted = 0
	if j.entry.Interrupted >= poisonous {
		e.Interrupted = 1
	}
	o := outcome{unit: spool.Unit{{Op: spool.Update, Entry: e}}, entry: e}
	switch v.kind {
	case hold:
		e.State = spool.Held
		o.records = []Record{s.record(TransientFailure, e, now, v.response)}
	case reject:
		e.Attempts++
		s.final(&o, s.record(Bounce, e, now, v.response))
	case drop:
		s.final(&o, s.record(AdminBounce, e, now, v.response))
	default:
		e.Attempts++
		o.records = []Record{s.record(TransientFailure, e, now, v.response)}
		s.reschedule(&o, j.queue, v, now)
	}
	return o
}

// reschedule says when a message that failed is tried again, or ends it.
func (s *Scheduler) reschedule(o *outcome, q *queueState, v verdict, now time.Time) {
	s.mu.Lock()
	c := q.config
	s.mu.Unlock()
	e := o.entry
	end := endOfLife(e, c)
	expired := !end.IsZero() && !now.Before(end) && !s.clockPaused(now)
	if expired || c.MaxAttempts > 0 && e.Attempts >= c.MaxAttempts {
		reason := fmt.Sprintf("expired after %d attempts in %v; last: %s", e.Attempts, now.Sub(e.Received).Round(time.Second), v.response.Content)
		s.final(o, s.record(Expiration, e, now, Response{Code: 551, Enhanced: [3]int{5, 4, 7}, Content: reason}))
		return
	}
	delay := v.after
	if delay == 0 {
		delay = c.Backoff.jittered(e.Attempts, rand.Float64())
	}
	e.Due = now.Add(delay)
	if !end.IsZero() && e.Due.After(end) && end.After(now) {
		e.Due = end // the last attempt falls at the end of life
	}
	e.Due = cutDue(e.Due, now, c)
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

// final makes an outcome the end of its message: the record is stored with the
// entry, and the entry is removed when it was taken.
func (s *Scheduler) final(o *outcome, r Record) {
	e := o.entry
	e.State = spool.Final
	out, err := json.Marshal(r)
	if err != nil { // a Record always marshals; were it not so, the fallback of finish tells the rest
		s.log.Error("queue: encoding a record", "id", e.ID, "error", err)
	}
	e.Outcome = out
}

// record is newRecord with what a Scheduler knows.
func (s *Scheduler) record(t RecordType, e *spool.Entry, now time.Time, resp Response) Record {
	return newRecord(t, e, now, resp, s.opts.NodeID)
}

// carryOut stores an outcome, records it, and removes what is final. The error
// is that of storing it.
func (s *Scheduler) carryOut(o outcome) error {
	if err := s.apply(o.unit); err != nil {
		s.log.Error("queue: an outcome could not be stored", "id", o.unit[0].Entry.ID, "error", err)
		return err
	}
	s.recordAll(o.records)
	if o.entry != nil && o.entry.State == spool.Final {
		s.finish(o.entry)
	}
	for _, c := range o.unit {
		if c.Op != spool.Remove && !c.Keep {
			s.due(c.Entry)
		}
	}
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

// finish records the stored outcome of a final entry and then removes it. When
// the scheduler gives up before the record was taken, the entry stays, and its
// outcome is recorded by the next one.
func (s *Scheduler) finish(e *spool.Entry) {
	var r Record
	if err := json.Unmarshal(e.Outcome, &r); err != nil {
		s.log.Error("queue: the stored outcome of a message cannot be read; it is recorded as an AdminBounce", "id", e.ID, "error", err)
		r = s.record(AdminBounce, e, time.Now(), Response{Code: 550, Content: "its stored outcome cannot be read"})
	}
	if !s.recorder.write(r) {
		return
	}
	if err := s.apply(spool.Unit{{Op: spool.Remove, Entry: e}}); err != nil {
		s.log.Error("queue: removing a message that ended; it will be recorded again", "id", e.ID, "error", err)
	}
}

// apply makes a unit durable. What passes by itself (no space, too much in
// flight, an outcome unknown) is waited for and repeated: the handler is never
// run again for it.
func (s *Scheduler) apply(unit spool.Unit) error {
	const longest = 5 * time.Second
	ambiguous, said := false, false
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, longest) {
		errs := s.spool.Apply(s.hard, unit)
		if len(errs) == 0 || errs[0] == nil {
			return nil
		}
		err := errs[0]
		switch {
		case errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrBusy):
		case errors.Is(err, spool.ErrAmbiguous):
			ambiguous = true
		case ambiguous && (errors.Is(err, spool.ErrFenced) || errors.Is(err, spool.ErrExists)) && s.fatal(nil) == nil:
			s.reread(unit) // the first try had succeeded: it changed the revision
			return nil
		default:
			s.fail(err)
			return err
		}
		if delay == longest && !said {
			said = true
			s.log.Warn("queue: an outcome waits for the spool; its handler's slot waits with it", "id", unit[0].Entry.ID, "error", err)
		}
		if !sleep(s.hard, delay) {
			return fmt.Errorf("queue: gave up repeating: %w", errors.Join(err, context.Cause(s.hard)))
		}
	}
}

// reread brings the revisions of what a unit has left owned here up to date,
// after the answer to the Apply that set them was lost.
func (s *Scheduler) reread(unit spool.Unit) {
	for _, c := range unit {
		if c.Op == spool.Remove || !c.Keep {
			continue
		}
		for e, err := range s.spool.Scan(s.hard, spool.Query{After: before(c.Entry.ID)}) {
			if err != nil {
				s.log.Error("queue: looking for a message whose change was uncertain; it is found again when the spool is opened anew", "id", c.Entry.ID, "error", err)
			} else if e.ID == c.Entry.ID {
				c.Entry.Rev, c.Entry.Size = e.Rev, e.Size
			}
			break
		}
	}
}

// before returns the greatest ID that is less than id.
func before(id spool.ID) spool.ID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}
