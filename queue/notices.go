package queue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

// Metadata of notices, and of messages that there is one about.
const (
	// MetaNotice says of a message that it is a notice, and about what: "failed" or
	// "delayed".
	MetaNotice = "notice"
	// MetaNoticeFor is the ID of the message that a notice is about.
	MetaNoticeFor = "notice_for"
	// MetaDelayNotice says of a message that its sender was told of its delay, and
	// when (RFC 3339). It is stored with the notice, so that there is one.
	MetaDelayNotice = "delay_notice"
)

// NoticeOptions say what senders are told of messages that fail or are delayed: by
// delivery status notifications (RFC 3461, RFC 3464), see package dsn.
//
// A notice is a message like any other: it comes into the queue [Deferred], where
// the inject callback signs and routes it by its one recipient, the sender of the
// message that it is about. Its own sender is empty, and its metadata has
// [MetaNotice], [MetaNoticeFor] and the tenant and trace context of that message. It becomes durable in
// one step with what it reports, or neither does; only when there has been no room for
// it for a minute is a message ended without, and the log says so. Of a delay for which
// there is no room its sender is told with the next failure.
//
// Senders are told of a Bounce, an Expiration and [Admin.Bounce], and never of
// a [Drop] or [Admin.Drop]. NOTIFY, RET, ENVID and ORCPT are honoured; a message with
// the null sender, and so a notice, is never answered. NOTIFY=SUCCESS is for the
// handler that delivers: see [Message.Report]. A notice quotes the replies of [Reject]
// and [FromSMTP] and the reasons of operators; the text of any other error, of a panic
// or of a deadline may tell of the host, and stands in the records alone.
type NoticeOptions struct {
	// ReportingMTA is the name of this host in notices.
	// Defaults to the name of the machine.
	ReportingMTA string

	// From is the author in the header of notices.
	// Defaults to "MAILER-DAEMON@" and ReportingMTA.
	From string

	// DelayAfter is how old a message is when its sender is told, once, that it waits:
	// with the first attempt that fails after that, and a Delayed record. A negative
	// value means never.
	// Defaults to 4 h.
	DelayAfter time.Duration

	// MaxContent is how many bytes of a message a notice returns at the most.
	// Defaults to 50 KiB.
	MaxContent int64

	// Edit may change a notice before it is written: its text, its author, who is in
	// it. false means that there is none; about a delay it is then asked again with the
	// next failure. It is called concurrently, must not block or retain r, and must not
	// touch its Content. If it panics there is no notice.
	// Defaults to none.
	Edit func(r *dsn.Report) bool
}

func (o *NoticeOptions) withDefaults() (*NoticeOptions, error) {
	if o == nil {
		return nil, nil
	}
	opts := *o
	if opts.MaxContent < 0 {
		return nil, errors.New("queue: Options.Notices: MaxContent must not be negative")
	}
	if strings.TrimSpace(opts.ReportingMTA) == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("queue: Options.Notices: set ReportingMTA: %w", err)
		}
		opts.ReportingMTA = host
	}
	opts.DelayAfter = orDefault(opts.DelayAfter, 4*time.Hour)
	return &opts, nil
}

// told is what an outcome has to tell a sender about some recipients.
type told struct {
	action   dsn.Action
	entry    *spool.Entry // the message, as it will be stored
	response Response     // the one that decided it
	said     bool         // its text may be told, see verdict
	status   [3]int
	until    time.Time // of Delayed
}

func (t told) diagnostic() string {
	if !t.said {
		return ""
	}
	return t.response.line()
}

// tell notes that the sender of t.entry is to be told about its recipients.
func (o *outcome) tell(t told) { o.told = append(o.told, t) }

// delayed notes that the sender of a message that failed is to be told that it
// waits, if it was not told before.
func (s *Scheduler) delayed(o *outcome, v verdict, t term, now time.Time) {
	e, opts := o.entry, s.opts.Notices
	if opts == nil || opts.DelayAfter == 0 || now.Sub(e.Received) < opts.DelayAfter || e.Meta[MetaDelayNotice] != "" {
		return
	}
	wanted := func(rcpt spool.Recipient) bool { return dsn.Wanted(e.Envelope, rcpt, dsn.Delayed) }
	if !slices.ContainsFunc(e.Envelope.Recipients, wanted) {
		return
	}
	o.tell(told{action: dsn.Delayed, entry: e, response: v.response, said: v.said, status: v.response.Enhanced, until: t.end})
}

