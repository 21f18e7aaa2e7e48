package spool

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Spool is durable storage for accepted mail. It is safe for concurrent use
// and retains nothing that it is given: neither an entry nor a slice or map in
// it once the call has returned.
//
// A Spool value owns what it claimed or kept. It keeps that ownership alive by
// itself and loses it by Close, by the death of its process, or, in a shared
// spool, by losing its session. One scheduler works on one Spool value. Several
// Spool values may stand on one shared store; package boltspool allows one.
//
// The errors of every method are those of this package, to be tested with
// errors.Is and errors.As; they may be wrapped. A method that is called after
// Close answers [ErrClosed].
type Spool interface {
	// Create begins to stage a body. size is a hint of how long it will be, 0
	// if unknown. It does not wait for the disk. ErrFull, ErrBusy, ErrFailed and
	// ErrFenced (the session was lost) say why nothing can be staged now.
	Create(ctx context.Context, size int64) (Writer, error)

	// Claim makes this Spool the owner of up to req.Limit entries that are
	// due, the longest due first, and returns them. next says when the next
	// entry that matches and that nobody owns falls due, if the claim left none
	// behind that is due already; else it is a time that has passed. It is zero
	// if there is none.
	//
	// Before all others come Final entries that nobody owns: their owner died
	// before their record was taken. They match whatever Queues, Except, Class
	// and Due say.
	//
	// Ownership need not be durable; what the claimed entries were before is
	// found again when the owner dies. Damage does not stop a claim: the entry
	// is set aside until the spool is opened anew, and err is a *CorruptError
	// (several are joined) beside the entries that were claimed. With any other
	// err nothing was claimed.
	Claim(ctx context.Context, req ClaimRequest) (entries []*Entry, next time.Time, err error)

	// Apply makes each unit durable, or nothing of that unit, with one wait
	// for all of them. errs is nil if all succeeded, else it holds one error per
	// unit, nil for those that did.
	//
	// nil for a unit means that it survives the loss of power. Apply must not
	// answer nil before that: the sender of a message deletes its copy then.
	// ErrFenced means that the unit names an entry that this Spool does not own
	// at that Rev, ErrAmbiguous that nobody knows; after every other error the
	// unit was not applied. On success Rev and Size of the entries that were
	// inserted or updated are set, and ownership of all of them ends unless
	// Keep; on failure ownership stays as it was.
	//
	// ctx counts until the spool has taken the units up; from then on Apply
	// waits for the outcome. The caller retries, after ErrFull and ErrBusy, with
	// the same units. Updates and removes use reserved space, so that a full
	// spool can still empty itself.
	Apply(ctx context.Context, units ...Unit) (errs []error)

	// Open reads a stored body. ErrNotFound if there is none, a *CorruptError
	// if it is damaged; the latter also from Read. It never returns wrong bytes
	// silently.
	Open(ctx context.Context, body ID) (Body, error)

	// Scan yields entries, owned or not, in the order of their IDs, without
	// holding a lock or a snapshot between them: what changes meanwhile may or
	// may not be seen. Damage is yielded as a *CorruptError and does not end
	// the scan; any other error does.
	Scan(ctx context.Context, q Query) iter.Seq2[*Entry, error]

	// Queues yields one QueueInfo for each queue, class and state of which
	// there are entries, in no order. It costs little however many entries
	// there are. An error ends it.
	Queues(ctx context.Context) iter.Seq2[QueueInfo, error]

	// Changed receives a hint that something may have become claimable (by a
	// change or a release of this Spool or of another owner, or by the death of
	// one), or that Health changed. What falls due does not hint: Claim told when.
	// Hints are collected: one may stand for many. It is never closed.
	Changed() <-chan struct{}

	// Health is cheap and never blocks: nil; ErrFull until there is room;
	// ErrFailed until reopened; ErrFenced when the session was lost; ErrClosed.
	Health() error

	// Close waits for what was taken up, gives up all ownership and stops.
	// Bodies that are open stay readable until they are closed, or answer
	// ErrClosed. A second Close answers ErrClosed.
	Close() error
}

