package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

const (
	// suspensionInterval bounds how long a suspension by another process is not seen.
	suspensionInterval = time.Minute
	// suspensionPause is between two looks however often the spool hints.
	suspensionPause = 10 * time.Second
)

// SuspendOptions say why and how long a queue is suspended.
type SuspendOptions struct {
	Reason string    // never empty
	Until  time.Time // zero: until [Admin.Resume]
}

// A Suspension is a queue of which nothing is started.
type Suspension struct {
	Queue  string
	Reason string
	Since  time.Time
	Until  time.Time // zero: until [Admin.Resume]
}

// Suspend has no message of a queue started, from the moment at which it returns nil.
// Handlers that run go on, what they return counts, and what has ended is recorded.
// Mail for the queue is still accepted and waits; the queue [Deferred] may be
// suspended as any other. No attempts are counted, no due time moves, and what does
// not expire for want of an attempt gets one after the end.
//
// A suspension is durable when Suspend returns nil: no restart starts anything of the
// queue. Other processes on the same store follow within a minute. A second Suspend of
// a queue replaces the first. The error may be that of the spool: a full one takes none.
//
// It does not concern listeners without DeferredQueue, whose inject callback runs
// before the reply.
func (a *Admin) Suspend(ctx context.Context, queue string, opts SuspendOptions) error {
	now := time.Now()
	switch {
	case queue == "" || queue == Suspensions:
		return fmt.Errorf("queue: Suspend(%q): no queue of messages has that name", queue)
	case strings.TrimSpace(opts.Reason) == "":
		return fmt.Errorf("queue: Suspend(%q): the reason is empty", queue)
	case !opts.Until.IsZero() && !opts.Until.After(now):
		return fmt.Errorf("queue: Suspend(%q): Until %v has passed", queue, opts.Until)
	}
	sus := suspension{reason: oneLine(opts.Reason), since: now.Round(0), until: opts.Until.Round(0)}
	err := a.s.editSuspensions(ctx, func(all map[string]suspension) error {
		all[queue] = sus
		return a.s.storeSuspension(ctx, queue, sus)
	})
	if err != nil {
		return fmt.Errorf("queue: Suspend(%q): %w", queue, err)
	}
	end := "resumed"
	if !sus.until.IsZero() {
		end = sus.until.String()
	}
	a.s.log.Info("queue: a queue is suspended", "queue", queue, "reason", sus.reason, "until", end)
	return nil
}