// toldOfDelay notes in the messages of whose delay there is a notice that there is.
func (s *Scheduler) toldOfDelay(o *outcome, now time.Time) {
	for _, t := range o.told {
		if t.action != dsn.Delayed {
			continue
		}
		if t.entry.Meta == nil {
			t.entry.Meta = map[string]string{}
		}
		t.entry.Meta[MetaDelayNotice] = now.UTC().Format(time.RFC3339)
		o.delayed = append(o.delayed, t.entry)
		o.delays = append(o.delays, s.record(Delayed, t.entry, now, t.response))
	}
}

// untell takes that back.
func (o *outcome) untell() {
	for _, e := range o.delayed {
		delete(e.Meta, MetaDelayNotice)
	}
}

// noticePatience is how long an outcome waits for room for a notice of what failed, to
// stage it and to store it: so long that what passes soon costs no notice, and not so
// long that slots stay taken, since messages that end are what makes room. A delay is
// told of with the next failure.
const noticePatience = time.Minute

// patience is how long an outcome waits for room to store its notices.
func (o *outcome) patience() time.Duration {
	for _, n := range o.notices {
		if n.Entry.Meta[MetaNotice] == string(dsn.Failed) {
			return noticePatience
		}
	}
	return 0
}

// notify is addNotices for the verdict of an attempt, which is carried out in any case.
func (s *Scheduler) notify(e *spool.Entry, o *outcome, now time.Time) {
	if err := s.addNotices(e, o, noticePatience, now); err != nil && s.hard.Err() == nil {
		s.untold(e, err)
	}
}

func (s *Scheduler) untold(e *spool.Entry, err error) {
	s.log.Error("queue: a notice could not be made; its message is dealt with without", "id", e.ID, "sender", e.Envelope.Sender, "error", err)
}

// addNotices adds to an outcome what it has to tell the sender of e, which is the
// message as it was. It waits for room so long. What was staged is aborted by discard;
// after the unit was applied that does nothing.
func (s *Scheduler) addNotices(e *spool.Entry, o *outcome, patience time.Duration, now time.Time) error {
	var errs []error
	for _, action := range []dsn.Action{dsn.Failed, dsn.Delayed} {
		r := s.report(e, o.told, action, now)
		if r == nil {
			continue
		}
		if action == dsn.Delayed {
			patience = 0
		}
		n, err := s.stageNotice(e, r, patience)
		if err != nil {
			errs = append(errs, fmt.Errorf("the notice (%s): %w", action, err))
			continue
		}
		n.Entry.Meta[MetaNotice] = string(action)
		o.notices = append(o.notices, *n)
		if action == dsn.Delayed {
			s.toldOfDelay(o, now)
		}
	}
	o.told = nil
	return errors.Join(errs...)
}

// report collects all recipients of one action; nil if none of them is to be told of.
func (s *Scheduler) report(e *spool.Entry, all []told, action dsn.Action, now time.Time) *dsn.Report {
	opts := s.opts.Notices
	if opts == nil {
		return nil
	}
	r := &dsn.Report{
		ID: e.ID, Envelope: e.Envelope, Arrived: e.Received, Date: now,
		ReportingMTA: opts.ReportingMTA, From: opts.From, MaxContent: opts.MaxContent,
	}
	for _, t := range all {
		if t.action != action {
			continue
		}
		for _, rcpt := range t.entry.Envelope.Recipients {
			if dsn.Wanted(e.Envelope, rcpt, action) {
				r.Recipients = append(r.Recipients, dsn.Recipient{
					Address: rcpt.Address, ORcpt: rcpt.ORcpt, Action: action, Status: t.status,
					Diagnostic: t.diagnostic(), LastTried: now, RetryUntil: t.until,
				})
			}
		}
	}
	if len(r.Recipients) == 0 || !s.editNotice(r) {
		return nil
	}
	return r
}

