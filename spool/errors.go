package spool

import (
	"errors"
	"fmt"
)

// Errors about a request. Nothing was changed; another request may succeed.
var (
	// ErrNotFound: no such body, or an entry refers to a body that is not there.
	ErrNotFound = errors.New("spool: not found")
	// ErrExists: an entry with this ID is stored already. After an
	// [ErrAmbiguous] it says that the first try had succeeded.
	ErrExists = errors.New("spool: entry exists")
	// ErrFenced: a change to an entry that this Spool does not own at that
	// revision; as [Spool.Health], that the session was lost and with it all
	// ownership.
	ErrFenced = errors.New("spool: entry is not owned at this revision")
	// ErrTooLarge: the body is larger than this spool stores.
	ErrTooLarge = errors.New("spool: message too large")
)

// Errors about the state of the spool.
var (
	// ErrFull: no space. What was asked for was rolled back, and the state
	// ends by itself once there is room. ErrQuota and ErrNoInodes are ErrFull
	// too, by errors.Is, and say more.
	ErrFull = errors.New("spool: no space")
	// ErrQuota: the quota of the spool is used up, whatever room its disk has.
	// Only units that do nothing but insert are refused for it.
	ErrQuota error = fullError("spool: quota used up")
	// ErrNoInodes: the file system has room, but none for further files.
	ErrNoInodes error = fullError("spool: no inodes")
	// ErrBusy: too much in flight. Try again soon.
	ErrBusy = errors.New("spool: too much in flight")
	// ErrAmbiguous: the outcome of one unit is unknown. It may be found later.
	ErrAmbiguous = errors.New("spool: outcome of a unit unknown")
	// ErrFailed: a write or a sync failed, and what is on disk is uncertain.
	// Final until the spool is opened anew.
	ErrFailed = errors.New("spool: storage failed")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("spool: closed")
)

// A fullError is a kind of ErrFull.
type fullError string

func (e fullError) Error() string { return string(e) }

func (e fullError) Is(target error) bool { return target == ErrFull }

// A CorruptError reports an entry or a body that is damaged. The spool sets it
// aside and neither deletes it nor returns wrong bytes.
type CorruptError struct {
	ID   ID     // the entry, or the body
	Part string // "entry" or "body"
	Err  error  // what is wrong with it
}

// Error says which part of which message is damaged, and how.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("spool: %s %s is damaged: %v", e.Part, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
