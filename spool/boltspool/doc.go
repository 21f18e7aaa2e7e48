// Package boltspool is the embedded spool on disk: a log in segment files, of
// which one sync makes durable what many clients ask for together, and a bbolt
// index that says now and then where things are in it.
//
// # Usage
//
//	sp, err := boltspool.Open("/var/spool/myhost", nil)
//	defer sp.Close()
//
// What a [Spool] promises is the contract of package spool. One process has the
// directory open at a time. Copy a spool that is open by [Spool.Backup] and by
// nothing else; [Verify] checks one that is not, and the command spoolctl looks
// into it.
//
// # Durability
//
// Commit and Apply answer nil after bodies and entries were synced, with every
// directory entry on which they depend. Requests that arrive together share one
// sync: when several clients are in flight, the committer waits for them for a
// quarter of what a group takes, and at most 2 ms; a single client never waits.
// A body of more than about 1 MiB has a file of its own, which its client syncs.
//
// A write that finds no space (ENOSPC, EDQUOT) is taken back and answered with
// spool.ErrFull. So is a new message while less than Options.Reserve is free,
// or with spool.ErrNoInodes or spool.ErrQuota, which are kinds of it, for want
// of Options.ReserveInodes or beyond Options.Quota; updates and removes then
// still succeed, on space that was allocated ahead, and what one unit inserts
// beside them, as long as there is any space at all. These states end by
// themselves. Every other failed write, every failed sync and every failed
// commit of the index is final: spool.ErrFailed, until the spool is opened
// again, which finds out what is really there.
//
// Everything on disk has checksums. What is damaged is set aside, with all that
// surrounds it, reported by Scan, Claim and Open, and never deleted; what is not
// damaged goes on.
//
// # Memory
//
// An entry with a body of its own costs about 100 bytes, however large they are:
// records, with header, metadata and envelope, stay in the log and are read when
// the entry is claimed. A queue whose entries are of many ages costs up to 6 KiB
// more. The index file is mapped into memory; its resident pages belong to the
// page cache and are not heap.
//
// # Files
//
//	LOCK         flock'ed while the spool is open; holds the process ID as text
//	FORMAT       "deferredqueue spool, format 2, id ...\n"; written last when a spool is made
//	index.db     the checkpoint: where entries and bodies are
//	running      which handlers run, and up to where the log is durable; never synced
//	seg/N.seg    segments of the log, N being 16 hexadecimal digits
//	seg/spare-N  files to become segments
//	big/xx/ID    one large body; xx are the last two digits of ID
//	big/stage-ID the same before its Commit; deleted at open
//
// docs/SPOOL.md has the format, how a spool recovers, how formats change, and
// the measurements behind it.
package boltspool