// A Body reads one stored body. It stays readable until it is closed, even
// when its last entry is removed meanwhile. ReadAt is safe for concurrent use,
// the other methods are not.
type Body interface {
	io.ReadSeekCloser
	io.ReaderAt
	Size() int64
}

// A Writer stages one body. Nothing of it is visible to others, and nothing
// stays after a crash, before it is committed. It is not for concurrent use,
// but several Writers are. Its memory is bounded however long the body is.
//
// Commit and Apply may be called again after an error; after ErrAmbiguous only
// with the same unit, which then succeeds, or answers ErrExists or ErrFenced if
// the first try had succeeded. A Writer that was not committed must be aborted.
type Writer interface {
	// Write appends to the body. ErrFull, ErrTooLarge, ErrFailed.
	io.Writer

	// ID is the body's ID, valid at once.
	ID() ID

	// Open reads what was written so far, staged or committed. What is written
	// later need not be seen.
	Open() (Body, error)

	// Commit is [Spool.Apply] of one Unit that inserts entries with Keep, with
	// this Writer as their Stage. The Body of each entry must be ID().
	Commit(ctx context.Context, entries ...*Entry) error

	// Abort discards what was staged. It has no effect once a Commit or an
	// Apply succeeded or was ambiguous, and may be deferred right after Create.
	Abort() error
}

// An Op says what a [Change] does.
type Op uint8

// The operations. An entry is named by its ID, and must be owned by this Spool
// at its Rev for every operation but Insert; else the unit is ErrFenced.
const (
	// Insert stores a new entry. ErrExists if its ID is stored already, whoever
	// owns that, and nothing changes.
	Insert Op = iota + 1
	// Update replaces the stored entry with the same ID. The body that it
	// refers to may be another one.
	Update
	// Remove deletes the entry; the body goes with its last entry. It is
	// idempotent: to remove what is not stored succeeds.
	Remove
	// Release gives the entry back unchanged. It need not be durable.
	Release
)

// A Change is one step of a [Unit].
type Change struct {
	Op    Op
	Entry *Entry
	// Stage brings the body of an Insert or an Update: it becomes durable with
	// the entry. Entry.Body must be its ID. Changes of one unit may share it.
	// Without it Entry.Body must be a body that an entry stored before this unit
	// refers to, else the unit is ErrNotFound.
	Stage Writer
	// Keep keeps an inserted or updated entry owned by this Spool, as if it had
	// been claimed.
	Keep bool
}

// A Unit is applied whole or not at all. It names an entry at most once.
type Unit []Change

// A ClaimRequest selects from the entries that nobody owns.
type ClaimRequest struct {
	Queues []string  // nil: every queue
	Except []string  // but for these
	Class  string    // empty: every class
	Due    time.Time // due at or before; usually now
	Limit  int       // how many at most; nothing is claimed if it is not positive
	// IDs, if not nil, selects just these, whatever their state or due time,
	// and the fields above are ignored, Limit included. Operators claim so.
	IDs []ID
}

// A Query selects what Scan yields. The zero value selects everything.
type Query struct {
	Queue string // empty: every queue
	After ID     // only IDs greater than this one
}

// QueueInfo counts the entries of one queue, class and state.
type QueueInfo struct {
	Queue, Class string
	State        State
	Entries      int64     // owned or not
	Bytes        int64     // the sum of their sizes; a shared body counts for each
	Oldest       time.Time // the earliest Received among them, or a time before it
	NextDue      time.Time // the earliest Due of those that nobody owns; zero if there is none
}

// Starter is implemented by spools that can mark cheaply that a handler of an
// entry is about to run, so that the mark survives the death of the process,
// though not necessarily the loss of power. When the process dies between
// Started and Ended, the spool adds one to the Interrupted of the entry before
// it can be claimed again. A call costs far less than an Apply. A Close ends
// all marks without counting.
type Starter interface {
	Started(ids ...ID)
	Ended(ids ...ID)
}
