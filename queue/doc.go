// Package queue takes messages from their acceptance to the end of their
// lives. A [Scheduler] works on a spool: it runs the host's inject callback on
// each message in the queue [Deferred], tries again with exponential backoff
// when that fails, and on success rebinds the message to the queue that its
// metadata names, where a handler named by [Scheduler.Handle] takes over.
//
// # Usage
//
//	sched, err := queue.NewScheduler(sp, inject, nil)
//	err = sched.Handle("*", relay)
//	err = sched.Run(ctx)
//
// Messages come in by a listener (package smtpserver), or by [Scheduler.Submit].
//
// # What a handler may rely on
//
// A handler works on a copy. Its changes become durable together with its
// success, and vanish with every other end of the attempt: an error, a panic,
// the deadline, the stop of the host, a crash. Only a handler that returned nil
// in time moves its message on. Execution is at least once: a crash between nil
// and its commit repeats the call, and Message.ID is the key for idempotence.
//
// # Verdicts
//
// nil is success. [Reject] with a 5xx code ends the message with a Bounce,
// [Drop] without one; [Hold] keeps it for an operator; [RetryAfter] says when to
// try again; [Split] says something of its own of each recipient. Every other
// error, whatever it is, is temporary: a peer's 5xx reply becomes permanent only
// by [FromSMTP].
//
// # Operators
//
// [Scheduler.Admin] is what operators do: list, inspect and open messages, retry,
// hold, release, bounce, drop and rebind them by a [Filter], and suspend queues. A
// suspension is kept in the spool, in an entry of the queue [Suspensions].
//
// # Messages in memory
//
// Messages are durable before they are accepted, unless the host accepts them by
// [Transaction.Keep]: such a message is stored only once it must be, and a crash
// before that loses it.
//
// # Concurrency
//
// One goroutine, the caller of Run, owns the schedule; handlers run on
// goroutines that are reused, at most [Config.Concurrency] for each queue. Memory is
// bounded by [Config.MaxReady] and [Options.MemoryLimit], not by what is queued.
package queue
