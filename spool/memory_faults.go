package spool

import (
	"fmt"
	"time"
)

// memFaults is what is wrong with a store. Guarded by memStore.mu.
type memFaults struct {
	full   bool
	delay  time.Duration
	sync   syncFault
	failed bool
}

// A syncFault says what becomes of the next sync.
type syncFault uint8

const (
	syncWorks syncFault = iota
	syncLost            // it fails, and what it was for is not there later
	syncKept            // it fails, and what it was for is there later
)

// fail is what a failed sync does to every value on the store.
func (s *memStore) fail() {
	s.faults.failed = true
	s.faults.sync = syncWorks
	for m := range s.owners {
		m.broken = ErrFailed
	}
	s.hint()
}

// reopen returns a new owner after a process has looked through the store.
func (s *memStore) reopen() *Memory {
	s.faults.failed = false
	s.faults.sync = syncWorks
	for _, e := range s.entries {
		if e.aside {
			e.aside = false
			s.index.settle(e)
		}
	}
	return s.attach()
}

// Attach returns another owner on the same store, as another process on a
// shared spool would be. It works on a closed value too. While the store is
// failed (see [Memory.FailSync]) the new value is so as well.
func (m *Memory) Attach() *Memory {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.attach()
}

// Reopen closes m, unless that was done, and returns a new owner on the same
// store, healthy again: it ends what FailSync did, and damaged entries that
// were set aside are reported again. Other values that were attached when a
// sync failed stay failed, and own what they own, until they are closed.
// SetFull and SetDelay stay as they are.
func (m *Memory) Reopen() *Memory {
	_ = m.Close() // ErrClosed is as good
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.reopen()
}

// Crash is the death of the process that m stands for, followed by what
// Reopen does. What m staged is gone, and what it had taken up but not
// finished has not happened; whoever waits for that gets [ErrClosed], which m
// answers to everything from then on. Its ownership ends, and entries between
// Started and Ended have one more Interrupted.
//
// On a value that was closed or has crashed it only does what Reopen does.
func (m *Memory) Crash() *Memory {
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, alive := s.owners[m]; alive {
		s.interrupt(m)
		m.closed, m.crashed = true, true
		close(m.gone)
		m.leave()
	}
	return s.reopen()
}

// interrupt counts the marks of m on what no other value owns.
func (s *memStore) interrupt(m *Memory) {
	for id := range m.marks {
		e := s.entries[id]
		if e == nil || e.owner != nil && e.owner != m {
			continue
		}
		s.rev++
		e.Rev = s.rev
		e.Interrupted++
	}
}

// SetFull says whether the store is out of space. While it is, Create, Write
// and units that insert an entry or bring a body answer [ErrFull], which is
// also the Health; other updates and removes use reserved space and succeed.
func (m *Memory) SetFull(full bool) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.store.faults.full = full
	m.store.hint()
}

// FailSync makes the next sync fail: the next unit, of whichever value on the
// store, that would be applied and does more than Release answers [ErrFailed],
// as does everything after it and the Health of every value now on the store,
// until Reopen. The unit is not there then. [Memory.FailSyncKept] is the other
// case: after a failed sync nobody can tell.
func (m *Memory) FailSync() { m.failSync(syncLost) }

// FailSyncKept is [Memory.FailSync], but for that the unit that answers
// ErrFailed is there after Reopen.
func (m *Memory) FailSyncKept() { m.failSync(syncKept) }

func (m *Memory) failSync(f syncFault) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.store.faults.sync = f
}

// SetDelay makes every Apply and Commit that starts from now on take as long
// as d, on every value on the store. They wait side by side, as those of one
// group do on disk. Their context ends nothing once they wait.
func (m *Memory) SetDelay(d time.Duration) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	m.store.faults.delay = d
}

// LoseSession is what befalls a value on a shared spool when its session ends:
// all of its ownership ends without counting an interruption, and Health,
// Create, Claim, Apply and Commit answer [ErrFenced] from then on, also to
// what was taken up and not finished. It may still read. It has no effect on a
// value that was closed or has failed.
func (m *Memory) LoseSession() {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if m.closed || m.broken != nil {
		return
	}
	m.broken = ErrFenced
	m.disown()
}

// Damage flips a bit, as it were, in the "entry" or the "body" with that ID,
// in a way that no Reopen mends: what reads it from then on answers a
// [CorruptError]. An Update by the owner of a damaged entry replaces it. The
// error is [ErrNotFound] if there is no such entry or body.
func (m *Memory) Damage(id ID, part string) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	switch part {
	case "entry":
		if e := m.store.entries[id]; e != nil {
			e.damaged = true
			return nil
		}
	case "body":
		if b := m.store.bodies[id]; b != nil {
			b.damaged.Store(true)
			return nil
		}
	default:
		return fmt.Errorf("spool: Damage: part %q is neither \"entry\" nor \"body\"", part)
	}
	return fmt.Errorf("%w: %s %s", ErrNotFound, part, id)
}
