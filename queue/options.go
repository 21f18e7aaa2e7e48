package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/deferredqueue/deferredqueue/spool"
)

// Deferred is the name of the queue whose handler is the inject callback and
// whose success rebinds. It is KumoMTA's name for it.
const Deferred = "deferred_smtp_inject.kumomta.internal"

// A Handler works on one message. nil means success; every other result leaves
// the message as it was received, and the verdicts ([Reject], [RetryAfter],
// [Hold], [Drop], [Split], [FromSMTP]) say what becomes of it. An error that is
// none of these is a transient failure.
//
// ctx is cancelled at the deadline ([Config.Timeout]), when the host stops and
// when the spool fails. What a handler returns after that is ignored: its
// message is not moved on. Handlers run concurrently with one another, never
// two for the same message.
type Handler func(ctx context.Context, m *Message) error

// Options configure a Scheduler. The zero value, and a nil *Options, are ready
// to use.
type Options struct {
	// Record takes the record of what happened to a message. It is called
	// concurrently for different messages and in order for one message, and must
	// not retain or change r or anything in it. An error means that the record was not
	// taken: Record is called again with the same record, after a growing delay
	// of up to a minute, and a message whose end it reports stays stored until it is
	// taken. While Record fails or blocks, no further messages are worked on, and
	// listeners answer 4xx once the buffer for records is full. A panic is an error. It
	// must return, and not end its goroutine as [testing.T.FailNow] does.
	// Defaults to one Logger line per record, which counts as taken.
	Record func(ctx context.Context, r Record) error

	// RecordBuffer is how many records of all types may wait to be taken before
	// listeners answer 4xx. At most half of them may be Rejection records; further
	// ones are counted in Stats and dropped.
	// Defaults to 16,384.
	RecordBuffer int

	// RecordHeaders are the names of header fields that records carry in
	// [Record.Headers], in whatever case; one that ends in * stands for all names that
	// begin so. Of several fields of one name it is the first. They are read from the
	// message for each record, which costs an access to the spool.
	// Defaults to none.
	RecordHeaders []string

	// Configure says how the queue of that name is run; zero fields take the
	// defaults. It is called when a queue is first used, again when it was idle
	// meanwhile, and by [Scheduler.Reconfigure]; concurrently, and it must not
	// block or call the Scheduler. If it panics, the queue is run with the defaults.
	// Defaults to the defaults of Config for every queue.
	Configure func(queue string) Config

	// Notices has senders told of messages that fail or are delayed, by delivery status
	// notifications.
	// Defaults to none: nobody is told.
	Notices *NoticeOptions

	// Arriving is called before the messages of a Transaction are stored, whoever
	// brings them, and may add to their metadata ([Arrival.SetMeta]): what is to be with
	// a message from the beginning, such as the context of a trace. What it returns, if
	// not nil, is called once the sender has its answer: with the time at which the
	// messages were accepted, or why they were not. The class of a message is settled
	// before. Both functions are called concurrently for different Transactions and must not
	// block: clients wait for the first, and their next command for the second. A panic is
	// logged, and changes nothing.
	// Defaults to none.
	Arriving func(ctx context.Context, a *Arrival) (arrived func(at time.Time, err error))

	// NodeID is the nodeid of records: what tells the records of several hosts apart.
	// Defaults to a UUID derived from the name of the host.
	NodeID string

	// MemoryLimit bounds the bytes of all entries that the Scheduler keeps in
	// memory, waiting or running. Bodies are not part of it: they are read from the spool.
	// Defaults to 64 MiB.
	MemoryLimit int64

	// Logger takes what an operator should know.
	// Defaults to slog.Default().
	Logger *slog.Logger

	// StopTimeout is how long Run takes to stop at the most. Running handlers
	// have half of it to finish undisturbed; then their contexts are cancelled.
	// Defaults to 10 s.
	StopTimeout time.Duration
}

