// Package recordlog keeps the records of a Scheduler in files: JSON lines in
// KumoMTA's shape, compressed with zstd, in segments of bounded size and time.
//
//	log, err := recordlog.Open("records", nil)
//	...
//	sched, err := queue.NewScheduler(sp, inject, &queue.Options{Record: log.Record})
//	...
//	err = log.Close() // after Scheduler.Run has returned
//
// # Files
//
// A segment is named by the time, in UTC, at which it was begun, so that names sort
// by age: 20300102T030405.000000001Z.jsonl.zst. It can be read by zstd -dc, which while it
// is written ends with "premature end" and status 1 after all that is there. Types of
// records may have segments of their own ([Options.PerType]), with a suffix in the name.
//
// A segment that is finished is read-only, and may be moved or deleted at any time: nobody
// needs it any more. Readers pass over what is gone. Names never go back, so that a
// [Cursor] in a segment that is gone goes on behind it; the file LOCK has the last ones,
// and must stay.
//
// # Durability
//
// The records of a message's end (Delivery, Bounce, Expiration, AdminBounce) are taken
// only when they are on disk: many that come at the same time share one sync. The
// others are taken at once and are on disk within [Options.FlushInterval]; the death
// of the process may cost those, and only those.
//
// When a write or a sync fails, Record answers the error until one succeeds, in a
// segment of its own; other suffixes go on. Nothing that was taken is lost, and what the
// failure has left is cut off, but whoever follows may have read it: then some records
// come twice. A record is the same as another one if ID, type and time are. The scheduler
// calls again, and listeners answer 4xx once its buffer of records is full. The reply
// to a client never waits for the log.
//
// # After a crash
//
// The segment that was being written stays as it is, and may end in the middle of a
// line: readers take what comes before it. The next Open makes it read-only. A directory
// belongs to one Log; any number of readers may look at it.
//
// # Reading
//
// [Read] yields what is there, [Follow] also what is written from then on. The command
// recordctl does the same: go run ./queue/recordlog/recordctl help.
package recordlog
