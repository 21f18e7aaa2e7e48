package spool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Memory is a Spool that keeps everything in memory, for tests. It behaves as
// a spool on disk does, but for [Memory.SetFull], which knows no reserve, and calls its store durable:
// what was applied is there after [Memory.Reopen] and [Memory.Crash], what was
// only staged or owned is not. It is a shared spool: [Memory.Attach] puts
// further values on the same store.
//
// The methods that are not part of [Spool] and [Starter] make it fail in the
// ways in which a disk or a database does. All methods are safe for concurrent
// use. No method starts a goroutine; time passes only in [Memory.SetDelay],
// on a timer, so that it is virtual inside a bubble of testing/synctest.
//
// Nothing bounds the memory of its bodies, staged or stored, but SetFull. It
// never answers [ErrTooLarge], [ErrBusy] or [ErrAmbiguous].
type Memory struct {
	store    *memStore
	changed  chan struct{}
	gone     chan struct{}  // closed by Crash
	inFlight sync.WaitGroup // what Apply took up

	// The fields below are guarded by store.mu.

	closed  bool  // nothing more is taken up
	crashed bool  // and what was taken up is lost
	broken  error // ErrFailed or ErrFenced, for good
	marks   map[ID]struct{}
}

var (
	_ Spool   = (*Memory)(nil)
	_ Starter = (*Memory)(nil)
)

// A memStore is what the values attached to it share: the disk, as it were.
type memStore struct {
	mu      sync.Mutex
	entries map[ID]*memEntry
	bodies  map[ID]*memBody
	index   memIndex
	owners  map[*Memory]struct{} // those neither closed nor crashed
	rev     uint64               // the last one given
	faults  memFaults
}

// A memEntry is one stored entry. Its Entry is never handed out, only clones.
type memEntry struct {
	*Entry
	body    *memBody
	owner   *Memory // nil: nobody
	group   *memGroup
	place   int  // in group.waiting; -1: not there
	damaged bool // its bytes do not match their checksum
	aside   bool // damage was reported; not claimable until opened anew
}

// corrupt returns the error that reports e's damage.
func (e *memEntry) corrupt() error {
	return &CorruptError{ID: e.ID, Part: "entry", Err: errChecksum}
}

// A memBody is one stored body, gone from the store with its last entry.
type memBody struct {
	id      ID
	data    []byte // never changed
	refs    int    // entries, guarded by memStore.mu
	damaged atomic.Bool
}

// NewMemory returns a value on a new, empty store.
func NewMemory() *Memory {
	s := &memStore{
		entries: make(map[ID]*memEntry),
		bodies:  make(map[ID]*memBody),
		index:   newMemIndex(),
		owners:  make(map[*Memory]struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attach()
}

// attach adds an owner.
func (s *memStore) attach() *Memory {
	m := &Memory{
		store:   s,
		changed: make(chan struct{}, 1),
		gone:    make(chan struct{}),
		marks:   make(map[ID]struct{}),
	}
	if s.faults.failed {
		m.broken = ErrFailed
	}
	s.owners[m] = struct{}{}
	return m
}

// usable says why m takes nothing up, nil if it does.
func (m *Memory) usable(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	if m.broken != nil {
		return m.broken
	}
	return ctx.Err()
}

// readable is usable for what changes nothing: a lost session may still read.
func (m *Memory) readable(ctx context.Context) error {
	if err := m.usable(ctx); err != nil && (err != ErrFenced || m.closed) {
		return err
	}
	return ctx.Err()
}

// Create implements [Spool]. It copies what is written and never blocks.
func (m *Memory) Create(ctx context.Context, size int64) (Writer, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.stageable(ctx); err != nil {
		return nil, err
	}
	const most = 64 << 10 // a hint is no reason to trust it
	return &memWriter{owner: m, id: NewID(), data: make([]byte, 0, min(max(size, 0), most))}, nil
}

// stageable says why no body can be staged now, nil if one can.
func (m *Memory) stageable(ctx context.Context) error {
	if err := m.usable(ctx); err != nil {
		return err
	}
	if m.store.faults.full {
		return ErrFull
	}
	return nil
}

// Open implements [Spool]. The Body stays readable after Close.
func (m *Memory) Open(ctx context.Context, body ID) (Body, error) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if err := m.readable(ctx); err != nil {
		return nil, err
	}
	b := m.store.bodies[body]
	if b == nil {
		return nil, fmt.Errorf("%w: body %s", ErrNotFound, body)
	}
	if b.damaged.Load() {
		return nil, b.corrupt()
	}
	return newMemReader(b.data, b), nil
}

// Changed implements [Spool]. Every value has a channel of its own.
func (m *Memory) Changed() <-chan struct{} { return m.changed }

// hint tells every value that it may be worth while to look again.
func (s *memStore) hint() {
	for m := range s.owners {
		m.hint()
	}
}

func (m *Memory) hint() {
	select {
	case m.changed <- struct{}{}:
	default: // one hint stands for many
	}
}

// Health implements [Spool].
func (m *Memory) Health() error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.stageable(context.Background())
}

// Close implements [Spool]. It waits for every Apply and Commit that was taken
// up, however long [Memory.SetDelay] makes them. The store stays: Reopen and
// Attach give new values on it.
func (m *Memory) Close() error {
	s := m.store
	s.mu.Lock()
	if m.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	m.closed = true
	s.mu.Unlock()

	m.inFlight.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.crashed {
		m.leave()
	}
	return nil
}

// leave ends all that m is to the store and tells the others.
func (m *Memory) leave() {
	m.disown()
	delete(m.store.owners, m)
	m.hint()
}

// disown ends the ownership and the marks of m.
func (m *Memory) disown() {
	clear(m.marks)
	for _, e := range m.store.entries {
		if e.owner == m {
			e.owner = nil
			m.store.index.settle(e)
		}
	}
	m.store.hint()
}

// Started implements [Starter]. The marks count when [Memory.Crash] ends m.
func (m *Memory) Started(ids ...ID) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	if m.closed {
		return
	}
	for _, id := range ids {
		m.marks[id] = struct{}{}
	}
}

// Ended implements [Starter].
func (m *Memory) Ended(ids ...ID) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for _, id := range ids {
		delete(m.marks, id)
	}
}