// Resume ends the suspension of a queue: what is due is started at once. It is
// durable when Resume returns nil. A queue that is not suspended is a
// [spool.ErrNotFound].
func (a *Admin) Resume(ctx context.Context, queue string) error {
	err := a.s.editSuspensions(ctx, func(all map[string]suspension) error {
		_, known := all[queue]
		err := a.s.removeSuspension(ctx, queue)
		if err == nil || known && errors.Is(err, spool.ErrNotFound) {
			delete(all, queue)
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("queue: Resume(%q): %w", queue, err)
	}
	a.s.log.Info("queue: a queue is resumed", "queue", queue)
	return nil
}

// Suspensions returns what is suspended according to the spool, by name of the queue.
func (a *Admin) Suspensions(ctx context.Context) ([]Suspension, error) {
	all, _, err := a.s.readSuspensions(ctx)
	if err != nil {
		return nil, fmt.Errorf("queue: Suspensions: %w", err)
	}
	list := make([]Suspension, 0, len(all))
	for name, sus := range all {
		list = append(list, Suspension{Queue: name, Reason: sus.reason, Since: sus.since, Until: sus.until})
	}
	slices.SortFunc(list, func(a, b Suspension) int { return cmp.Compare(a.Queue, b.Queue) })
	return list, nil
}

// suspensionID is the ID of the suspension of a queue: always the same, so that there
// is one, and with time zero, so that it is no message's.
func suspensionID(queue string) (id spool.ID) {
	sum := sha256.Sum256([]byte(queue))
	copy(id[6:], sum[:])
	id[6] = id[6]&0x0f | 0x70 // a UUID of version 7, as all IDs
	id[8] = id[8]&0x3f | 0x80
	return id
}

// suspensionEntry is how a suspension is stored.
func suspensionEntry(queue string, sus suspension) *spool.Entry {
	return &spool.Entry{
		ID: suspensionID(queue), Queue: Suspensions, Class: "-", State: spool.Held,
		Received: sus.since, Due: sus.since, Expires: sus.until,
		Meta: map[string]string{"queue": queue, "reason": sus.reason},
	}
}

// editSuspensions is how they are changed: one change at a time, first in the spool
// and then in memory.
func (s *Scheduler) editSuspensions(ctx context.Context, edit func(all map[string]suspension) error) error {
	select {
	case s.suspending <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.suspending }()
	s.mu.Lock()
	all := maps.Clone(s.mu.suspended)
	s.mu.Unlock()
	if all == nil {
		all = map[string]suspension{}
	}
	if err := edit(all); err != nil {
		return err
	}
	s.setSuspended(all)
	return nil
}

var errChanging = fmt.Errorf("another process is changing its suspension: %w", spool.ErrBusy)

// claimSuspension makes a stored suspension that of this process; nil if there is
// none. Nobody keeps one for long.
func (s *Scheduler) claimSuspension(ctx context.Context, queue string) (*spool.Entry, error) {
	id := suspensionID(queue)
	entries, _, err := s.spool.Claim(ctx, spool.ClaimRequest{IDs: []spool.ID{id}})
	if err != nil {
		return nil, err
	}
	if len(entries) == 1 {
		return entries[0], nil
	}
	found, err := s.lookup(ctx, map[spool.ID]bool{id: true})
	if err == nil && found[id] != nil {
		err = errChanging
	}
	return nil, err
}

func (s *Scheduler) storeSuspension(ctx context.Context, queue string, sus suspension) error {
	e := suspensionEntry(queue, sus)
	old, err := s.claimSuspension(ctx, queue)
	if err != nil {
		return err
	}
	if old != nil {
		e.Body, e.Rev = old.Body, old.Rev
		return s.applyOwned(ctx, old, spool.Change{Op: spool.Update, Entry: e})
	}
	w, err := s.spool.Create(ctx, 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	e.Body = w.ID()
	err = s.applyAll(ctx, []spool.Unit{{{Op: spool.Insert, Entry: e, Stage: w}}})[0]
	if errors.Is(err, spool.ErrExists) {
		return errChanging
	}
	return err
}

func (s *Scheduler) removeSuspension(ctx context.Context, queue string) error {
	old, err := s.claimSuspension(ctx, queue)
	if err != nil {
		return err
	}
	if old == nil {
		return fmt.Errorf("the queue is not suspended: %w", spool.ErrNotFound)
	}
	return s.applyOwned(ctx, old, spool.Change{Op: spool.Remove, Entry: old})
}

// expireSuspension removes one whose time is over, unless another process has done so
// or has replaced it.
func (s *Scheduler) expireSuspension(ctx context.Context, queue string) error {
	old, err := s.claimSuspension(ctx, queue)
	if err != nil || old == nil {
		return err
	}
	if old.Expires.IsZero() || old.Expires.After(time.Now()) {
		s.release([]*spool.Entry{old})
		return nil
	}
	return s.applyOwned(ctx, old, spool.Change{Op: spool.Remove, Entry: old})
}

// applyOwned makes a change durable and gives e back if that did not succeed.
func (s *Scheduler) applyOwned(ctx context.Context, e *spool.Entry, c spool.Change) error {
	err := s.applyAll(ctx, []spool.Unit{{c}})[0]
	if err != nil {
		s.release([]*spool.Entry{e})
	}
	return err
}

// readSuspensions returns those that the spool has, and the names of those whose time
// is over.
func (s *Scheduler) readSuspensions(ctx context.Context) (all map[string]suspension, over []string, err error) {
	all = map[string]suspension{}
	some := false
	for info, err := range s.spool.Queues(ctx) {
		if err != nil {
			return nil, nil, err
		}
		some = some || info.Queue == Suspensions && info.Entries > 0
	}
	if !some { // nearly always, and a Scan may cost much
		return all, nil, nil
	}
	now := time.Now()
	for e, err := range s.spool.Scan(ctx, spool.Query{Queue: Suspensions}) {
		var damage *spool.CorruptError
		switch {
		case errors.As(err, &damage):
			continue // of which nobody knows what it was; whoever claims reports it
		case err != nil:
			return nil, nil, err
		}
		name := e.Meta["queue"]
		if e.Queue != Suspensions || e.ID != suspensionID(name) {
			continue
		}
		if !e.Expires.IsZero() && !e.Expires.After(now) {
			over = append(over, name)
			continue
		}
		all[name] = suspension{reason: e.Meta["reason"], since: e.Received, until: e.Expires}
	}
	return all, over, nil
}

// syncSuspensions takes over what the spool has, and removes from it what is over.
func (s *Scheduler) syncSuspensions(ctx context.Context) error {
	return s.editSuspensions(ctx, func(all map[string]suspension) error {
		stored, ended, err := s.readSuspensions(ctx)
		if err != nil {
			return err
		}
		clear(all)
		maps.Copy(all, stored)
		for _, name := range ended {
			if err := s.expireSuspension(ctx, name); err != nil && !errors.Is(err, spool.ErrBusy) {
				s.log.Warn("queue: removing a suspension whose time is over; tried again", "queue", name, "error", err)
			}
		}
		return nil
	})
}

// loadSuspensions is syncSuspensions before anything is started. It returns nil, too,
// when ctx ends first.
func (s *Scheduler) loadSuspensions(ctx context.Context) error {
	for said := false; ; said = true {
		err := s.syncSuspensions(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if fatal := s.fatal(err); fatal != nil {
			return fatal
		}
		if !said {
			s.log.Warn("queue: reading which queues are suspended; tried again, and nothing is started before", "error", err, "delay", retryDelay)
		}
		if !sleep(ctx, retryDelay) {
			return nil
		}
	}
}

// startSuspensions has a task look for what other processes have suspended, if it is
// time, and returns when it is the next time. mu is held.
func (s *Scheduler) startSuspensions(now time.Time) (next time.Time) {
	switch {
	case s.mu.suspensionsSync:
		return now.Add(suspensionInterval)
	case s.mu.suspensionsAt.After(now):
		return s.mu.suspensionsAt
	}
	s.mu.suspensionsAt = now.Add(suspensionInterval)
	s.mu.suspensionsHint = now.Add(suspensionPause)
	s.mu.suspensionsSync = true
	s.pool.run(func() {
		if err := s.syncSuspensions(s.jobs); err != nil && s.jobs.Err() == nil {
			s.log.Warn("queue: reading which queues are suspended; tried again", "error", err, "delay", suspensionInterval)
		}
		s.mu.Lock()
		s.mu.suspensionsSync = false
		s.mu.Unlock()
		s.kick()
	})
	return s.mu.suspensionsAt
}

// hintSuspensions brings the next look forward, because something has changed in the
// spool. mu is held.
func (s *Scheduler) hintSuspensions() {
	if s.mu.suspensionsHint.Before(s.mu.suspensionsAt) {
		s.mu.suspensionsAt = s.mu.suspensionsHint
	}
}
