// Package boltspool is the embedded spool on disk: entries in a bbolt index,
// bodies in append-only segment files, one committer that makes what many
// clients ask for durable together.
//
// # Usage
//
//	sp, err := boltspool.Open("/var/spool/myhost", nil)
//	defer sp.Close()
//
// What a [Spool] promises is the contract of package spool. One process has the
// directory open at a time; copy it only while it is closed.
//
// # Durability
//
// Commit and Apply answer nil after the bodies and then the index transaction
// were synced, with every directory entry on which they depend. Requests that
// arrive together share these syncs: when several clients are in flight, the
// committer waits for them for a quarter of what a commit takes, and at most
// 2 ms; a single client never waits.
//
// A write that finds no space (ENOSPC, EDQUOT) is taken back and answered with
// spool.ErrFull. So is a new message while less than Options.Reserve is free,
// or with spool.ErrNoInodes or spool.ErrQuota, which are kinds of it, for want
// of Options.ReserveInodes or beyond Options.Quota; updates and removes then
// still succeed, on space that was allocated ahead, and what one unit inserts
// beside them, as long as there is any space at all. These states end by
// themselves. Every other failed write, every failed sync and
// every failed commit of the index is final: spool.ErrFailed, until the spool is
// opened again, which finds out what is really there.
//
// # Memory
//
// An entry costs about 100 bytes however large it is: its record, with header,
// metadata and envelope, stays in the index file and is read when the entry is
// claimed. A queue whose entries are of many ages costs up to 6 KiB more. A body
// costs nothing. The index file is mapped into memory; its
// resident pages belong to the page cache and are not heap.
//
// # Files
//
// Integers are little-endian, checksums CRC32C (Castagnoli). A later format has
// a higher number in FORMAT.
//
//	LOCK         flock'ed while the spool is open; holds the process ID as text
//	FORMAT       "deferredqueue spool, format 1\n"; written last when a spool is made
//	index.db     bbolt, see below
//	running      16 bytes naming this opening, then 16 bytes per place: the ID of
//	             an entry whose handler may run, or zeros; never synced
//	seg/N.seg    segments, N being the generation in 16 hexadecimal digits
//	big/xx/ID    one body that did not fit in memory; xx are the last two digits of ID
//	big/stage-ID the same before its Commit; deleted at open
//
// A segment begins with 24 bytes: "DQSEG", 0, 0, 1; generation (8); zero (4);
// checksum of the 20 bytes before (4). Frames follow without gaps:
//
//	 0  "DQFR"
//	 4  type: 1 a body, 2 an entry (reserved for a later format); 3 zero bytes
//	 8  generation of the segment
//	16  length of the payload
//	24  ID
//	40  checksum of the payload
//	44  checksum of generation, offset of the frame (8 bytes each) and bytes 0 to 43
//	48  the payload
//
// The checksum of the header depends on generation and offset, so that what an
// earlier use of the file or the blocks left behind never passes for a frame.
// Bytes behind the last frame that the index knows were never acknowledged, and
// are cut off at open. A segment is deleted when the index refers to nothing in
// it.
//
// A big file begins with the body itself. The checksums of its blocks of 64 KiB
// follow (4 bytes each), then "DQBIGTB", 1, the size of the body (8) and the
// checksum of these checksums (4), which stands in the index too.
//
// The index has three buckets. In "meta" are "format" (one byte, 1) and "marks",
// the opening whose interruptions were counted last. In "bodies", by ID, are 42
// bytes: version 1; kind (1 in a segment, 2 in a file); number of entries that
// refer to it (4); size (8); generation of the segment (8); offset of the frame
// (8); checksum of the body, or of its block checksums (4); zero (4); checksum of
// the ID and the bytes before (4).
//
// In "entries", by ID, are version 1; state; flags (1 SMTPUTF8, 2 REQUIRETLS);
// zero; revision (8); size (8); due and received (12 each: seconds since 1970,
// nanoseconds); body (16); skip (8); length of the header (4). Then, with lengths
// as varints, and those of what may be absent one higher than they are: queue;
// class; expires (12); attempts and interrupted (signed varints); sender; BODY;
// RET; ENVID; recipients, each of address, ORCPT and NOTIFY words; metadata;
// header; last error; outcome. The last 4 bytes are the checksum of the ID and
// everything before.
package boltspool
