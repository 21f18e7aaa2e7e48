package queue

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/queue/dsn"
	"github.com/deferredqueue/deferredqueue/spool"
)

const modelDelay = 30 * time.Minute // NoticeOptions.DelayAfter

// A modelNotice is by what a notice is known: one message has one of each action in a
// unit.
type modelNotice struct {
	about  string
	action dsn.Action
}

func isNotice(e *spool.Entry) bool { return e.Meta[MetaNotice] != "" }

// noticeKey is by what the recipient of a notice is known, who is the sender of others.
func noticeKey(id spool.ID) string { return "notice " + id.String() }

// asks reports whether the recipient of an entry that is known by key, or any if that
// is empty, asked for notices of an action.
func asks(e *spool.Entry, key string, action dsn.Action) bool {
	want := map[dsn.Action]string{dsn.Failed: "FAILURE", dsn.Delayed: "DELAY"}[action]
	return e.Envelope.Sender != "" && slices.ContainsFunc(e.Envelope.Recipients, func(r spool.Recipient) bool {
		return (key == "" || keyOf(r.Address) == key) && (r.Notify == nil || slices.Contains(r.Notify, want))
	})
}

// noticeOf says of which action a notice has to be when a recipient goes from one state
// to the next; empty: of none.
func noticeOf(old, e *spool.Entry) dsn.Action {
	switch {
	case e == nil:
	case e.Meta[MetaDelayNotice] != old.Meta[MetaDelayNotice]:
		return dsn.Delayed
	case e.State != spool.Final || old.State == spool.Final:
	case outcomeType(e) != AdminBounce || bytes.Contains(e.Outcome, []byte("Bounce-")): // the reason of an operator
		return dsn.Failed
	}
	return ""
}

// checkNotices makes sure that a unit has a notice about each recipient whose sender
// is to be told of what it does, and no other. mu is held.
func (m *model) checkNotices(p *process, u spool.Unit, before, after map[string]*spool.Entry) {
	want, got := map[modelNotice][]string{}, map[modelNotice][]string{}
	for key, old := range before {
		action := noticeOf(old, after[key])
		if action == dsn.Delayed {
			if m.delays[key]++; m.delays[key] > 1 {
				m.t.Errorf("the sender of %s learns of its delay %d times", key, m.delays[key])
			}
		}
		if m.notices && action != "" && asks(old, key, action) {
			n := modelNotice{old.ID.String(), action}
			want[n] = append(want[n], key)
		}
	}
	for _, c := range u {
		if c.Op != spool.Insert || !isNotice(c.Entry) || before[noticeKey(c.Entry.ID)] != nil {
			continue
		}
		n := modelNotice{c.Entry.Meta[MetaNoticeFor], dsn.Action(c.Entry.Meta[MetaNotice])}
		keys, err := m.readNotice(p, c.Entry, before)
		if err != nil {
			m.t.Errorf("a notice (%s) about %s: %v", n.action, n.about, err)
		}
		if keys == nil { // it cannot be read any more
			keys = want[n]
		}
		got[n] = append(got[n], keys...)
	}
	for n, keys := range want {
		slices.Sort(keys)
		if got[n] == nil && m.faults && n.action == dsn.Failed { // there was no room for it
			delete(want, n)
		}
	}
	for _, keys := range got {
		slices.Sort(keys)
	}
	if !maps.EqualFunc(want, got, slices.Equal) {
		m.t.Errorf("a unit tells senders of %v, want %v", got, want)
	}
}

// readNotice judges a notice, and returns whom it is about. mu is held.
func (m *model) readNotice(p *process, e *spool.Entry, before map[string]*spool.Entry) (keys []string, err error) {
	about := func(old *spool.Entry) bool { return old.ID.String() == e.Meta[MetaNoticeFor] }
	changed := slices.Collect(maps.Values(before))
	i := slices.IndexFunc(changed, about)
	if i < 0 {
		return nil, fmt.Errorf("nothing becomes of that message")
	}
	rcpts := e.Envelope.Recipients
	if e.Envelope.Sender != "" || len(rcpts) != 1 || rcpts[0].Address != changed[i].Envelope.Sender || !slices.Equal(rcpts[0].Notify, []string{"NEVER"}) {
		return nil, fmt.Errorf("its envelope is %+v", e.Envelope)
	}
	if e.Queue != Deferred || e.State != spool.Queued || e.Attempts != 0 {
		return nil, fmt.Errorf("it begins as %+v", e)
	}
	body, err := p.sp.Open(m.t.Context(), e.Body)
	if err != nil {
		return nil, nil
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(content)) {
		if address, ok := strings.CutPrefix(line, "Final-Recipient: rfc822;"); ok {
			keys = append(keys, keyOf(strings.TrimSpace(address)))
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it is about nobody: %q", content)
	}
	return keys, nil
}

// checkOrder makes sure that what is recorded of a notice begins with its Reception.
// mu is held.
func (m *model) checkOrder(r Record) {
	if r.Type == Reception {
		m.received[r.ID] = true
	} else if r.Meta[MetaNotice] != "" && !m.received[r.ID] && !m.deaths && !m.faults {
		m.t.Errorf("the first record of the notice %s is a %s", r.ID, r.Type)
	}
}

// isDelay judges whether a message that failed, which was decided at that time, has its
// sender told that it waits.
func (m *model) isDelay(old, e *spool.Entry, decided time.Time) error {
	was, is := old.Meta[MetaDelayNotice], e.Meta[MetaDelayNotice]
	switch {
	case was != is && (was != "" || !m.notices || !asks(e, "", dsn.Delayed) || time.Since(old.Received) < modelDelay || e.State != spool.Queued):
		return fmt.Errorf("its sender is told of a delay")
	case m.notices && !m.faults && is == "" && e.State == spool.Queued && asks(e, "", dsn.Delayed) && decided.Sub(old.Received) >= modelDelay:
		return fmt.Errorf("its sender is not told of its delay")
	}
	return nil
}

// withoutDelay returns metadata without what a notice of a delay adds to it.
func withoutDelay(meta map[string]string) map[string]string {
	meta = maps.Clone(meta)
	delete(meta, MetaDelayNotice)
	return meta
}
