package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A modelAttempt is one call of a handler, and what it said.
type modelAttempt struct {
	by       *process
	call     string
	entry    *spool.Entry // as it was received
	deadline time.Time
	running  bool
	ended    time.Time
	settled  bool                   // what it said was stored
	light    bool                   // all succeeded in memory: nothing need be stored
	late     bool                   // its context had ended when it returned
	verdicts map[string]verdictKind // of each recipient
	target   string                 // of those that succeed
	wrong    bool                   // success cannot be carried out
	due      time.Time
	emits    []spool.ID
}

// says returns what counts of an attempt for a recipient; false: nothing does yet.
func (a *modelAttempt) says(key string) (kind verdictKind, ok bool) {
	switch now := time.Now(); {
	case a.late || a.running:
		return transient, !a.deadline.IsZero() && !now.Before(a.deadline)
	case a.wrong && a.verdicts[key] == success:
		return transient, true
	}
	return a.verdicts[key], true
}

func (a *modelAttempt) splits() bool { return len(a.verdicts) > 1 && !a.late }

// decided is when the decision on an attempt fell, at the earliest.
func (a *modelAttempt) decided() time.Time {
	if a.late || a.running {
		return a.deadline
	}
	return a.ended
}

// keyOf is by what a recipient is known.
func keyOf(address string) string {
	local, _, _ := strings.Cut(address, "@")
	return local
}

func keysOf(e *spool.Entry) (keys []string) {
	if isNotice(e) {
		return []string{noticeKey(e.ID)}
	}
	for _, r := range e.Envelope.Recipients {
		keys = append(keys, keyOf(r.Address))
	}
	return keys
}

// handle is the handler of every queue.
func (p *process) handle(ctx context.Context, msg *Message) (err error) {
	m := p.m
	a := p.begin(ctx, msg)
	if a == nil {
		return errors.New("this process is dead")
	}
	m.mu.Lock()
	calm, odd, pause := m.calm, m.answers.IntN(40), time.Duration(m.answers.IntN(100_000))*time.Millisecond+1
	m.mu.Unlock()
	var verdicts []error
	whole := true
	defer func() { p.end(ctx, msg, a, verdicts, whole) }()

	say := func(err error) error {
		verdicts = slices.Repeat([]error{err}, len(a.entry.Envelope.Recipients))
		return err
	}
	_ = say(errors.New("it panicked or exited"))
	if err := m.checkContent(msg); err != nil {
		return say(err)
	}
	if err := m.edit(ctx, msg, a); err != nil {
		return say(err)
	}
	if calm {
		return say(nil)
	}
	switch {
	case odd == 0:
		panic("boom")
	case odd == 1:
		runtime.Goexit()
	case odd == 2:
		time.Sleep(5 * pause) // past its deadline, as a rule
	case odd == 3:
		<-ctx.Done()
		return say(ctx.Err())
	case odd < 12:
		time.Sleep(pause)
	case odd < 20:
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	if len(verdicts) > 1 && odd%2 == 0 {
		whole = false
		for i := range verdicts {
			verdicts[i] = m.verdict()
		}
		return Split(verdicts)
	}
	return say(m.verdict())
}

func (m *model) verdict() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.answers.IntN(20) {
	case 0:
		return errors.New("down")
	case 1:
		return errors.New("busy")
	case 2:
		return Reject(451, "down")
	case 3:
		return RetryAfter(time.Duration(m.answers.IntN(7200))*time.Second, errors.New("down"))
	case 4:
		return Reject(550, "5.1.1 no")
	case 5:
		return Drop("spam")
	case 6:
		return Hold("look")
	}
	return nil
}

// begin notes that a handler is called. It returns nil in a dead process.
func (p *process) begin(ctx context.Context, msg *Message) *modelAttempt {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.dead {
		return nil
	}
	m.count++
	a := &modelAttempt{by: p, call: fmt.Sprint(m.count), entry: msg.entry.Clone(), running: true}
	a.deadline, _ = ctx.Deadline()
	inMemory := m.live[msg.ID] == nil && m.fates[keysOf(msg.entry)[0]] == isInMemory
	if p.gone && !inMemory { // what it still starts is no longer its own, and can change nothing
		return a
	}
	if !m.mayBegin(p, msg) {
		return a
	}
	m.checkSuspended(p, msg)
	m.attempts[msg.ID] = a
	return a
}

