package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Whatever handlers say of single recipients, and whatever becomes of the
// process and of units meanwhile, each recipient has exactly one fate: that of
// the last verdict on it.
func TestSplitModel(t *testing.T) {
	runs := 40
	if *long {
		runs = 2000
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSplitModel(t, uint64(seed)).run() })
		})
	}
}

// The process dies once, at each point in turn: before and after each unit, and
// before each record is taken.
func TestSplitCrash(t *testing.T) {
	for _, keep := range []bool{false, true} {
		points := 0
		for died := true; died; points++ {
			synctest.Test(t, func(t *testing.T) {
				m := newSplitModel(t, 0)
				m.crash, m.keep, m.script, m.dieAt = true, keep, true, points+1
				m.accept()
				m.finish()
				died = m.dieAt <= 0
				if n := len(m.ended); n < 5 && !(keep && n == 0) { // one of six is held; kept ones may be lost
					t.Errorf("point %d: %d recipients have ended, want 5", points, n)
				}
			})
		}
		if points < 15 {
			t.Errorf("the process died at %d points only", points-1)
		}
	}
}

// A splitModel follows each recipient through the units that are applied. Every
// recipient of a message has an address of its own.
type splitModel struct {
	t      *testing.T
	rng    *rand.Rand // of the test's goroutine
	crash  bool       // processes die
	keep   bool       // messages are accepted by Keep
	script bool       // nothing is left to chance
	w      *world

	mu       sync.Mutex
	answers  *rand.Rand // of handlers, records and the spool
	sp       *spool.Memory
	next     *spool.Memory // after the death of the process
	dieAt    int           // with script: at which point the process dies
	calm     bool
	messages int
	calls    int
	said     map[string]string        // of each recipient: the kind of the last verdict
	keys     map[string]string        // and what groups it
	live     map[spool.ID]spool.Entry // what is stored
	ended    map[string]RecordType
	finals   map[spool.ID]string // the records of ends: type and time
	told     map[string]int      // of each recipient: records of its end
}

func newSplitModel(t *testing.T, seed uint64) *splitModel {
	m := &splitModel{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), answers: rand.New(rand.NewPCG(seed, 2)),
		crash: seed%2 == 0, keep: seed%4 == 1,
		said: map[string]string{}, keys: map[string]string{}, live: map[spool.ID]spool.Entry{},
		ended: map[string]RecordType{}, finals: map[spool.ID]string{}, told: map[string]int{},
	}
	m.start(spool.NewMemory())
	return m
}

func (m *splitModel) start(sp *spool.Memory) {
	handle := func(ctx context.Context, msg *Message) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.next != nil || m.sp != sp {
			return errors.New("this process is dead")
		}
		return m.handle(ctx, msg)
	}
	m.mu.Lock()
	m.sp, m.next = sp, nil
	m.mu.Unlock()
	m.w = start(m.t, handle, setup{
		sp: sp, wrap: func(sp *spool.Memory) spool.Spool { return &splitSpool{sp, m} },
		handlers: map[string]Handler{"*": handle}, record: m.record,
		opts: Options{Configure: func(string) Config {
			return Config{MaxAttempts: 4, Concurrency: 4, Backoff: Backoff{Base: time.Minute}}
		}},
	})
	synctest.Wait()
}

func (m *splitModel) run() {
	for range 25 {
		if m.rng.IntN(3) > 0 {
			m.accept()
		} else {
			time.Sleep(time.Duration(m.rng.IntN(300)) * time.Second)
		}
		m.settle()
	}
	m.finish()
}

// finish lets everything end that can.
func (m *splitModel) finish() {
	m.settle()
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	time.Sleep(24 * time.Hour)
	m.settle()
	time.Sleep(24 * time.Hour)
	m.settle()
	m.w.shutdown()
	m.judge()
}

// settle starts the next process when one has died.
func (m *splitModel) settle() {
	for synctest.Wait(); ; synctest.Wait() {
		m.mu.Lock()
		next := m.next
		m.mu.Unlock()
		if next == nil {
			return
		}
		m.w.shutdown()
		m.start(next)
		time.Sleep(time.Minute)
	}
}

func (m *splitModel) accept() {
	tx, err := m.w.sched.Begin(m.t.Context(), 0)
	if err != nil {
		return // the process is dying
	}
	defer tx.Abort()
	if _, err := tx.Write([]byte(mail)); err != nil {
		return
	}
	m.messages++
	e := &spool.Entry{ID: spool.NewID()}
	rcpts := 1 + m.rng.IntN(6)
	if m.script {
		rcpts = 6
	}
	for i := range rcpts {
		address := fmt.Sprintf("m%d.%d@d%d.example", m.messages, i, m.rng.IntN(2))
		e.Envelope.Recipients = append(e.Envelope.Recipients, spool.Recipient{Address: address})
	}
	store := tx.Commit
	if m.keep {
		store = tx.Keep
	}
	if err := store(m.t.Context(), e); err != nil {
		return
	}
	m.mu.Lock()
	m.live[e.ID] = *e.Clone()
	m.mu.Unlock()
	tx.HandOver()
}