// A Config says how one queue is run.
type Config struct {
	// Backoff says when a message that failed is tried again.
	// Defaults, field by field, to Base 1 m in the deferred queue and 20 m in
	// others, Factor 2, Jitter 0.05, no Max.
	Backoff Backoff

	// MaxAge is the longest life of a message, counted from its reception. It is
	// judged only after a failed attempt; the last attempt falls at its end. A
	// negative value means none.
	// Defaults to 7 days.
	MaxAge time.Duration

	// Timeout is a handler's deadline. A negative value means none.
	// Defaults to 5 m.
	Timeout time.Duration

	// MaxAttempts ends a message that failed so often with an Expiration. A
	// negative value means no limit.
	// Defaults to no limit.
	MaxAttempts int

	// Concurrency is how many handlers of this queue run at once.
	// Defaults to 64 in the deferred queue and 32 in others.
	Concurrency int

	// MaxReady is how many due messages of this queue are kept in memory,
	// waiting for a handler; the others wait in the spool. One class uses all of it
	// only while no other wants its share.
	// Defaults to 10,000 in the deferred queue and 1,024 in others.
	MaxReady int

	// Rate bounds how many handlers of this queue are started in how long, in this
	// process. What waits for it delays no other queue. A queue starts with a full Burst.
	// Defaults to none.
	Rate Rate

	// Weights are the shares of the classes ([spool.Entry.Class]) in this queue: as
	// long as several have messages waiting, one of weight 2 has two handlers
	// started where one of weight 1 has one, and twice as much of MaxReady. The map
	// must not be changed afterwards.
	// Defaults to 1 for each class; what is less than that is 1.
	Weights map[string]int
}

const (
	mostReady      = 1 << 30 // so that shares and doubled limits do not overflow
	defaultMaxAge  = 7 * 24 * time.Hour
	defaultTimeout = 5 * time.Minute
)

// withDefaults returns c with its zero fields filled for that queue, and with
// its negative fields turned into zero, which from there on means none.
func (c Config) withDefaults(queue string) Config {
	base, concurrency, ready := 20*time.Minute, 32, 1024
	if queue == Deferred {
		base, concurrency, ready = time.Minute, 64, 10000
	}
	c.Backoff.Base = orDefault(c.Backoff.Base, base)
	c.Backoff.Max = max(c.Backoff.Max, 0)
	c.Backoff.Factor = orDefault(c.Backoff.Factor, 2)
	c.Backoff.Jitter = orDefault(c.Backoff.Jitter, 0.05)
	c.MaxAge = orDefault(c.MaxAge, defaultMaxAge)
	c.Timeout = orDefault(c.Timeout, defaultTimeout)
	c.MaxAttempts = max(c.MaxAttempts, 0)
	if c.Concurrency <= 0 {
		c.Concurrency = concurrency
	}
	if c.MaxReady <= 0 {
		c.MaxReady = ready
	}
	c.Concurrency, c.MaxReady = min(c.Concurrency, mostReady), min(c.MaxReady, mostReady)
	c.MaxReady = max(c.MaxReady, c.Concurrency)
	c.Rate = c.Rate.withDefaults()
	return c
}

// orDefault reads an option: zero means def, negative means none.
func orDefault[T ~int64 | ~float64 | ~int](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.RecordBuffer < 0 || opts.MemoryLimit < 0 || opts.StopTimeout < 0 {
		return opts, errors.New("queue: Options: RecordBuffer, MemoryLimit and StopTimeout must not be negative")
	}
	notices, err := opts.Notices.withDefaults()
	if err != nil {
		return opts, err
	}
	opts.Notices = notices
	opts.RecordBuffer = orDefault(opts.RecordBuffer, 16384)
	opts.MemoryLimit = orDefault(opts.MemoryLimit, 64<<20)
	opts.StopTimeout = orDefault(opts.StopTimeout, 10*time.Second)
	if opts.Configure == nil {
		opts.Configure = func(string) Config { return Config{} }
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	opts.Configure = containConfigure(opts.Configure, opts.Logger)
	if opts.NodeID == "" {
		opts.NodeID = defaultNodeID()
	}
	if opts.Record == nil {
		logger := opts.Logger
		opts.Record = func(ctx context.Context, r Record) error {
			logRecord(ctx, logger, r)
			return nil
		}
	}
	return opts, nil
}

// containConfigure keeps a panic of configure from its callers, which hold locks.
func containConfigure(configure func(string) Config, logger *slog.Logger) func(string) Config {
	return func(queue string) (c Config) {
		defer func() {
			if p := recover(); p != nil {
				logger.Error("queue: Options.Configure panicked; the queue is run with the defaults", "queue", queue, "panic", fmt.Sprint(p))
				c = Config{}
			}
		}()
		return configure(queue)
	}
}

// defaultNodeID makes a UUID (version 8, RFC 9562, section 5.8) of the host's name.
func defaultNodeID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	sum := sha256.Sum256([]byte("deferredqueue node " + host))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// entrySize is about what an entry costs in memory.
func entrySize(e *spool.Entry) int64 {
	n := 512 + len(e.Header) + len(e.LastError) + len(e.Outcome) + len(e.Queue) + len(e.Class) + len(e.Envelope.Sender)
	for k, v := range e.Meta {
		n += len(k) + len(v) + 48
	}
	for _, r := range e.Envelope.Recipients {
		n += len(r.Address) + len(r.ORcpt) + 64
	}
	return int64(n)
}
