// Package spool is the contract between a scheduler of mail and the durable
// storage that it works on, and the in-memory spool for tests. It imports
// nothing but the standard library.
//
// # Usage
//
// A message comes in as a body and one or more entries that refer to it. The
// body is staged in a [Writer] while it arrives; its Commit makes the body and
// all entries durable at once, and the new entries are owned by the Spool that
// made them. Whoever works on an entry owns it: entries that nobody owns are
// taken by [Spool.Claim], and every later change goes through [Spool.Apply].
//
//	w, err := sp.Create(ctx, 0)
//	defer w.Abort()
//	_, err = io.Copy(w, message)
//	e := &spool.Entry{ID: spool.NewID(), Body: w.ID(), Queue: "inbox", Class: "-", ...}
//	err = w.Commit(ctx, e)                   // durable and owned
//	next := e.Clone()
//	next.Attempts++
//	next.Due = time.Now().Add(time.Minute)
//	errs := sp.Apply(ctx, spool.Unit{{Op: spool.Update, Entry: next}}) // durable and free
//
// # Ownership
//
// Ownership is what keeps two workers from one message. A change to an entry
// that is not owned at the revision named answers [ErrFenced] and does nothing.
// Ownership ends with a change without Keep, with Close, with the death of the
// process and, where several processes share a store, when a session is lost.
// Nothing in the contract assumes one process: a scheduler knows no entry that
// it did not claim or insert, and takes no earlier count for the truth.
//
// # Durability
//
// A nil from Commit or Apply means that the change survives the loss of power,
// directory entries included. A crash shows all of a [Unit] or nothing of it.
// A spool that cannot tell what it stored says [ErrFailed] to everything until
// it is opened anew: after a failed sync a second sync proves nothing.
//
// # Moving
//
// [Copy] brings everything from one spool to another, whatever keeps them, and
// may be interrupted and repeated.
//
// # Implementing a spool
//
// Implement [Spool], return the errors of this package, and run the suite of
// package spooltest against it. Implement [Starter] if a mark can be kept
// cheaply. [Content] puts the header of an entry and its body together.
package spool