// handle is the handler of every queue. mu is held.
func (m *splitModel) handle(ctx context.Context, msg *Message) error {
	m.checkContent(msg)
	m.calls++
	rcpts := addresses(msg.Envelope)
	odd := m.answers.IntN(10)
	if m.script {
		odd = 8
	}
	if msg.Queue == Deferred {
		if err := m.edit(ctx, msg); err != nil {
			return m.sayAll(rcpts, err)
		}
		if !m.calm && odd == 9 {
			msg.Meta["queue"] = Deferred // it goes nowhere
		}
	}
	switch {
	case m.calm:
		return m.sayAll(rcpts, nil)
	case odd == 0:
		whole := m.verdict()
		if classify(whole).kind == split {
			whole = Hold("look")
		}
		if whole == nil && msg.Meta["queue"] == Deferred {
			_ = m.sayAll(rcpts, errors.New("nowhere"))
			return nil
		}
		return m.sayAll(rcpts, whole)
	case odd == 1:
		_ = m.sayAll(rcpts, errors.New("panic"))
		panic("boom")
	case odd == 2:
		_ = m.sayAll(rcpts, errors.New("miscounted"))
		return Split(make([]error, len(rcpts)+1))
	}
	parts := make([]error, len(rcpts))
	for i, r := range rcpts {
		parts[i] = m.verdict()
		if m.script {
			parts[i] = []error{nil, RetryAfter(time.Hour, nil), Reject(550, "no"), nil, Hold("look"), Drop("spam")}[i%6]
		}
		m.say(r, parts[i])
		if msg.Meta["queue"] == Deferred && parts[i] == nil {
			m.say(r, errors.New("nowhere"))
		}
	}
	if msg.Meta["queue"] == Deferred && !slices.ContainsFunc(parts, func(err error) bool { return err != nil }) {
		return m.sayAll(rcpts, errors.New("nowhere"))
	}
	return Split(parts)
}

// edit changes the message, and emits one, for what is successful of this call.
func (m *splitModel) edit(ctx context.Context, msg *Message) error {
	call := fmt.Sprint(m.calls)
	msg.Meta["call"] = call
	if m.answers.IntN(2) == 0 {
		if err := msg.SetContent(strings.NewReader("X-Call: " + call + "\r\n\r\nnew\r\n")); err != nil {
			return err
		}
	} else {
		h, err := msg.Header()
		if err != nil {
			return err
		}
		h.Prepend("X-Call", call)
	}
	_, err := msg.Emit(ctx, spool.Envelope{Recipients: []spool.Recipient{{Address: "copy" + call + "@copies.example"}}},
		map[string]string{"call": call}, strings.NewReader("X-Call: "+call+"\r\n\r\ncopy\r\n"))
	return err
}

// checkContent makes sure that a message is as it was received until the inject
// callback succeeds, and as that left it afterwards.
func (m *splitModel) checkContent(msg *Message) {
	b, err := msg.Open()
	if err != nil {
		return // the process is dying
	}
	content, err := io.ReadAll(b)
	call := msg.Meta["call"]
	switch {
	case err != nil:
	case msg.Queue == Deferred && (string(content) != mail || call != ""):
		m.t.Errorf("an attempt sees what another one has left: %q, %v", content, msg.Meta)
	case msg.Queue != Deferred && (!strings.HasPrefix(string(content), "X-Call: "+call+"\r\n") || strings.Count(string(content), "X-Call") != 1):
		m.t.Errorf("call %s has left %q", call, content)
	}
}

func (m *splitModel) verdict() error {
	switch m.answers.IntN(14) {
	case 0:
		return errors.New("down")
	case 1:
		return errors.New("busy")
	case 2:
		return Reject(451, "down")
	case 3:
		return RetryAfter(time.Hour, errors.New("down"))
	case 4:
		return Reject(550, "no")
	case 5:
		return Reject(550, "5.1.1 no")
	case 6:
		return Drop("spam")
	case 7:
		return Hold("look")
	case 8:
		return Split([]error{nil})
	}
	return nil
}

func (m *splitModel) say(rcpt string, err error) {
	v := classifyPart(err)
	m.said[rcpt] = [...]string{"success", "transient", "reject", "hold", "drop", "split"}[v.kind]
	m.keys[rcpt] = fmt.Sprint(v.key())
}

func (m *splitModel) sayAll(rcpts []string, err error) error {
	for _, r := range rcpts {
		m.say(r, err)
	}
	return err
}

func addresses(env spool.Envelope) (all []string) {
	for _, r := range env.Recipients {
		all = append(all, r.Address)
	}
	return all
}

// record takes records, refuses some, and dies of some.
func (m *splitModel) record(_ context.Context, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.answers.IntN(40)
	if m.script {
		n = 10 - 9*m.point() // 10, or 1
	}
	switch {
	case m.next != nil, n == 0 && !m.calm:
		return errors.New("not now")
	case n == 1:
		m.die()
		return errors.New("dead")
	}
	switch {
	case r.Type == Delivery && r.Queue != Deferred:
	case r.Type == Bounce, r.Type == AdminBounce, r.Type == Expiration:
		what := fmt.Sprint(r.Type, r.Time)
		if before, ok := m.finals[r.ID]; ok && (before != what || !m.crash) {
			m.t.Errorf("%s was recorded as %s, and as %s", r.ID, before, what)
		}
		m.finals[r.ID] = what
		if e, ok := m.live[r.ID]; !ok || e.State != spool.Final || !slices.Equal(addresses(e.Envelope), r.Recipients) {
			m.t.Errorf("a %s of %v, which is not what is stored: %v", r.Type, r.Recipients, e.Envelope)
		}
	default:
		return nil
	}
	for _, rcpt := range r.Recipients {
		m.told[rcpt]++
	}
	return nil
}

// point passes a point where the process may die, and returns 1 if it is to.
func (m *splitModel) point() int {
	if m.dieAt--; m.dieAt == 0 {
		return 1
	}
	return 0
}

// die is the death of the process. mu is held.
func (m *splitModel) die() {
	if m.crash && !m.calm && m.next == nil {
		m.next = m.sp.Crash()
		maps.DeleteFunc(m.live, func(_ spool.ID, e spool.Entry) bool { return e.Rev == 0 }) // it was in memory
	}
}