// mayBegin judges that a handler is called. It returns false if there is no message.
func (m *model) mayBegin(p *process, msg *Message) bool {
	now := time.Now()
	e := m.live[msg.ID]
	if o := m.offers[msg.ID]; e == nil && o != nil && o.by == p && m.fates[keysOf(o.entry)[0]] == isInMemory {
		e = o.entry.Clone()
		e.Queue = Deferred
	}
	if before := m.attempts[msg.ID]; before != nil {
		switch {
		case before.running && !before.by.gone:
			m.t.Errorf("%s: two handlers at once, in processes %d and %d", msg.ID, before.by.number, p.number)
		case !before.settled && !before.light && !before.by.ended():
			m.t.Errorf("%s: what call %s said came to nothing: %v", msg.ID, before.call, before.verdicts)
		}
	}
	switch {
	case e == nil && m.fates[keysOf(msg.entry)[0]] == isRevoked && m.faults:
		return false // after an ambiguous answer it was handed over all the same
	case e == nil:
		m.t.Errorf("%s of %v runs in %s, process %d, and is %s", msg.ID, msg.Envelope.Recipients, msg.Queue, p.number, m.fates[keysOf(msg.entry)[0]])
		return false
	case e.State != spool.Queued, e.Queue != msg.Queue, e.Due.After(now), e.Attempts+1 != msg.Attempt:
		m.t.Errorf("%s runs in %s, attempt %d, and is %s in %s after %d, due %v", msg.ID, msg.Queue, msg.Attempt, e.State, e.Queue, e.Attempts, e.Due)
	case !slices.Equal(addresses(e.Envelope), addresses(msg.Envelope)) || !maps.Equal(e.Meta, msg.Meta) || e.Envelope.Sender != msg.Envelope.Sender:
		m.t.Errorf("%s is handed in as %v %v, and was received as %v %v", msg.ID, msg.Envelope, msg.Meta, e.Envelope, e.Meta)
	}
	return true
}

// end notes what a handler says.
func (p *process) end(ctx context.Context, msg *Message, a *modelAttempt, verdicts []error, whole bool) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	a.running, a.late, a.ended, a.verdicts = false, ctx.Err() != nil, time.Now(), map[string]verdictKind{}
	var passed spool.Envelope
	for i, key := range keysOf(a.entry) {
		a.verdicts[key] = classify(verdicts[i]).kind
		if verdicts[i] == nil && i < len(msg.Envelope.Recipients) {
			passed.Recipients = append(passed.Recipients, msg.Envelope.Recipients[i])
		}
	}
	if whole {
		passed = msg.Envelope
	}
	a.target = msg.Meta["queue"]
	if a.target == "" && len(passed.Recipients) > 0 {
		_, a.target, _ = strings.Cut(passed.Recipients[0].Address, "@")
	}
	all := !slices.ContainsFunc(keysOf(a.entry), func(key string) bool { return a.verdicts[key] != success })
	a.light = m.offers[msg.ID] != nil && m.live[msg.ID] == nil && !m.routed && !a.late && all
}

// edit changes the message, and emits one, for what is successful of this call.
func (m *model) edit(ctx context.Context, msg *Message, a *modelAttempt) error {
	m.mu.Lock()
	n, calm, where := m.answers.IntN(64), m.calm, m.answers.IntN(6)
	m.mu.Unlock()
	msg.Meta["calls"] += a.call + ","
	if n%3 == 0 {
		var content bytes.Buffer
		b, err := msg.Open()
		if err != nil {
			return err
		}
		if _, err := io.Copy(&content, b); err != nil {
			return err
		}
		if err := msg.SetContent(strings.NewReader("X-Call: " + a.call + "\r\n" + content.String())); err != nil {
			return err
		}
	} else {
		h, err := msg.Header()
		if err != nil {
			return err
		}
		h.Prepend("X-Call", a.call)
	}
	if !m.routed {
		return nil
	}
	if n%4 == 0 {
		id, err := msg.Emit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "e" + a.call + "@copies.example"}}},
			map[string]string{"calls": "e" + a.call + ","}, strings.NewReader("X-Call: e"+a.call+"\r\n"+mail))
		if err != nil {
			return err
		}
		m.mu.Lock()
		a.emits = append(a.emits, id)
		m.emitted[id] = a
		m.mu.Unlock()
	}
	if msg.Queue != Deferred {
		return nil
	}
	switch delete(msg.Meta, "queue"); {
	case where < 3:
		msg.Meta["queue"] = fmt.Sprintf("q%d", where)
	case where == 3 && n == 1 && !calm:
		msg.Meta["queue"] = Deferred
		a.wrong = true
	case where == 4:
		for i, r := range msg.Envelope.Recipients {
			msg.Envelope.Recipients[i].Address = keyOf(r.Address) + "@moved.example"
		}
	}
	if n%5 == 0 {
		a.due = time.Now().Add(time.Duration(n) * time.Minute)
		msg.SetDue(a.due)
	}
	return nil
}

// checkContent makes sure that the content has the edits of those calls that
// succeeded, in their order, and no other. The error is that of the spool.
func (m *model) checkContent(msg *Message) error {
	b, err := msg.Open()
	if err != nil {
		return err
	}
	content, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	var calls string
	header, _, _ := strings.Cut(string(content), "\r\n\r\n")
	for line := range strings.Lines(header) {
		if call, ok := strings.CutPrefix(line, "X-Call: "); ok {
			calls = strings.TrimSpace(call) + "," + calls
		}
	}
	whole := strings.HasSuffix(string(content), mail)
	if isNotice(msg.entry) {
		whole = strings.Contains(header, "multipart/report") && strings.HasSuffix(string(content), "--\r\n")
	}
	if calls != msg.Meta["calls"] || !whole {
		m.t.Errorf("%s in %s: calls %q have left %q", msg.ID, msg.Queue, msg.Meta["calls"], content)
	}
	return nil
}