// editNotice reports whether there is to be a notice, and contains a panic of the host.
func (s *Scheduler) editNotice(r *dsn.Report) (ok bool) {
	if s.opts.Notices.Edit == nil {
		return true
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("queue: NoticeOptions.Edit panicked; there is no notice", "id", r.ID, "panic", fmt.Sprint(p))
			ok = false
		}
	}()
	return s.opts.Notices.Edit(r) && len(r.Recipients) > 0
}

// line returns the reply as a server would write it.
func (r Response) line() string {
	if r.Code == 0 {
		return r.Content
	}
	if r.Enhanced == ([3]int{}) {
		return fmt.Sprintf("%d %s", r.Code, r.Content)
	}
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Content)
}

// stageNotice writes a notice into the spool. If the message cannot be read it goes
// without it.
func (s *Scheduler) stageNotice(e *spool.Entry, r *dsn.Report, patience time.Duration) (*spool.Change, error) {
	r.NoticeID = spool.NewID()
	body, err := s.spool.Open(s.hard, e.Body)
	if err == nil {
		defer body.Close()
	} else if s.hard.Err() == nil {
		s.log.Warn("queue: the content of a message cannot be read; the notice about it goes without", "id", e.ID, "error", err)
	}
	begin := time.Now()
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		if body != nil {
			content := spool.Content(e.Header, body, e.Skip)
			r.Content = io.NewSectionReader(content, 0, content.Size())
		}
		w, err := s.writeNotice(r)
		if err == nil {
			return noticeChange(w, e, r), nil
		}
		passing := errors.Is(err, spool.ErrFull) || errors.Is(err, spool.ErrBusy)
		if !passing || time.Since(begin) >= patience || !sleep(s.hard, delay) {
			return nil, err
		}
	}
}

func (s *Scheduler) writeNotice(r *dsn.Report) (spool.Writer, error) {
	w, err := s.spool.Create(s.hard, 0)
	if err != nil {
		return nil, err
	}
	if err := r.Write(w); err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// noticeChange inserts the notice about e into the deferred queue. It stays owned until
// its Reception is recorded.
func noticeChange(w spool.Writer, e *spool.Entry, r *dsn.Report) *spool.Change {
	meta, now := map[string]string{MetaNoticeFor: e.ID.String()}, time.Now()
	for _, key := range []string{"tenant", "traceparent", "tracestate"} { // the last two: W3C Trace Context
		if value := e.Meta[key]; value != "" {
			meta[key] = value
		}
	}
	return &spool.Change{Op: spool.Insert, Stage: w, Keep: true, Entry: &spool.Entry{
		ID: r.NoticeID, Body: w.ID(), Queue: Deferred, Class: class(meta),
		Received: now, Due: now, Envelope: r.NoticeEnvelope(), Meta: meta,
	}}
}

func entriesOf(u spool.Unit) (entries []*spool.Entry) {
	for _, c := range u {
		entries = append(entries, c.Entry)
	}
	return entries
}

// discard ends what was staged for an outcome, if it was not stored.
func (o *outcome) discard() {
	for _, n := range o.notices {
		n.Stage.Abort()
	}
}

// Report returns what a notice about m starts from: its envelope, its content, and
// those of its recipients that asked to be in a notice of that action ([dsn.Wanted]),
// which may be none. A handler fills in what it knows of each, writes the notice and
// hands it to [Message.Emit]. The content is read from the message while the notice
// is written.
func (m *Message) Report(action dsn.Action) (*dsn.Report, error) {
	content, err := m.Open()
	if err != nil {
		return nil, err
	}
	r := &dsn.Report{ID: m.ID, Envelope: m.Envelope.Clone(), Arrived: m.Received, Content: content}
	for _, rcpt := range m.Envelope.Recipients {
		if dsn.Wanted(m.Envelope, rcpt, action) {
			r.Recipients = append(r.Recipients, dsn.Recipient{
				Address: rcpt.Address, ORcpt: rcpt.ORcpt, Action: action, LastTried: time.Now(),
			})
		}
	}
	return r, nil
}
