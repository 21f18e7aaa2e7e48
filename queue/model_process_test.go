package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// A process is one Scheduler on one value of the shared store.
type process struct {
	m      *model
	number int
	sp     *spool.Memory
	sched  *Scheduler
	cancel context.CancelFunc
	done   chan error
	began  time.Time

	// Guarded by model.mu:
	stopping bool // from then on what handlers return need not count
	faulty   bool // crashed, or its spool failed or lost its session
	dead     bool // crashed
	gone     bool // owns nothing
	next     *spool.Memory
	notSaved int // by what Run said
}

func (p *process) ended() bool { return p.stopping || p.faulty }

func (m *model) start(sp *spool.Memory) *process {
	p := &process{m: m, done: make(chan error, 1), began: time.Now()}
	m.mu.Lock()
	if errors.Is(sp.Health(), spool.ErrFailed) { // a sync has failed since a crash gave it
		m.armed = 0
		sp = sp.Reopen()
	}
	p.sp = sp
	m.all = append(m.all, p)
	p.number = len(m.all)
	m.mu.Unlock()
	opts := &Options{Record: p.record, Logger: testLogger(m.t), Configure: func(string) Config { return *m.config.Load() }}
	if m.notices {
		opts.Notices = &NoticeOptions{ReportingMTA: "mta.example", DelayAfter: modelDelay}
	}
	var err error
	if p.sched, err = NewScheduler(&modelSpool{sp, p}, p.handle, opts); err != nil {
		m.t.Fatal(err)
	}
	if m.routed {
		if err := p.sched.Handle("*", p.handle); err != nil {
			m.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.done <- p.sched.Run(ctx) }()
	return p
}

// stop stops p, whether its spool works or not.
func (m *model) stop(p *process) {
	m.mu.Lock()
	p.stopping = true
	m.mu.Unlock()
	p.cancel()
	err := <-p.done
	m.mu.Lock()
	defer m.mu.Unlock()
	p.gone = true
	if errors.Is(err, ErrNotSaved) {
		_, count, _ := strings.Cut(err.Error(), ErrNotSaved.Error())
		if _, err := fmt.Sscanf(count, ": %d of them", &p.notSaved); err != nil || p.notSaved == 0 {
			m.t.Errorf("%q says not how many", count)
		}
		if !m.faults && !p.faulty {
			m.t.Errorf("Run: %v", err)
		}
	} else if err != nil && !p.faulty {
		m.t.Errorf("Run: %v", err)
	}
}

// restart replaces p by another process.
func (m *model) restart(p *process) {
	m.stop(p)
	if m.rng.IntN(2) == 0 {
		m.handOver(p) // after the stop: they are in the spool
	}
	m.open = slices.DeleteFunc(m.open, func(tx openTransaction) bool { return tx.by == p })
	m.mu.Lock()
	sp := p.next
	if sp == nil {
		m.armed = 0
		sp = p.sp.Reopen()
	}
	m.mu.Unlock()
	m.procs[slices.Index(m.procs, p)] = m.start(sp)
}

// die is the death of a process. mu is held.
func (m *model) die(p *process) {
	if m.calm || p.faulty || p.gone {
		return
	}
	p.faulty, p.dead, p.gone, m.armed = true, true, true, 0
	m.crashes++
	p.next = p.sp.Crash()
}

// A modelSpool tells the model what is applied, and does not always answer so.
type modelSpool struct {
	*spool.Memory
	p *process
}

type modelWriter struct {
	spool.Writer
	s *modelSpool
}

func (s *modelSpool) Create(ctx context.Context, size int64) (spool.Writer, error) {
	w, err := s.Memory.Create(ctx, size)
	if err != nil {
		return nil, err
	}
	return &modelWriter{w, s}, nil
}

// Commit is never ambiguous: what a client then does is not the scheduler's.
func (w *modelWriter) Commit(ctx context.Context, entries ...*spool.Entry) error {
	unit := make(spool.Unit, len(entries))
	for i, e := range entries {
		unit[i] = spool.Change{Op: spool.Insert, Entry: e, Stage: w, Keep: true}
	}
	return w.s.apply(ctx, unit, false)
}

func (s *modelSpool) Claim(ctx context.Context, req spool.ClaimRequest) ([]*spool.Entry, time.Time, error) {
	m := s.p.m
	m.mu.Lock()
	busy := m.faults && !m.calm && m.answers.IntN(40) == 0
	m.mu.Unlock()
	if busy {
		return nil, time.Time{}, spool.ErrBusy
	}
	return s.Memory.Claim(ctx, req)
}

func (s *modelSpool) Apply(ctx context.Context, units ...spool.Unit) (errs []error) {
	failed := false
	for _, u := range units {
		err := s.apply(ctx, u, true)
		errs, failed = append(errs, err), failed || err != nil
	}
	if !failed {
		return nil
	}
	return errs
}

func (s *modelSpool) apply(ctx context.Context, u spool.Unit, ambiguous bool) error {
	m := s.p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.answers.IntN(120)
	if m.calm || u[0].Op == spool.Release {
		n = 119
	}
	if n >= 100 && n < 110 { // it takes its time
		d := time.Duration(m.answers.IntN(4000)) * time.Millisecond
		m.mu.Unlock()
		time.Sleep(d)
		m.mu.Lock()
	}
	var answer error
	switch {
	case n == 0 && m.deaths:
		m.die(s.p)
	case n < 2 || !m.faults:
	case n < 5:
		return spool.ErrBusy
	case n < 7 && u[0].Op == spool.Insert:
		return spool.ErrFull
	case n < 10 && ambiguous:
		return spool.ErrAmbiguous
	case n < 15 && ambiguous:
		answer = spool.ErrAmbiguous
	}
	err := m.applyTo(s, ctx, u, answer != nil)
	if n == 1 && m.deaths {
		m.die(s.p)
	}
	if err == nil {
		err = answer
	}
	return err
}

// applyTo applies a unit and notes what became of it. mu is held.
func (m *model) applyTo(s *modelSpool, ctx context.Context, u spool.Unit, secretly bool) error {
	inner := make(spool.Unit, len(u))
	for i, c := range u {
		if w, ok := c.Stage.(*modelWriter); ok {
			c.Stage = w.Writer
		}
		if secretly { // the caller does not learn what was done
			c.Entry = c.Entry.Clone()
		}
		inner[i] = c
	}
	broken := errors.Is(s.Memory.Health(), spool.ErrFailed)
	var err error
	if errs := s.Memory.Apply(ctx, inner); errs != nil {
		err = errs[0]
	}
	done := err == nil
	if errors.Is(err, spool.ErrFailed) && !broken && m.armed != 0 { // this is the sync that failed
		done = m.armed == 2
		m.armed = 0
		for _, p := range m.all {
			p.faulty = true
		}
	}
	if done {
		m.applied(s.p, inner)
	}
	return err
}

// record takes records, some of them slowly, refuses some, and dies of some.
func (p *process) record(_ context.Context, r Record) error {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.answers.IntN(100)
	if n >= 90 && !m.calm {
		d := time.Duration(m.answers.IntN(2000)) * time.Millisecond
		m.mu.Unlock()
		time.Sleep(d)
		m.mu.Lock()
	}
	switch {
	case p.dead:
		return errors.New("this process is dead")
	case m.calm:
	case n == 0 && m.deaths:
		m.die(p)
		return errors.New("dead")
	case m.faults && (n < 4 || time.Now().Before(m.refuse)):
		return errors.New("not now")
	}
	m.recorded(r)
	return nil
}

func modelBody() io.Reader { return strings.NewReader(mail) }
